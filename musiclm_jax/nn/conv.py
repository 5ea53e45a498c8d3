"""Convolutions, channels last: causal, strided, transposed, grouped, 2-D.

Causal outputs depend on inputs at and before their own time only: padding is on
the left. What was measured on XLA:CPU decides the formulations:

  any stride 1     `convolve`: the native convolution, its derivatives spelled
                   out as native convolutions too
  kernel 1         a matrix product
  kernel 2S, stride S, and its transpose    blocks of S samples are channels,
                   so both are a `convolve` of two taps and stride 1
  grouped, strided    polyphase: S samples are channels of their group, and what
                   is left is a `convolve` of stride 1 with ceil(k / S) taps
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax.nn import streams

_DIMENSIONS = {3: ('NHC', 'HIO', 'NHC'), 4: ('NHWC', 'HWIO', 'NHWC')}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def convolve(inputs, kernel, strides, padding, dilation, groups=1):
  """The native convolution over one or two axes, fast to differentiate.

  On XLA:CPU the gradient that jax derives is slow inside a conditional (seen,
  not explained: other orders of axes seem to be brought to the fast one only
  outside), and a grouped one anywhere. Here both gradients are forward
  convolutions in the fast order. On other platforms jax's own is kept; which is
  faster there has not been measured.

  Args:
    inputs: [B, T, C] or [B, T, F, C].
    kernel: [k, C / groups, D] or [k, l, C / groups, D].
    strides: per axis.
    padding: per axis, (low, high); low under the reach of the kernel.
    dilation: per axis, distance between taps.
    groups: output channels use input channels of their own group.

  Returns:
    [B, T', D] or [B, T', F', D]. Reverse mode only, first order.
  """
  return _native(inputs, kernel, strides, padding, dilation, groups)


def _native(inputs, kernel, strides, padding, dilation, groups, spread=None):
  return jax.lax.conv_general_dilated(
      inputs, kernel, strides, padding, lhs_dilation=spread,
      rhs_dilation=dilation, dimension_numbers=_DIMENSIONS[inputs.ndim],
      feature_group_count=groups)


def _convolve_forward(inputs, kernel, *geometry):
  return _native(inputs, kernel, *geometry), (inputs, kernel)


def _convolve_backward(strides, padding, dilation, groups, residuals, outer):
  geometry = strides, padding, dilation, groups
  gradients = []
  # One at a time, so that the one that nobody asks for is not computed.
  for i, spelled_out in enumerate((_input_gradient, _kernel_gradient)):

    def derived(inputs, kernel, outer, i=i):
      function = lambda *a: _native(*a, *geometry)
      return jax.vjp(function, inputs, kernel)[1](outer)[i]

    gradients.append(jax.lax.platform_dependent(
        *residuals, outer, default=derived,
        cpu=functools.partial(_with_geometry, spelled_out, geometry)))
  return tuple(gradients)


def _with_geometry(function, geometry, inputs, kernel, outer):
  return function(inputs, kernel, outer, *geometry)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _input_gradient(
    inputs, kernel, outer, strides, padding, dilation, groups):
  """`outer`, spread by the stride, convolved with the reversed kernel."""
  axes = len(strides)
  taps, (channels, features) = kernel.shape[:axes], kernel.shape[axes:]
  around = []
  for i, (low, _) in enumerate(padding):
    reach = (taps[i] - 1) * dilation[i]
    used = (outer.shape[1 + i] - 1) * strides[i] + 1
    around.append((reach - low, inputs.shape[1 + i] - used + low))
  kernel = jnp.flip(kernel, tuple(range(axes)))
  kernel = kernel.reshape(taps + (channels, groups, features // groups))
  kernel = jnp.swapaxes(kernel, -3, -1).reshape(
      taps + (features // groups, groups * channels))
  return _native(
      outer, kernel, (1,) * axes, around, dilation, groups, spread=strides)


def _kernel_gradient(
    inputs, kernel, outer, strides, padding, dilation, groups):
  """`inputs` convolved with `outer`: channels are the batch, the batch is
  channels, and stride and dilation change places."""
  axes = len(strides)
  spatial, batch = tuple(range(1, axes + 1)), inputs.shape[0]
  around = []
  for i, (low, _) in enumerate(padding):
    reach = (kernel.shape[i] - 1) * dilation[i]
    length = reach + (outer.shape[1 + i] - 1) * strides[i] + 1 - low
    # Inputs behind the last stride are never used.
    inputs = inputs[(slice(None),) * (1 + i) + (slice(length),)]
    around.append((low, length - inputs.shape[1 + i]))
  lengths, channels = inputs.shape[1:-1], inputs.shape[-1] // groups
  inputs = inputs.reshape((batch,) + lengths + (groups, channels))
  inputs = jnp.transpose(inputs, (axes + 2,) + spatial + (axes + 1, 0))
  inputs = inputs.reshape((channels,) + lengths + (groups * batch,))
  outer = jnp.transpose(outer, spatial + (0, axes + 1))
  gradient = _native(inputs, outer, dilation, around, strides, groups)
  return jnp.transpose(gradient, spatial + (0, axes + 1))


def causal_conv(inputs, kernel, dilation=1, missing=None):
  """Output t sees inputs t, t - dilation, ...; zeros stand before the start.

  Args:
    inputs: [B, T, C].
    kernel: [k, C, D]; the last tap is the present.
    dilation: distance between taps.
    missing: zeros put before the inputs; None for as many as the kernel looks
      back, fewer where the inputs begin with their past.

  Returns:
    [B, T, D], or fewer steps by what `missing` leaves out.
  """
  size = kernel.shape[0]
  if size == 1:
    return inputs @ kernel[0]
  missing = (size - 1) * dilation if missing is None else missing
  return convolve(inputs, kernel, (1,), ((missing, 0),), (dilation,))


def causal_conv_depthwise(inputs, kernel, missing=None):
  """Each channel by itself: k shifted products, summed.

  A convolution with as many groups as channels is slow on XLA:CPU, and a TPU's
  matrix unit has no use for it; shifted products fuse into one pass.

  Args:
    inputs: [B, T, C].
    kernel: [k, C]; the last tap is the present.
    missing: as of `causal_conv`.

  Returns:
    [B, T, C].
  """
  back = kernel.shape[0] - 1
  missing = back if missing is None else missing
  inputs = jnp.pad(inputs, ((0, 0), (missing, 0), (0, 0)))
  count = inputs.shape[1] - back
  return sum(inputs[:, i:i + count] * kernel[i] for i in range(back + 1))


def causal_conv_strided(inputs, kernel, stride, missing=1):
  """Convolution of kernel 2S and stride S: output t sees blocks t - 1 and t.

  Args:
    inputs: [B, T, C] with T a multiple of `stride`.
    kernel: [2 * stride, C, D].
    stride: S.
    missing: blocks of zeros put before the inputs.

  Returns:
    [B, T / S, D].
  """
  _, channels, features = kernel.shape
  blocks = inputs.reshape(inputs.shape[0], -1, stride * channels)
  kernel = kernel.reshape(2, stride * channels, features)
  return convolve(blocks, kernel, (1,), ((missing, 0),), (1,))


def causal_conv_transposed(inputs, kernel, stride, missing=1):
  """Transposed convolution of kernel 2S and stride S, tail dropped.

  Input t is spread over output blocks t and t + 1; the last half-kernel, which
  would need an input that does not exist yet, is not emitted.

  Args:
    inputs: [B, T, C].
    kernel: [2 * stride, C, D].
    stride: S.
    missing: inputs of zeros put before the first.

  Returns:
    [B, T * S, D].
  """
  _, channels, features = kernel.shape
  kernel = jnp.swapaxes(kernel.reshape(2, stride, channels, features), 1, 2)
  # An output block sees the input before it through the second half-kernel.
  kernel = kernel.reshape(2, channels, stride * features)[::-1]
  blocks = convolve(inputs, kernel, (1,), ((missing, 0),), (1,))
  return blocks.reshape(inputs.shape[0], -1, features)


def grouped_conv(inputs, kernel, stride, groups):
  """Strided convolution in groups, without padding.

  Args:
    inputs: [B, T, C].
    kernel: [k, C / groups, D].
    stride: S.
    groups: G; output channels d use input channels of their own group.

  Returns:
    [B, (T - k) // S + 1, D].
  """
  size, per_group, features = kernel.shape
  length = inputs.shape[1]
  taps = -(-size // stride)
  blocks = (length - size) // stride + taps
  inputs = inputs[:, :blocks * stride]
  inputs = jnp.pad(
      inputs, ((0, 0), (0, blocks * stride - inputs.shape[1]), (0, 0)))
  inputs = inputs.reshape(-1, blocks, stride, groups, per_group)
  inputs = jnp.swapaxes(inputs, 2, 3).reshape(
      -1, blocks, groups * stride * per_group)
  kernel = jnp.pad(kernel, ((0, taps * stride - size), (0, 0), (0, 0)))
  kernel = kernel.reshape(taps, stride * per_group, features)
  return convolve(inputs, kernel, (1,), ((0, 0),), (1,), groups)


def kernel_init(fan_in, scale=1.0):
  """Normal of deviation scale / sqrt(fan_in), whatever the kernel's layout."""
  return nn.initializers.normal(scale / math.sqrt(fan_in))


class CausalConv(nn.Module):
  """`causal_conv` with parameters."""

  features: int
  kernel_size: int
  dilation: int = 1
  init_scale: float = 1.0

  @nn.compact
  def __call__(self, inputs):
    channels = inputs.shape[-1]
    kernel = self.param(
        'kernel', kernel_init(self.kernel_size * channels, self.init_scale),
        (self.kernel_size, channels, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    inputs, missing = streams.with_past(
        self, inputs, (self.kernel_size - 1) * self.dilation)
    return causal_conv(inputs, kernel, self.dilation, missing) + bias


class CausalConvDepthwise(nn.Module):
  """`causal_conv_depthwise` with parameters: [B, T, C] -> the same."""

  kernel_size: int

  @nn.compact
  def __call__(self, inputs):
    channels = inputs.shape[-1]
    kernel = self.param('kernel', kernel_init(self.kernel_size),
                        (self.kernel_size, channels))
    bias = self.param('bias', nn.initializers.zeros, (channels,))
    inputs, missing = streams.with_past(self, inputs, self.kernel_size - 1)
    return causal_conv_depthwise(inputs, kernel, missing) + bias


class CausalConvStrided(nn.Module):
  """`causal_conv_strided` with parameters: [B, T, C] -> [B, T / S, D]."""

  features: int
  stride: int

  @nn.compact
  def __call__(self, inputs):
    channels = inputs.shape[-1]
    kernel = self.param(
        'kernel', kernel_init(2 * self.stride * channels),
        (2 * self.stride, channels, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    inputs, missing = streams.with_past(self, inputs, self.stride)
    return causal_conv_strided(
        inputs, kernel, self.stride, missing // self.stride) + bias


class CausalConvTransposed(nn.Module):
  """`causal_conv_transposed` with parameters: [B, T, C] -> [B, T * S, D]."""

  features: int
  stride: int

  @nn.compact
  def __call__(self, inputs):
    channels = inputs.shape[-1]
    # Two inputs reach each output, whatever the stride.
    kernel = self.param(
        'kernel', kernel_init(2 * channels),
        (2 * self.stride, channels, self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    inputs, missing = streams.with_past(self, inputs, 1)
    return causal_conv_transposed(
        inputs, kernel, self.stride, missing) + bias


class Conv2d(nn.Module):
  """Convolution over two axes: [B, T, F, C] -> [B, T / s, F / s, D].

  Attributes:
    features: D.
    kernel_size: taps per axis.
    strides: per axis.
    padding: 'SAME' (T / s is rounded up) or 'VALID'.
  """

  features: int
  kernel_size: tuple
  strides: tuple = (1, 1)
  padding: str = 'SAME'

  @nn.compact
  def __call__(self, inputs):
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(),
        self.kernel_size + (inputs.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    padding = jax.lax.padtype_to_pads(
        inputs.shape[1:3], self.kernel_size, self.strides, self.padding)
    return convolve(inputs, kernel, self.strides, tuple(padding), (1, 1)) + bias
