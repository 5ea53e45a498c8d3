"""Rows in batches of a few fixed sizes: each size of a batch is compiled."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np


def size_for(count: int, sizes: Sequence[int]) -> int:
  """The smallest of the rising `sizes` that holds `count`, or the largest.

  >>> [size_for(n, (1, 4, 8)) for n in (1, 3, 8, 20)]
  [1, 4, 8, 8]
  """
  return next((size for size in sizes if size >= count), sizes[-1])


def batches(count: int,
            sizes: Sequence[int]) -> Iterator[tuple[np.ndarray, int]]:
  """`count` rows, batch by batch.

  Yields:
    (indices [n], of which the first `real` are new; real), n of `sizes`. What
    only fills a batch up is its last row again, which is always a valid input.

  >>> [(rows.tolist(), real) for rows, real in batches(6, (1, 4))]
  [([0, 1, 2, 3], 4), ([4, 5, 5, 5], 2)]
  """
  first = 0
  while first < count:
    size = size_for(count - first, sizes)
    yield (np.minimum(np.arange(first, first + size), count - 1),
           min(size, count - first))
    first += size


def by_batches(function: Callable, arrays: Sequence[np.ndarray],
               sizes: Sequence[int]) -> np.ndarray:
  """`function` of rows that do not depend on each other.

  Args:
    function: ([n, ...] of each of `arrays`) -> [n, ...].
    arrays: as many rows in each, at least one.
    sizes: n, as of `batches`.

  Returns:
    The results of all rows, NumPy.
  """
  return np.concatenate([
      np.asarray(function(*[array[rows] for array in arrays]))[:real]
      for rows, real in batches(len(arrays[0]), sizes)])
