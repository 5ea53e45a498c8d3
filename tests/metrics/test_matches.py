"""Thresholds, matches and entropies by hand."""

import numpy as np
import pytest
from scipy import stats

from musiclm_jax.metrics import memorization


def test_a_threshold_that_one_in_ten_thousand_passes():
  negatives = np.random.default_rng(0).permutation(np.arange(20_000.0))
  found = memorization.threshold(negatives)
  assert (found.value, found.count, found.passed) == (2.0, 20_000, 2)
  assert found.rate == pytest.approx(1e-4)
  assert found.line() == '2 of 20000 negatives pass (1.0e-04)'


def test_few_negatives_allow_none_and_say_so():
  found = memorization.threshold(np.array([3.0, 1.5, 2.0]))
  assert (found.value, found.passed, found.rate) == (1.5, 0, 0.0)
  assert found.line() == (
      '3 negatives, none passes: they tell rates of 3.3e-01 or more, not 1e-04')
  assert memorization.threshold(np.arange(9_999.0)).value == 0.0
  assert memorization.threshold(np.arange(10_000.0)).value == 1.0


def test_a_rate_of_its_own():
  assert memorization.threshold(np.arange(100.0), rate=0.29).value == 29.0


@pytest.mark.parametrize('negatives', [[], [1.0, np.nan]])
def test_no_threshold_of_nothing(negatives):
  with pytest.raises(ValueError, match='expected one or more, all finite'):
    memorization.threshold(np.array(negatives))


def test_exact_matches():
  target = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
  drawn = np.array([[1, 2, 3], [4, 5, 0], [0, 8, 9]])
  np.testing.assert_array_equal(
      memorization.exact(drawn, target), [True, False, False])
  np.testing.assert_array_equal(
      memorization.equal_at_first(drawn, target), [3, 2, 0])


def test_entropy_is_that_of_scipy():
  tokens = np.random.default_rng(1).integers(0, 9, (5, 125))
  expected = [stats.entropy(np.bincount(row), base=2) for row in tokens]
  np.testing.assert_allclose(memorization.entropy_bits(tokens), expected)


def test_negatives_are_of_other_tracks():
  pairs = memorization.others(['a', 'b', 'a'], 100)
  assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0), (1, 2), (2, 1)]
  few = memorization.others([str(i) for i in range(30)], 50, seed=3)
  assert len({tuple(pair) for pair in few.tolist()}) == 50
  assert (few[:, 0] != few[:, 1]).all()
  assert not len(memorization.others(['a', 'a'], 5))
