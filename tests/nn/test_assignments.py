"""Vectors added up by entry, whichever form does it."""

import numpy as np
import pytest

from musiclm_jax.nn import assignments
from musiclm_jax.nn.kernels import dispatch

_IDS = np.array([[0, 2, 2], [1, 1, 1]])
_VECTORS = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
                     [[0.5, 0.0], [0.25, 1.0], [0.25, 1.0]]], np.float32)


@pytest.mark.parametrize('choice', dispatch.CHOICES)
def test_each_entry_has_the_sum_of_its_vectors(choice):
  with dispatch.using(choice):
    counts, sums = assignments.sums_by_entry(_IDS, _VECTORS, 4)
  np.testing.assert_array_equal(counts, [[1, 0, 2, 0], [0, 3, 0, 0]])
  np.testing.assert_array_equal(sums, [
      [[1, 2], [0, 0], [8, 10], [0, 0]], [[0, 0], [1, 2], [0, 0], [0, 0]]])
