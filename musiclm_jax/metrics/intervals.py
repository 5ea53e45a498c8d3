"""Bootstrap intervals over tracks: clips of one track are drawn together.

Clips cut from one recording are alike, so resampling clips one by one makes
intervals that are too narrow.
"""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DRAWS = 2_000
SHARE = 0.95


def of_mean(
    values: npt.ArrayLike, tracks: Sequence[str], seed: int = 0,
    draws: int = DRAWS, share: float = SHARE) -> tuple[float, float]:
  """(low, high) of the mean of `values`, by resampling tracks.

  Args:
    values: [n].
    tracks: [n] names; equal ones are drawn together.
    seed: of the draws.
    draws: how many.
    share: of them that lie within.
  """
  values = np.asarray(values, np.float64)
  group, drawn = picks(tracks, seed, draws)
  sums, counts = np.bincount(group, values), np.bincount(group)
  return _edges(sums[drawn].sum(1) / counts[drawn].sum(1), share)


def of_each(
    values: npt.ArrayLike, seed: int = 0, draws: int = DRAWS,
    share: float = SHARE) -> tuple[float, float]:
  """(low, high) of the mean of [n] values that have nothing in common."""
  values = np.asarray(values, np.float64)
  drawn = np.random.default_rng(seed).integers(
      0, len(values), (draws, len(values)))
  return _edges(values[drawn].mean(axis=-1), share)


def of_statistic(
    statistic: Callable[[np.ndarray], float], tracks: Sequence[str],
    seed: int = 0, draws: int = 200, share: float = SHARE
) -> tuple[float, float]:
  """(low, high) of any statistic of clips, by resampling tracks.

  Args:
    statistic: [m] indices of clips, some of them several times -> a number.
    tracks: [n] names of the clips' tracks.
    seed: of the draws.
    draws: how many.
    share: of them that lie within.
  """
  group, drawn = picks(tracks, seed, draws)
  members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
  found = [statistic(np.concatenate([members[g] for g in row]))
           for row in drawn]
  return _edges(np.asarray(found, np.float64), share, np.nanquantile)


def _edges(values, share, quantile=np.quantile):
  tail = (1 - share) / 2
  return tuple(float(x) for x in quantile(values, [tail, 1 - tail]))


def picks(tracks: Sequence[str], seed: int = 0, draws: int = DRAWS
          ) -> tuple[np.ndarray, np.ndarray]:
  """Resampled tracks, for statistics that are cheaper by weights.

  Args:
    tracks: [n] names of the clips' tracks.
    seed: of the draws.
    draws: how many.

  Returns:
    ([n] each clip's track as a number of 0..T-1, [draws, T] drawn tracks).
  """
  _, group = np.unique(np.asarray(tracks, str), return_inverse=True)
  number = int(group.max(initial=-1)) + 1
  drawn = np.random.default_rng(seed).integers(
      0, max(number, 1), (draws, number))
  return group, drawn


def around(drawn: npt.ArrayLike, value: float, share: float = SHARE
           ) -> tuple[float, float]:
  """(low, high) around `value`, as the draws lie around their own mean.

  For statistics that resampling itself moves, such as distances between sets.
  """
  drawn = np.asarray(drawn, np.float64)
  return _edges(drawn - drawn.mean() + value, share)
