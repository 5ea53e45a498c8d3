"""Ratings' statistics: by hand, by counting everything out, and against SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from musiclm_jax.metrics import ratings

# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": 4 observers,
# 12 units, with gaps; his alpha for ordered values is 0.815.
_OBSERVERS = ['1 2 3 3 2 1 4 1 2 . . .', '1 2 3 3 2 2 4 1 2 5 . 3',
              '. 3 3 3 2 3 4 2 2 5 1 .', '1 2 3 3 2 4 4 1 2 5 1 .']


def test_signed_rank_by_hand():
  """The docstring's: 4 of 32 ways are as far out on this side."""
  found = ratings.signed_rank([-1, 2, 2, -1, 2, 0])
  assert (found.above, found.below, found.count) == (12.0, 3.0, 5)
  assert found.statistic == 3.0
  assert found.p == 2 * 4 / 32


def test_counted_p_is_that_of_all_signs():
  rng = np.random.default_rng(0)
  for _ in range(5):
    scores = rng.integers(-2, 3, 12)
    ranks = stats.rankdata(np.abs(scores[scores != 0]))
    found = ratings.signed_rank(scores)
    sums = [np.dot(signs, ranks)
            for signs in itertools.product((0, 1), repeat=len(ranks))]
    out = np.mean(np.asarray(sums) <= found.statistic + 1e-9)
    assert found.p == pytest.approx(min(1.0, 2 * out))


def test_without_ties_it_is_scipys_exact_test():
  scores = np.random.default_rng(1).normal(0.4, 1.0, 25)
  theirs = stats.wilcoxon(scores, method='exact')
  found = ratings.signed_rank(scores)
  assert found.statistic == theirs.statistic
  assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize('shift', [0.0, 0.2, 0.6])
def test_of_many_it_is_scipys_normal_test(shift):
  rng = np.random.default_rng(2)
  scores = np.clip(np.round(rng.normal(shift, 1.0, 600)), -2, 2)
  theirs = stats.wilcoxon(scores, method='asymptotic', correction=False)
  found = ratings.signed_rank(scores)
  assert found.count > ratings.EXACT
  assert found.statistic == theirs.statistic
  assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)


def test_the_two_ways_meet():
  scores = np.clip(np.round(np.random.default_rng(3).normal(
      0.15, 1.0, 180)), -2, 2)
  counted = ratings.signed_rank(scores)
  normal = ratings.signed_rank(scores, exact=0)
  assert 0.01 < counted.p < 0.5
  assert counted.p == pytest.approx(normal.p, rel=0.05)


def test_no_preference_anywhere_is_no_difference():
  assert ratings.signed_rank([0, 0, 0]).p == 1.0
  assert ratings.signed_rank([]).p == 1.0
  assert ratings.signed_rank([1, -1]).p == 1.0


def test_bonferroni():
  assert ratings.bonferroni(0.01, 6) == pytest.approx(0.06)
  assert ratings.bonferroni(0.4, 6) == 1.0


def test_alpha_of_krippendorffs_own_example():
  rows = [row.split() for row in _OBSERVERS]
  units = [[int(row[i]) for row in rows if row[i] != '.'] for i in range(12)]
  assert ratings.krippendorff(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand():
  """Units (1, 1), (1, 2), (2, 2).

  Coincidences: 11 twice, 12 and 21 once each, 22 twice; n = 6, three of each
  value. With two values all distances are equal, so alpha is
  1 - (n - 1) * 2 / (2 * 3 * 3) = 1 - 10 / 18.
  """
  assert ratings.krippendorff([(1, 1), (1, 2), (2, 2)]) == pytest.approx(8 / 18)


def test_alpha_at_its_ends():
  assert ratings.krippendorff([(1, 1), (2, 2, 2), (-2, -2)]) == 1.0
  assert ratings.krippendorff([(-2, 2), (-2, 2), (2, -2)]) < 0
  rng = np.random.default_rng(0)
  dealt = [tuple(rng.integers(-2, 3, 3)) for _ in range(3_000)]
  assert abs(ratings.krippendorff(dealt)) < 0.03
  # A unit with one rating says nothing.
  assert ratings.krippendorff([(1, 1), (1, 2), (2, 2), (5,)]) == pytest.approx(
      8 / 18)
  assert math.isnan(ratings.krippendorff([(1,), (2,)]))
  assert math.isnan(ratings.krippendorff([(1, 1), (1, 1)]))


def test_near_values_disagree_less():
  near = ratings.krippendorff([(-2, -1), (1, 2), (0, 0), (-2, -2), (2, 2)])
  far = ratings.krippendorff([(-2, 2), (1, -1), (0, 0), (-2, -2), (2, 2)])
  assert near > far
