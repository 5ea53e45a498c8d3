"""The conformer: masks hide padding, rotary sees distances, layers match NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import conformer


def _block(position='none', dim=16, **kwargs):
  return conformer.ConformerBlock(
      num_heads=2, mlp_dim=32, position=position, **kwargs)


def _randomized(params, seed=0):
  """Random values everywhere, so that no zero bias hides a mistake."""
  leaves, tree = jax.tree.flatten(params)
  rng = np.random.default_rng(seed)
  return tree.unflatten(
      [jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32) for x in leaves])


@pytest.mark.parametrize('position', conformer.POSITIONS)
def test_padding_changes_nothing(position):
  block = _block(position)
  x = np.random.default_rng(1).normal(size=(2, 9, 16)).astype(np.float32)
  mask = np.ones((2, 9), bool)
  params = _randomized(block.init(jax.random.PRNGKey(0), x, mask))
  alone = block.apply(params, x, mask)
  junk = np.random.default_rng(2).normal(size=(2, 7, 16)).astype(np.float32)
  padded = block.apply(
      params, np.concatenate([x, junk], 1), np.pad(mask, ((0, 0), (0, 7))))
  np.testing.assert_allclose(padded[:, :9], alone, atol=2e-5)


def test_frames_within_reach_matter():
  block = _block()
  x = np.random.default_rng(1).normal(size=(1, 9, 16)).astype(np.float32)
  mask = np.ones((1, 9), bool)
  params = _randomized(block.init(jax.random.PRNGKey(0), x, mask))
  changed = x.copy()
  changed[0, 8, 3] += 1.0  # one feature: LayerNorm hides a shift of all
  difference = np.abs(
      block.apply(params, x, mask) - block.apply(params, changed, mask))
  assert difference.max(-1).min() > 1e-4  # attention carries it everywhere


def test_depthwise_equals_scipy():
  from scipy import signal
  x = np.random.default_rng(0).normal(size=(1, 11, 3)).astype(np.float32)
  module = conformer.DepthwiseConv(5)
  params = _randomized(module.init(jax.random.PRNGKey(0), x))
  got = module.apply(params, x)
  kernel, bias = params['params']['kernel'], params['params']['bias']
  for c in range(3):
    expected = signal.correlate(
        x[0, :, c], kernel[:, c], mode='same') + bias[c]
    np.testing.assert_allclose(got[0, :, c], expected, atol=1e-5)


def test_rotary_sees_the_distance_only():
  rng = np.random.default_rng(0)
  query, key = rng.normal(size=(2, 8)).astype(np.float32)
  tile = lambda v: jnp.broadcast_to(v, (1, 12, 1, 8))
  scores = jnp.einsum('bqhd,bkhd->qk', conformer.rotary(tile(query)),
                      conformer.rotary(tile(key)))
  for distance in (-5, 0, 3):
    diagonal = np.diagonal(scores, distance)
    np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
  assert abs(scores[0, 0] - query @ key) < 1e-5
  assert abs(scores[0, 3] - scores[0, 0]) > 1e-3


def test_order_is_seen_by_rotary_attention_alone():
  x = np.random.default_rng(0).normal(size=(1, 6, 16)).astype(np.float32)
  mask = np.ones((1, 6), bool)
  order = np.array([0, 2, 1, 3, 4, 5])  # others swap, frame 0 stays
  for position, same in (('none', True), ('rotary', False)):
    module = conformer.SelfAttention(2, position)
    params = _randomized(module.init(jax.random.PRNGKey(0), x, mask, True))
    a = module.apply(params, x, mask, True)[0, 0]
    b = module.apply(params, x[:, order], mask, True)[0, 0]
    assert np.allclose(a, b, atol=1e-5) == same


def test_unknown_position_and_heads_that_do_not_divide():
  x, mask = np.zeros((1, 4, 16), np.float32), np.ones((1, 4), bool)
  with pytest.raises(errors.UserError, match='rotary'):
    _block('absolute').init(jax.random.PRNGKey(0), x, mask)
  with pytest.raises(errors.UserError, match='num_heads=3'):
    conformer.SelfAttention(3).init(jax.random.PRNGKey(0), x, mask, True)
