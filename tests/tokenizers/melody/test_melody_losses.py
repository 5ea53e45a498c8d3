"""Semi-hard triplets against a double loop and hand values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.tokenizers.melody import losses


def _unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _loop(first, second, groups, margin):
  """The definition, one anchor after the other; also how each was chosen."""
  both = np.concatenate([first, second]).astype(np.float64)
  groups = np.concatenate([groups, groups])
  count, costs, kinds = len(first), [], []
  for a in range(2 * count):
    p = (a + count) % (2 * count)
    near = np.sum((both[a] - both[p])**2)
    far = [np.sum((both[a] - both[n])**2) for n in range(2 * count)
           if groups[n] != groups[a]]
    if not far:
      continue
    semi = [d for d in far if near < d < near + margin]
    beyond = [d for d in far if d >= near + margin]
    kinds.append('semi' if semi else 'beyond' if beyond else 'inside')
    chosen = min(semi) if semi else min(beyond) if beyond else max(far)
    costs.append(max(0.0, near - chosen + margin))
  return np.mean(costs), kinds


@pytest.mark.parametrize('spread', [0.1, 0.4, 3.0])
@pytest.mark.parametrize('groups', [[0, 1, 2, 3, 4, 5], [0, 1, 1, 0, 2, 2]])
def test_equals_the_double_loop(spread, groups):
  rng = np.random.default_rng(3)
  middle = rng.normal(size=(6, 4))
  first, second = (_unit(middle + spread * rng.normal(size=(6, 4)))
                   for _ in range(2))
  found = losses.triplets(first, second, jnp.array(groups), 0.2)
  cost, kinds = _loop(first, second, np.array(groups), 0.2)
  np.testing.assert_allclose(found.loss, cost, atol=1e-5)
  np.testing.assert_allclose(found.semi_hard, kinds.count('semi') / 12)


def test_all_three_kinds_of_negative_by_hand():
  angle = lambda *d: _unit(np.stack(
      [np.cos(np.deg2rad(d)), np.sin(np.deg2rad(d))], -1))
  distance = lambda d: 2 - 2 * np.cos(np.deg2rad(d))
  # Tunes at 0/10 and 18/120 degrees. Of anchor 0 the positive is 10 degrees
  # away, 18 is semi-hard; of 10, the negative at 8 is nearer than the positive
  # and passed over for the one at 110, which costs nothing; of 120 the positive
  # is 102 away, 110 is semi-hard; of 18 none is as far as its positive, so the
  # farthest, 18, has to do.
  found = losses.triplets(angle(0, 18), angle(10, 120), jnp.array([0, 1]), 0.2)
  costs = [distance(10) - distance(18) + 0.2, 0.0,
           max(0.0, distance(102) - distance(110) + 0.2),
           distance(102) - distance(18) + 0.2]
  np.testing.assert_allclose(found.loss, np.mean(costs), atol=1e-5)
  assert found.order == (2 + 1 + 2 + 0) / 8
  assert found.top1 == 0.5


def test_one_point_costs_the_margin_and_pulls_nowhere_wrong():
  same = np.tile(_unit(np.ones((1, 3))), (4, 1))
  found = losses.triplets(same, same, jnp.arange(4), 0.2)
  np.testing.assert_allclose(found.loss, 0.2, atol=1e-6)
  assert found.order == 0.0 and found.top1 == 0.0


def test_told_apart_costs_nothing():
  apart = np.eye(4, dtype=np.float32)
  found = losses.triplets(apart, apart, jnp.arange(4), 0.2)
  assert found.loss == 0.0 and found.top1 == 1.0 and found.order == 1.0


def test_a_batch_of_one_tune_has_no_loss_and_a_finite_gradient():
  rng = np.random.default_rng(0)
  first, second = _unit(rng.normal(size=(2, 3, 4)))
  loss = lambda f: losses.triplets(f, second, jnp.zeros(3, int), 0.2).loss
  value, grad = jax.value_and_grad(loss)(first)
  assert value == 0.0 and np.all(grad == 0.0)
