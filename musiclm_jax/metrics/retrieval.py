"""Do texts and clips find each other? Ranks, recall, own against shuffled.

Scores are [n, items]: row i holds a query's similarity to every item; its own
is at column i, unless it is said which are right. A tie with a wrong item counts
against the query, so that constant embeddings find nothing.
"""

import numpy as np
import numpy.typing as npt

from musiclm_jax.metrics import intervals


def ranks(scores: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
  """[n] how many items score at least as high as the own one; 0 is best.

  Args:
    scores: [n, items].
    own: [n] the column of each query's own item; default the diagonal.
  """
  rows = np.arange(len(scores))
  best = scores[rows, rows if own is None else own]
  return (scores >= best[:, None]).sum(axis=-1) - 1


def best_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
  """[n] how many wrong items score at least as high as the best right one.

  Args:
    scores: [n, items].
    right: [n, items] bool, at least one in a row.
  """
  best = np.where(right, scores, -np.inf).max(axis=-1)
  return ((scores >= best[:, None]) & ~right).sum(axis=-1)


def recall(
    scores: np.ndarray, k: int, right: np.ndarray | None = None) -> float:
  """Share of queries of which a right item is among the best k.

  Args:
    scores: [n, items].
    k: how many items are looked at.
    right: [n, items] bool; default the diagonal.
  """
  found = ranks(scores) if right is None else best_ranks(scores, right)
  return float(np.mean(found < k))


def recall_chance(count: int, k: int, right: npt.ArrayLike = 1) -> float:
  """What guessing would recall among `count` items.

  Args:
    count: number of items.
    k: how many items are looked at.
    right: how many of them are right: int, or [n] of which the mean is taken.
  """
  drawn = np.arange(min(k, count))
  wrong = count - np.atleast_1d(right)[:, None]
  miss = np.maximum(wrong - drawn, 0) / (count - drawn)
  return float(np.mean(1.0 - miss.prod(axis=-1)))


def mean_average_precision(
    scores: np.ndarray, right: np.ndarray | None = None) -> float:
  """Mean over the queries of their average precision.

  With one right item that is 1 / (rank + 1). With several, the mean over them
  of the share of right items among those that rank no lower.

  Args:
    scores: [n, items].
    right: [n, items] bool; default the diagonal.
  """
  if right is None:
    return float(np.mean(1.0 / (ranks(scores) + 1.0)))
  return float(np.mean([
      _average_precision(row, mine) for row, mine in zip(scores, right)]))


def _average_precision(scores, right):
  own = np.sort(scores[right])[::-1]
  above = (scores[~right] >= own[:, None]).sum(axis=-1)  # wrong ones
  place = np.arange(1, len(own) + 1)
  return np.mean(place / (place + above))


def average_precision_chance(count: int, right: npt.ArrayLike = 1) -> float:
  """The expected average precision of a random order of `count` items.

  H_n / n for one right item: the mean of 1 / rank over equally likely ranks.
  With r right ones the items before a right one are right in r - 1 cases of
  n - 1, so it is [H_n + (n - H_n) (r - 1) / (n - 1)] / n.

  Args:
    count: number of items n.
    right: r: int, or [n] of which the mean is taken.
  """
  harmonic = np.sum(1.0 / np.arange(1, count + 1))
  others = (np.mean(right) - 1) / max(1, count - 1)
  return float((harmonic + (count - harmonic) * others) / count)


def own_and_shuffled(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """([n] similarity to the own item, [n] mean similarity to all others)."""
  count = len(scores)
  own = np.diagonal(scores)
  return own, (scores.sum(axis=-1) - own) / (count - 1)


def bootstrap_interval(
    values: npt.ArrayLike, seed: int = 0, draws: int = 10_000,
    share: float = 0.95) -> tuple[float, float]:
  """(low, high) of the mean of `values` [n], by resampling them."""
  return intervals.of_each(values, seed, draws, share)
