"""Convolutions, channels last: causal, strided, transposed, grouped, 2-D.

Causal outputs depend on inputs at and before their own time only: padding is on
the left. Each is written so that what is left of it is a dense convolution of
stride 1, which every platform has a fast one of:

  any stride 1     `convolve`: the native convolution
  kernel 1         a matrix product
  kernel 2S, stride S, and its transpose    blocks of S samples are channels,
                   so both are a `convolve` of two taps and stride 1
  grouped, strided    polyphase: S samples are channels of their group, and what
                   is left is a `convolve` of stride 1 with ceil(k / S) taps

These are the plain forms; a platform may have others (nn/kernels/dispatch.py).
"""

from collections.abc import Callable
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax.nn import streams
from musiclm_jax.nn.kernels import dispatch

_DIMENSIONS = {3: ('NHC', 'HIO', 'NHC'), 4: ('NHWC', 'HWIO', 'NHWC')}


@dispatch.operation
def convolve(inputs: jax.Array, kernel: jax.Array, strides: tuple,
             padding: tuple, dilation: tuple, groups: int = 1) -> jax.Array:
  """The native convolution over one or two axes.

  Args:
    inputs: [B, T, C] or [B, T, F, C].
    kernel: [k, C / groups, D] or [k, l, C / groups, D].
    strides: per axis.
    padding: per axis, (low, high); low under the reach of the kernel.
    dilation: per axis, distance between taps.
    groups: output channels use input channels of their own group.

  Returns:
    [B, T', D] or [B, T', F', D].
  """
  return jax.lax.conv_general_dilated(
      inputs, kernel, strides, padding, rhs_dilation=dilation,
      dimension_numbers=_DIMENSIONS[inputs.ndim], feature_group_count=groups)


@dispatch.operation
def causal_conv(inputs: jax.Array, kernel: jax.Array, dilation: int = 1,
                missing: int | None = None) -> jax.Array:
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


@dispatch.operation
def causal_conv_depthwise(inputs: jax.Array, kernel: jax.Array,
                          missing: int | None = None) -> jax.Array:
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


@dispatch.operation
def causal_conv_strided(inputs: jax.Array, kernel: jax.Array, stride: int,
                        missing: int = 1) -> jax.Array:
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


@dispatch.operation
def causal_conv_transposed(inputs: jax.Array, kernel: jax.Array, stride: int,
                           missing: int = 1) -> jax.Array:
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


@dispatch.operation
def grouped_conv(inputs: jax.Array, kernel: jax.Array, stride: int,
                 groups: int) -> jax.Array:
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


def kernel_init(fan_in: int, scale: float = 1.0) -> Callable:
  """Normal of deviation scale / sqrt(fan_in), whatever the kernel's layout."""
  return nn.initializers.normal(scale / math.sqrt(fan_in))


class CausalConv(nn.Module):
  """`causal_conv` with parameters."""

  features: int
  kernel_size: int
  dilation: int = 1
  init_scale: float = 1.0

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
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
  def __call__(self, inputs: jax.Array) -> jax.Array:
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
  def __call__(self, inputs: jax.Array) -> jax.Array:
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
  def __call__(self, inputs: jax.Array) -> jax.Array:
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
  def __call__(self, inputs: jax.Array) -> jax.Array:
    kernel = self.param(
        'kernel', nn.initializers.lecun_normal(),
        self.kernel_size + (inputs.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    padding = jax.lax.padtype_to_pads(
        inputs.shape[1:3], self.kernel_size, self.strides, self.padding)
    return convolve(inputs, kernel, self.strides, tuple(padding), (1, 1)) + bias
