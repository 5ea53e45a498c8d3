"""Attention of one query against NumPy, whichever form computes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from musiclm_jax.nn import causal
from musiclm_jax.nn.kernels import dispatch


@pytest.mark.parametrize('choice', ['jnp', 'cpu', 'tpu'])
@pytest.mark.parametrize('size, seen', [(448, 0), (448, 100), (448, 448),
                                        (384, 257)])
def test_cache_and_latest_are_under_one_softmax(choice, size, seen):
  rows, heads, width, near = 8, 16, 64, 3  # so large that pieces are of 128
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  query, key, value = (draw(rows, heads, width), draw(rows, heads, width, size),
                       draw(rows, heads, size, width))
  near_key, near_value = draw(2, rows, heads, near, width)
  bias, near_bias = draw(rows, heads, size), draw(1, heads, near)
  bias[:, :, seen:] = causal.NEGATIVE
  # What was never looked at must not matter, whatever it is.
  key[..., seen:] = 1e4
  arrays = [jnp.asarray(x) for x in (
      query, key, value, bias, near_key, near_value, near_bias)]
  with dispatch.using(choice):
    found = jax.jit(lambda q, k, v, b, nk, nv, nb, seen: (
        causal.cached_attention(
            q, k, v, b, (nk, nv), nb, seen)))(*arrays, seen)
  logits = np.concatenate([
      np.einsum('bhd,bhdk->bhk', query, key[..., :seen]) + bias[..., :seen],
      np.einsum('bhd,bhkd->bhk', query, near_key) + near_bias], axis=-1)
  values = np.concatenate([value[:, :, :seen], near_value], axis=2)
  expected = np.einsum('bhk,bhkd->bhd', special.softmax(logits, -1), values)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_reversed_bias_is_read_by_position():
  """Of the query at position 3, keys 1 .. 5; those behind it are hidden."""
  bias = jnp.array([[10.0, 11.0, 12.0, 13.0]])  # of distances 0 .. 3
  found = causal.reversed_bias(bias, 2)
  assert found.shape == (1, 10)
  at = 4 - 1 - 3 + 1
  np.testing.assert_array_equal(
      found[0, at:at + 5],
      np.float32([12.0, 11.0, 10.0, causal.NEGATIVE, causal.NEGATIVE]))
