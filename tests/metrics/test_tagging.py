"""The area under the ROC curve, by hand and as a share of pairs."""

import itertools

import numpy as np
import pytest

from musiclm_jax.metrics import tagging


def test_by_hand():
  # Of six pairs: 3 beats 1 and 2, 2 beats 1 and ties, 0 beats none.
  scores, has = [3, 2, 0, 1, 2], [True, True, True, False, False]
  assert tagging.roc_auc(scores, has) == pytest.approx((2 + 1.5 + 0) / 6)


def test_ends_and_middle():
  has = np.arange(6) < 2
  assert tagging.roc_auc(-np.arange(6.0), has) == 1.0
  assert tagging.roc_auc(np.arange(6.0), has) == 0.0
  assert tagging.roc_auc(np.ones(6), has) == 0.5


def test_equals_the_share_of_pairs_in_order():
  rng = np.random.default_rng(0)
  scores, has = rng.integers(0, 9, 40), rng.random(40) < 0.3
  pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(
      scores[has], scores[~has])]
  assert tagging.roc_auc(scores, has) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize('has', [[True] * 3, [False] * 3])
def test_one_kind_alone_has_no_area(has):
  with pytest.raises(ValueError, match='expected some, and not all'):
    tagging.roc_auc([1, 2, 3], has)
