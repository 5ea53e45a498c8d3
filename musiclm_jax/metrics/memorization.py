"""Are continuations those of the training set? Figures on arrays of tokens.

MusicLM, section 5 ("Memorization analysis") after Carlini et al. (2022): a
continuation matches exactly where all its tokens are the true ones, and
approximately where turning its tokens into the true ones costs less than a
threshold (metrics/transport.py). The paper's threshold, 0.85, hangs on the
scale of its centroids; here as there it is set so that continuations of other
examples pass it at a rate of 1e-4.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

FALSE_POSITIVE_RATE = 1e-4  # paper: below 0.01 %


@dataclasses.dataclass(frozen=True)
class Threshold:
  """Below which cost two sequences match.

  Attributes:
    value: the cost; what is below it matches.
    count: negatives that it was set from.
    passed: of them that are below it.
  """

  value: float
  count: int
  passed: int

  @property
  def rate(self) -> float:
    """Share of the negatives that are below the threshold."""
    return self.passed / self.count

  @property
  def shown_rate(self) -> float:
    """The least rate that so many negatives can tell from none."""
    return 1.0 / self.count

  def line(self) -> str:
    """What the count of negatives allows to say."""
    if self.shown_rate > FALSE_POSITIVE_RATE:
      return (f'{self.count} negatives, none passes: they tell rates of '
              f'{self.shown_rate:.1e} or more, not {FALSE_POSITIVE_RATE:.0e}')
    return f'{self.passed} of {self.count} negatives pass ({self.rate:.1e})'


def threshold(
    negatives: np.ndarray, rate: float = FALSE_POSITIVE_RATE) -> Threshold:
  """The largest threshold that at most a share `rate` of the negatives passes.

  Of fewer than 1 / rate negatives none may pass: it is the least of them.

  Args:
    negatives: [n] costs of pairs that do not belong together.
    rate: of them that may be below it.
  """
  negatives = np.sort(np.asarray(negatives, np.float64))
  if not len(negatives) or not np.all(np.isfinite(negatives)):
    raise ValueError(
        f'{len(negatives)} negatives; expected one or more, all finite.')
  # A share of 1e-4 of 20,000 is 2, whatever floats make of it.
  value = float(negatives[min(
      int(rate * len(negatives) + 1e-9), len(negatives) - 1)])
  return Threshold(value, len(negatives), int((negatives < value).sum()))


def exact(generated: np.ndarray, target: np.ndarray) -> np.ndarray:
  """[n] bool: rows of [n, T] that are equal throughout."""
  return np.all(np.asarray(generated) == np.asarray(target), axis=-1)


def equal_at_first(generated: np.ndarray, target: np.ndarray) -> np.ndarray:
  """[n] tokens before the first that differs, T where none does."""
  same = np.asarray(generated) == np.asarray(target)
  return np.cumprod(same, axis=-1).sum(-1)


def entropy_bits(tokens: np.ndarray) -> np.ndarray:
  """[n, T] -> [n] entropy of each row's own frequencies, in bits.

  >>> entropy_bits(np.array([[3, 3, 3, 3], [1, 2, 1, 2]])).tolist()
  [0.0, 1.0]
  """
  found = []
  for row in np.asarray(tokens):
    shares = np.unique(row, return_counts=True)[1] / len(row)
    found.append(-(shares * np.log2(shares)).sum())
  return np.array(found) + 0.0  # no -0


def others(tracks: Sequence[str], most: int, seed: int = 0) -> np.ndarray:
  """[m, 2] pairs (continuation, another's target), never of one track.

  All that there are, or `most` of them drawn without return.

  Args:
    tracks: [n] names; what has one name may well be alike.
    most: pairs.
    seed: of the draw.
  """
  names = np.asarray(tracks, str)
  pairs = np.argwhere(names[:, None] != names)
  if len(pairs) > most:
    chosen = np.random.default_rng(seed).choice(
        len(pairs), most, replace=False)
    pairs = pairs[np.sort(chosen)]
  return pairs
