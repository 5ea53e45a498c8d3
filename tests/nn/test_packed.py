"""Products with stored matrices against NumPy, whichever form computes them."""

import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import packed
from musiclm_jax.nn.kernels import dispatch


@pytest.mark.parametrize('choice', ['jnp', 'cpu'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(1, 32), (2, 32), (2, 3, 32)])
def test_products_of_few_rows(choice, dtype, shape):
  rng = np.random.default_rng(1)
  matrix = jnp.asarray(rng.standard_normal((48, 32)), dtype)
  rows = jnp.asarray(rng.standard_normal(shape), dtype)
  with dispatch.using(choice):
    found = packed.product(rows, matrix)
  assert found.dtype == dtype and found.shape == shape[:-1] + (48,)
  expected = np.asarray(rows, np.float64) @ np.asarray(matrix, np.float64).T
  np.testing.assert_allclose(
      np.asarray(found, np.float64), expected,
      rtol=1e-5 if dtype == 'float32' else 1e-2, atol=1e-4)


@pytest.mark.parametrize('choice', ['jnp', 'cpu'])
def test_int8_is_to_the_nearest_step(choice):
  rng = np.random.default_rng(0)
  matrix = rng.standard_normal((6, 64)) * 10.0**rng.integers(-3, 3, (6, 1))
  matrix[5] = 0.0
  stored = packed.quantized(jnp.asarray(matrix))
  assert stored.codes.dtype == jnp.int8
  again = np.asarray(stored.codes) * np.asarray(stored.scale)[:, None]
  step = np.abs(matrix).max(axis=1, keepdims=True) / 127
  assert np.all(np.abs(again - matrix) <= step * 0.501)
  for count in (1, 3):
    inputs = rng.standard_normal((count, 64)).astype(np.float32)
    with dispatch.using(choice):
      found = packed.product(jnp.asarray(inputs), stored)
    scale = np.abs(inputs).max(axis=1, keepdims=True) / 127
    expected = scale * np.round(inputs / scale) @ again.T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
