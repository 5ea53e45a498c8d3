"""Pairwise distances beside SciPy's, and means by hand."""

import numpy as np
import pytest
from scipy.spatial import distance

from musiclm_jax.metrics import diversity

# Clips 0, 2 are of one prompt, 1, 3 of another.
_GROUPS = ['a', 'b', 'a', 'b']
_DISTANCES = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]])


def test_within_and_across_by_hand():
  np.testing.assert_allclose(diversity.within(_DISTANCES, _GROUPS), [2, 5])
  np.testing.assert_allclose(
      diversity.across(_DISTANCES, _GROUPS), [(1 + 3 + 4 + 6) / 4] * 2)


def test_unequal_groups():
  distances = np.arange(9.0).reshape(3, 3)
  distances = distances + distances.T
  np.testing.assert_allclose(
      diversity.across(distances, ['x', 'y', 'y']), [(4 + 8) / 2] * 2)
  with pytest.raises(ValueError, match='group x has one clip'):
    diversity.within(distances, ['x', 'y', 'y'])
  with pytest.raises(ValueError, match='1 groups; expected two'):
    diversity.across(distances, ['y', 'y', 'y'])


def test_distances_are_those_of_scipy():
  x = np.random.default_rng(0).standard_normal((6, 5))
  np.testing.assert_allclose(
      diversity.cosine_distances(x), distance.cdist(x, x, 'cosine'), atol=1e-9)
  np.testing.assert_allclose(
      diversity.mean_distances(x), distance.cdist(x, x, 'cityblock') / 5,
      rtol=1e-5)
