"""How much of a codec's bits carry information: usage and entropy by level.

Bitrate efficiency is a level's entropy over the bits of a code (10 for 1,024
codes): 1 where every code is as frequent as any other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax.metrics import token_baselines
from musiclm_jax.tokens import frequencies

_DRAWS = 400


def usage_and_efficiency(
    codes: np.ndarray, codebook_size: int, levels: Sequence[int],
    seed: int = 0) -> dict[str, Any]:
  """Of the first levels, with 95 % intervals.

  Args:
    codes: [n, T, Q] int, clips of one codec.
    codebook_size: K.
    levels: counts of levels that are wanted as one, such as (1, 3, 6, 12).
    seed: of the resampling.

  Returns:
    dict(usage [Q], efficiency [Q], mean {levels: (value, low, high)}): the mean
    efficiency of the first `levels` levels.
  """
  usage = token_baselines.usage(codes, codebook_size)
  efficiency = token_baselines.entropy(codes, codebook_size) / np.log(
      codebook_size)
  drawn = _resampled(codes, codebook_size, seed)
  mean = {}
  for count in levels:
    value = efficiency[:count].mean()
    values = drawn[:, :count].mean(axis=1)
    # A clip that is drawn twice adds no new codes, so resampling lowers every
    # entropy: only the spread is taken, about the value of all clips.
    low, high = np.quantile(values - values.mean(), [0.025, 0.975])
    mean[count] = (float(value), float(value + low), float(
        min(1.0, value + high)))
  return dict(usage=usage, efficiency=efficiency, mean=mean)


def _resampled(codes, size, seed):
  """[draws, Q] efficiency of clips drawn with replacement."""
  rng = np.random.default_rng(seed)
  count = len(codes)
  weights = rng.multinomial(count, np.full(count, 1 / count), _DRAWS)
  result = []
  for level in range(codes.shape[-1]):
    counts = np.stack([np.bincount(clip[clip >= 0], minlength=size)
                       for clip in codes[..., level]])
    result.append(
        frequencies.entropy_of_counts(weights @ counts) / np.log(size))
  return np.stack(result, axis=1)
