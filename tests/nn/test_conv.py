"""Convolutions against plain NumPy sums, SciPy and the native gradients."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.signal

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


def _native(x, kernel, strides, padding, dilation, groups):
  dimensions = {3: ('NHC', 'HIO', 'NHC'), 4: ('NHWC', 'HWIO', 'NHWC')}
  return jax.lax.conv_general_dilated(
      x, kernel, strides, padding, rhs_dilation=dilation,
      dimension_numbers=dimensions[x.ndim], feature_group_count=groups)


# (input, kernel, strides, padding, dilation, groups)
GEOMETRIES = dict(
    causal=((2, 30, 6), (7, 6, 5), (1,), ((6, 0),), (1,), 1),
    dilated=((2, 30, 6), (7, 6, 5), (1,), ((18, 0),), (3,), 1),
    inputs_left_over=((2, 31, 6), (5, 6, 4), (3,), ((2, 0),), (1,), 1),
    short=((1, 4, 3), (7, 3, 2), (1,), ((18, 0),), (3,), 1),
    grouped=((2, 20, 12), (5, 3, 8), (2,), ((1, 2),), (1,), 4),
    plane=((2, 9, 8, 3), (3, 4, 3, 5), (1, 2), ((1, 1), (1, 1)), (1, 1), 1),
    odd_plane=((2, 9, 8, 3), (4, 4, 3, 5), (2, 2), ((1, 2), (1, 1)), (1, 1), 1),
    point=((2, 9, 8, 3), (1, 1, 3, 5), (2, 2), ((0, 0), (0, 0)), (1, 1), 1))


@pytest.mark.parametrize('name', GEOMETRIES)
def test_convolve_has_the_native_value_and_gradients(name):
  x_shape, kernel_shape, *geometry = GEOMETRIES[name]
  x, kernel = _random(*x_shape), _random(*kernel_shape)
  expected, native = jax.vjp(lambda *a: _native(*a, *geometry), x, kernel)
  value, ours = jax.vjp(
      lambda *a: conv.convolve(*a, *geometry), x, kernel)
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
  outer = _random(*expected.shape, seed=1)
  for a, b in zip(ours(outer), native(outer), strict=True):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_convolve_over_a_plane_equals_scipy():
  x, kernel = _random(1, 9, 8, 2), _random(3, 4, 2, 1)
  expected = sum(
      scipy.signal.correlate(x[0, :, :, c], kernel[:, :, c, 0], 'valid')
      for c in range(2))
  value = conv.convolve(
      x, kernel, (2, 1), ((0, 0), (0, 0)), (1, 1))[0, :, :, 0]
  np.testing.assert_allclose(value, expected[::2], atol=1e-4)


def test_grouped_gradients_equal_the_native_ones():
  x, kernel = _random(2, 101, 8), _random(41, 2, 12)
  outer = _random(2, 16, 12, seed=1)
  native = jax.vjp(
      lambda *a: _native(*a, (4,), ((0, 0),), (1,), 4), x, kernel)[1](outer)
  ours = jax.vjp(
      lambda *a: conv.grouped_conv(*a, 4, 4), x, kernel)[1](outer)
  for a, b in zip(ours, native, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


def test_gradients_keep_bfloat16():
  x = jnp.asarray(_random(2, 12, 4), jnp.bfloat16)
  kernel = jnp.asarray(_random(3, 4, 6), jnp.bfloat16)
  gradients = jax.grad(
      lambda *a: jnp.sum(conv.causal_conv(*a)), (0, 1))(x, kernel)
  assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2


def test_conv2d_has_the_parameters_and_values_of_flax():
  x = _random(2, 9, 8, 3)
  for size, strides, padding in (
      ((4, 4), (2, 2), 'SAME'), ((3, 3), (1, 1), 'SAME'),
      ((1, 8), (1, 1), 'VALID')):
    ours = conv.Conv2d(5, size, strides, padding)
    flax = nn.Conv(5, size, strides, padding)
    shapes = jax.eval_shape(flax.init, jax.random.key(0), x)
    assert shapes == jax.eval_shape(ours.init, jax.random.key(0), x)
    params = jax.tree.map(lambda s: _random(*s.shape), shapes)
    np.testing.assert_allclose(
        ours.apply(params, x), flax.apply(params, x), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(
    jax.default_backend() != 'cpu', reason='an order of axes of XLA:CPU')
def test_gradients_inside_a_conditional_are_in_the_fast_order():
  """XLA:CPU was seen to be very slow there with the order jax derives."""
  x, kernel = jnp.zeros((2, 9, 8, 3)), jnp.zeros((3, 3, 3, 5))
  padding = ((1, 1), (1, 1))

  def gradient(x, kernel):
    return jax.grad(lambda *a: jnp.sum(jnp.square(conv.convolve(
        *a, (1, 1), padding, (1, 1)))), (0, 1))(x, kernel)

  def conditional(on, x, kernel):
    return jax.lax.cond(on, gradient, lambda *a: a, x, kernel)

  text = jax.jit(conditional).lower(True, x, kernel).as_text()
  layouts = re.findall(r'dim_numbers = ([^,]+(?:, [^,]+)*?), window', text)
  assert len(layouts) == 3
  assert set(layouts) == {'[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]'}
