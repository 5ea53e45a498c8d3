"""Convolutions against a plain NumPy sum over taps."""

import jax
import jax.test_util
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import conv


def _random(*shape, seed=0):
  rng = np.random.default_rng([seed, *shape])
  return rng.normal(size=shape).astype(np.float32)


def _reference(x, kernel, dilation=1):
  """y[t] = sum_i x[t - (k - 1 - i) d] kernel[i], zeros before the start."""
  size = len(kernel)
  y = np.zeros(x.shape[:2] + kernel.shape[2:])
  for t in range(x.shape[1]):
    for i in range(size):
      source = t - (size - 1 - i) * dilation
      if source >= 0:
        y[:, t] += x[:, source] @ kernel[i]
  return y


@pytest.mark.parametrize('size,dilation', [(7, 1), (7, 3), (3, 9), (1, 1)])
def test_causal_conv(size, dilation):
  x, kernel = _random(2, 40, 4), _random(size, 4, 5)
  np.testing.assert_allclose(
      conv.causal_conv(x, kernel, dilation), _reference(x, kernel, dilation),
      atol=1e-4)


@pytest.mark.parametrize('stride', [2, 3, 5])
def test_strided_keeps_the_last_sample_of_each_block(stride):
  x, kernel = _random(2, 6 * stride, 4), _random(2 * stride, 4, 5)
  expected = _reference(x, kernel)[:, stride - 1::stride]
  np.testing.assert_allclose(
      conv.causal_conv_strided(x, kernel, stride), expected, atol=1e-4)


@pytest.mark.parametrize('stride', [2, 3, 5])
def test_transposed_spreads_each_input_over_two_blocks(stride):
  x, kernel = _random(2, 6, 4), _random(2 * stride, 4, 5)
  expected = np.zeros((2, 7 * stride, 5))
  for t in range(6):
    for i in range(2 * stride):
      expected[:, t * stride + i] += x[:, t] @ kernel[i]
  np.testing.assert_allclose(
      conv.causal_conv_transposed(x, kernel, stride),
      expected[:, :6 * stride], atol=1e-4)


@pytest.mark.parametrize('size,stride,groups,length', [
    (41, 4, 4, 101), (5, 1, 1, 30), (15, 1, 2, 15), (4, 4, 2, 16)])
def test_grouped_equals_the_native_one(size, stride, groups, length):
  x, kernel = _random(2, length, 8), _random(size, 8 // groups, 12)
  expected = jax.lax.conv_general_dilated(
      x, kernel, (stride,), 'VALID', dimension_numbers=('NHC', 'HIO', 'NHC'),
      feature_group_count=groups)
  np.testing.assert_allclose(
      conv.grouped_conv(x, kernel, stride, groups), expected, atol=1e-4)


@pytest.mark.parametrize('name', ['plain', 'strided', 'transposed'])
def test_gradients_equal_finite_differences(name):
  function = {'plain': conv.causal_conv, 'strided': conv.causal_conv_strided,
              'transposed': conv.causal_conv_transposed}[name]
  x, kernel = _random(1, 12, 2), _random(6, 2, 3)
  jax.test_util.check_grads(
      lambda *a: jnp.sum(jnp.sin(function(*a, 3))), (x, kernel), 1,
      modes=['rev'], atol=2e-2, rtol=2e-2)


def test_shift_delays_by_one():
  np.testing.assert_array_equal(
      conv.shift(jnp.asarray([[[1.0], [2.0], [3.0]]]))[0, :, 0], [0, 1, 2])
