"""Costs of transport beside SciPy's linear programme, and by hand."""

import numpy as np
import pytest
from scipy import optimize
from scipy import sparse
from scipy.spatial import distance

from musiclm_jax.metrics import transport

_SIZE, _TOKENS = 300, 125


def _least(one, other, ground):
  """The cost that SciPy's linear programme finds."""
  rows, columns = np.flatnonzero(one), np.flatnonzero(other)
  n, m = len(rows), len(columns)
  marginals = sparse.vstack([
      sparse.kron(sparse.eye(n), np.ones((1, m))),
      sparse.kron(np.ones((1, n)), sparse.eye(m))]).tocsr()
  found = optimize.linprog(
      ground[np.ix_(rows, columns)].ravel().astype(float), A_eq=marginals,
      b_eq=np.concatenate([one[rows], other[columns]]), method='highs')
  assert found.status == 0
  return found.fun


def _ground(seed=0, size=_SIZE):
  return transport.distances(
      np.random.default_rng(seed).standard_normal((size, 8)))


def _pairs():
  """Tokens of several kinds: [n, T], [n, T]."""
  rng = np.random.default_rng(1)
  one, other = [], []
  for codes, changed in ((_SIZE, 1.0), (_SIZE, 0.1), (110, 1.0), (40, 0.3),
                         (5, 1.0)):
    row = rng.integers(0, codes, _TOKENS)
    one.append(row)
    other.append(np.where(rng.random(_TOKENS) < changed,
                          rng.integers(0, codes, _TOKENS), row))
  return np.stack(one), np.stack(other)


def test_within_a_hundredth_of_the_linear_programme():
  ground, (one, other) = _ground(), _pairs()
  one, other = (transport.shares(x, _SIZE) for x in (one, other))
  used = np.maximum((one > 0).sum(1), (other > 0).sum(1))
  assert {transport.bins_for(int(n)) for n in used} == {64, 96, 128}
  found = transport.between(one, other, ground)
  least = np.array([_least(a, b, ground) for a, b in zip(one, other)])
  assert (found.cost >= least * (1 - 1e-4)).all()
  assert (found.cost <= least * 1.01).all()
  assert (found.error < 1e-3).all()
  medians = [np.median(ground[np.ix_(a > 0, b > 0)])
             for a, b in zip(one, other)]
  np.testing.assert_allclose(found.epsilon, 0.01 * np.array(medians), rtol=1e-5)


def test_by_hand():
  """A quarter of the mass moves by 3, or stays where it is."""
  ground = np.array([[0, 3, 5], [3, 0, 4], [5, 4, 0]], np.float32)
  one = np.array([[0.5, 0.5, 0], [0.25, 0, 0.75], [1, 0, 0]])
  other = np.array([[0.25, 0.75, 0], [0.25, 0, 0.75], [0, 0, 1]])
  found = transport.between(one, other, ground)
  np.testing.assert_allclose(found.cost, [0.75, 0, 5], atol=1e-4)


def test_order_does_not_matter_and_the_batch_neither():
  ground, (one, other) = _ground(), _pairs()
  shuffled = np.random.default_rng(2).permuted(one, axis=1)
  one, other, shuffled = (
      transport.shares(x, _SIZE) for x in (one, other, shuffled))
  assert transport.between(one, shuffled, ground).cost.max() < 1e-3
  together = transport.between(one, other, ground).cost
  back = transport.between(other, one, ground).cost
  np.testing.assert_allclose(together, back, rtol=2e-3)
  np.testing.assert_allclose(
      transport.between(one[1:2], other[1:2], ground).cost, together[1:2],
      rtol=1e-3)


def test_more_bins_than_a_bucket_has():
  rng = np.random.default_rng(3)
  one, other = rng.integers(0, _SIZE, (2, 1, 260))
  assert len(np.unique(one)) > 128
  shares = [transport.shares(x, _SIZE) for x in (one, other)]
  ground = _ground()
  np.testing.assert_allclose(
      transport.between(*shares, ground).cost,
      _least(shares[0][0], shares[1][0], ground), rtol=0.01)


def test_a_codebook_smaller_than_a_bucket():
  one, other = np.eye(4)[[0, 1]], np.eye(4)[[3, 1]]
  ground = transport.distances(np.arange(4.0)[:, None])
  np.testing.assert_allclose(
      transport.between(one, other, ground).cost, [3, 0], atol=1e-5)


def test_distances_are_those_of_scipy():
  points = np.random.default_rng(4).standard_normal((20, 5))
  np.testing.assert_allclose(
      transport.distances(points), distance.cdist(points, points), atol=1e-6)


def test_shares():
  np.testing.assert_allclose(
      transport.shares(np.array([[0, 0, 2, 0], [1, 1, 1, 1]]), 3),
      [[0.75, 0, 0.25], [0, 1, 0]])
  with pytest.raises(ValueError, match='tokens span 0..3; expected 0..2'):
    transport.shares(np.array([[0, 3]]), 3)
  with pytest.raises(ValueError, match='shape'):
    transport.shares(np.zeros((2, 0), int), 3)


def test_what_does_not_belong_together():
  ground = _ground(size=4)
  with pytest.raises(ValueError, match='expected .n, K., .n, K. and .K, K.'):
    transport.between(np.eye(3), np.eye(3), ground)
  with pytest.raises(ValueError, match='do not sum to 1'):
    transport.between(2 * np.eye(4), np.eye(4), ground)


@pytest.mark.parametrize('used, bins', [
    (1, 64), (64, 64), (65, 96), (96, 96), (125, 128), (129, 256)])
def test_buckets(used, bins):
  assert transport.bins_for(used) == bins
