"""A decoding step's parts against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from musiclm_jax.decoding import cached_transformer
from musiclm_jax.nn import causal


@pytest.mark.parametrize('size, seen', [(448, 0), (448, 100), (448, 448),
                                        (384, 257)])
def test_pieces_of_the_cache_are_the_whole(size, seen):
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
  found = jax.jit(lambda q, k, v, b, nk, nv, nb, seen: (
      cached_transformer._attend(  # pylint: disable=protected-access
          q, k, v, b, (nk, nv), nb, seen)))(*arrays, seen)
  logits = np.concatenate([
      np.einsum('bhd,bhdk->bhk', query, key[..., :seen]) + bias[..., :seen],
      np.einsum('bhd,bhkd->bhk', query, near_key) + near_bias], axis=-1)
  values = np.concatenate([value[:, :, :seen], near_value], axis=2)
  expected = np.einsum('bhk,bhkd->bhd', special.softmax(logits, -1), values)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(1, 32), (2, 32), (2, 3, 32)])
def test_products_of_few_rows(dtype, shape):
  rng = np.random.default_rng(1)
  matrix = jnp.asarray(rng.standard_normal((48, 32)), dtype)
  rows = jnp.asarray(rng.standard_normal(shape), dtype)
  found = cached_transformer._product(rows, matrix)  # pylint: disable=protected-access
  assert found.dtype == dtype and found.shape == shape[:-1] + (48,)
  expected = np.asarray(rows, np.float64) @ np.asarray(matrix, np.float64).T
  np.testing.assert_allclose(
      np.asarray(found, np.float64), expected,
      rtol=1e-5 if dtype == 'float32' else 1e-2, atol=1e-4)
