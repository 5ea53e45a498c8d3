"""Do texts and clips find each other? Ranks, recall, own against shuffled.

Scores are [n, n]: row i holds a query's similarity to every item, its own at
column i. A tie counts against the query, so that constant embeddings find
nothing.
"""

import numpy as np


def ranks(scores, own=None):
  """[n] how many items score at least as high as the own one; 0 is best.

  Args:
    scores: [n, items].
    own: [n] the column of each query's own item; default the diagonal.
  """
  rows = np.arange(len(scores))
  best = scores[rows, rows if own is None else own]
  return (scores >= best[:, None]).sum(axis=-1) - 1


def recall(scores, k):
  """Share of queries whose own item is among the best k."""
  return float(np.mean(ranks(scores) < k))


def recall_chance(count, k):
  """What guessing would recall among `count` items."""
  return min(k, count) / count


def mean_average_precision(scores):
  """With one right item a query, the mean of 1 / (rank + 1)."""
  return float(np.mean(1.0 / (ranks(scores) + 1.0)))


def average_precision_chance(count):
  """H_n / n, the mean of 1 / rank over n equally likely ranks."""
  return float(np.sum(1.0 / np.arange(1, count + 1)) / count)


def own_and_shuffled(scores):
  """([n] similarity to the own item, [n] mean similarity to all others)."""
  count = len(scores)
  own = np.diagonal(scores)
  return own, (scores.sum(axis=-1) - own) / (count - 1)


def bootstrap_interval(values, seed=0, draws=10_000, share=0.95):
  """(low, high) of the mean of `values` [n], by resampling them."""
  values = np.asarray(values, np.float64)
  rng = np.random.default_rng(seed)
  picks = rng.integers(0, len(values), (draws, len(values)))
  means = values[picks].mean(axis=-1)
  tail = (1 - share) / 2
  return tuple(float(x) for x in np.quantile(means, [tail, 1 - tail]))
