"""What belongs together, where pairs that do are known."""

from collections.abc import Sequence

import numpy as np


def components(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
  """The component of each of `count` things, numbered as they first occur.

  >>> components(5, [(0, 3), (4, 3)])
  [0, 1, 2, 0, 0]
  """
  from scipy import sparse  # pylint: disable=g-import-not-at-top
  from scipy.sparse import csgraph  # pylint: disable=g-import-not-at-top
  rows, columns = np.reshape(np.array(pairs, np.int64), (-1, 2)).T
  joined = sparse.coo_matrix(
      (np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
  found = csgraph.connected_components(joined, directed=False)[1]
  numbers = {}
  return [numbers.setdefault(int(one), len(numbers)) for one in found]
