"""KLD beside SciPy's entropy and a hand-worked pair."""

import math

import numpy as np
import pytest
from scipy import special
from scipy import stats

from musiclm_jax.metrics import divergence


def _logits(seed, rows=5, classes=7):
  return 3 * np.random.default_rng(seed).standard_normal((rows, classes))


def test_one_pair_by_hand():
  # Softmax of log 3 and log 1 is 3/4 and 1/4; of equal logits 1/2 and 1/2.
  p, q = np.log([[3.0, 1.0]]), np.zeros((1, 2))
  expected = 0.75 * math.log(0.75 / 0.500001) + (
      0.25 * math.log(0.25 / 0.500001))
  assert divergence.softmax_kl(p, q)[0] == pytest.approx(expected, rel=1e-12)
  # The reverse is another number.
  expected = 0.5 * math.log(0.5 / 0.750001) + 0.5 * math.log(0.5 / 0.250001)
  assert divergence.softmax_kl(q, p)[0] == pytest.approx(expected, rel=1e-12)


def test_softmax_as_scipy_has_it():
  one, other = _logits(0), _logits(1)
  p, q = special.softmax(one, axis=1), special.softmax(other, axis=1) + 1e-6
  # entropy() scales q to a sum of 1, which is 1 + 7e-6 here.
  expected = stats.entropy(p, q, axis=1) - np.log(q.sum(1))
  np.testing.assert_allclose(
      divergence.softmax_kl(one, other), expected, rtol=1e-10)


def test_yes_or_no_as_scipy_has_it():
  one, other = _logits(2), _logits(3)
  p, q = special.expit(one), special.expit(other)
  expected = sum(
      stats.entropy([p[:, k], 1 - p[:, k]], [q[:, k], 1 - q[:, k]])
      for k in range(p.shape[1]))
  np.testing.assert_allclose(
      divergence.bernoulli_kl(one, other), expected, rtol=1e-9)


def test_of_all_has_each_pair():
  one, other = _logits(4, 3), _logits(5, 4)
  found = divergence.softmax_kl_of_all(one, other)
  assert found.shape == (3, 4)
  for i in range(3):
    for j in range(4):
      assert found[i, j] == pytest.approx(
          divergence.softmax_kl(one[i:i + 1], other[j:j + 1])[0])


def test_equal_clips_do_not_diverge_and_sure_ones_stay_finite():
  one = _logits(6)
  np.testing.assert_allclose(divergence.softmax_kl(one, one), 0, atol=1e-5)
  np.testing.assert_allclose(divergence.bernoulli_kl(one, one), 0, atol=1e-12)
  sure, opposite = np.array([[1000.0, 0.0]]), np.array([[0.0, 1000.0]])
  assert divergence.softmax_kl(sure, opposite)[0] == pytest.approx(
      math.log(1e6))
  assert np.isfinite(divergence.bernoulli_kl(sure, opposite))


def test_other_shapes_are_refused():
  with pytest.raises(ValueError, match=r'\(5, 7\) and \(4, 7\)'):
    divergence.softmax_kl(_logits(0), _logits(0, 4))
