"""Both ways of adding vectors up by entry."""

import functools

import numpy as np
import pytest

from musiclm_jax.nn import assignments

_IDS = np.array([[0, 2, 2], [1, 1, 1]])
_VECTORS = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
                     [[0.5, 0.0], [0.25, 1.0], [0.25, 1.0]]], np.float32)


@pytest.mark.parametrize('way', [
    lambda ids, vectors: assignments.sums(ids, vectors, 4),
    functools.partial(assignments._by_adding, 4),  # pylint: disable=protected-access
    functools.partial(assignments._by_product, 4),  # pylint: disable=protected-access
])
def test_each_entry_has_the_sum_of_its_vectors(way):
  counts, sums = way(_IDS, _VECTORS)
  np.testing.assert_array_equal(counts, [[1, 0, 2, 0], [0, 3, 0, 0]])
  np.testing.assert_array_equal(sums, [
      [[1, 2], [0, 0], [8, 10], [0, 0]], [[0, 0], [1, 2], [0, 0], [0, 0]]])
