"""Causal convolutions, channels last: plain, strided, transposed, grouped.

Every output depends on inputs at and before its own time only: padding is on
the left. What was measured on XLA:CPU decides the formulations:

  plain, dilated   the native convolution; below some 100 channels its gradient
                   is also the fastest one (framing costs 7 times the memory)
  kernel 1         a matrix product
  kernel 2S, stride S, and its transpose    blocks of S samples are channels,
                   so both are one matrix product and one shift by a block
  grouped          framing and a batched matrix product: native gradients of
                   grouped convolutions are 6 and more times slower
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

_DIMENSIONS = ('NHC', 'HIO', 'NHC')


def causal_conv(inputs, kernel, dilation=1):
  """Output t sees inputs t, t - dilation, ...; zeros stand before the start.

  Args:
    inputs: [B, T, C].
    kernel: [k, C, D]; the last tap is the present.
    dilation: distance between taps.

  Returns:
    [B, T, D].
  """
  size = kernel.shape[0]
  if size == 1:
    return inputs @ kernel[0]
  return jax.lax.conv_general_dilated(
      inputs, kernel, (1,), [((size - 1) * dilation, 0)],
      rhs_dilation=(dilation,), dimension_numbers=_DIMENSIONS)


def causal_conv_strided(inputs, kernel, stride):
  """Convolution of kernel 2S and stride S: output t sees blocks t - 1 and t.

  Args:
    inputs: [B, T, C] with T a multiple of `stride`.
    kernel: [2 * stride, C, D].
    stride: S.

  Returns:
    [B, T / S, D].
  """
  _, channels, features = kernel.shape
  blocks = inputs.reshape(inputs.shape[0], -1, stride * channels)
  past, present = kernel.reshape(2, stride * channels, features)
  both = blocks @ jnp.concatenate([past, present], axis=1)
  return shift(both[..., :features]) + both[..., features:]


def causal_conv_transposed(inputs, kernel, stride):
  """Transposed convolution of kernel 2S and stride S, tail dropped.

  Input t is spread over output blocks t and t + 1; the last half-kernel, which
  would need an input that does not exist yet, is not emitted.

  Args:
    inputs: [B, T, C].
    kernel: [2 * stride, C, D].
    stride: S.

  Returns:
    [B, T * S, D].
  """
  _, channels, features = kernel.shape
  matrix = kernel.reshape(2, stride, channels, features)
  matrix = jnp.swapaxes(matrix, 1, 2).reshape(2 * channels, stride * features)
  both = jnp.concatenate([inputs, shift(inputs)], axis=-1)
  return (both @ matrix).reshape(inputs.shape[0], -1, features)


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
  frames = _frame(inputs, size, stride)
  frames = frames.reshape(frames.shape[:3] + (groups, per_group))
  kernel = kernel.reshape(size, per_group, groups, features // groups)
  outputs = jnp.einsum('btkgc,kcgd->btgd', frames, kernel)
  return outputs.reshape(outputs.shape[:2] + (features,))


def shift(blocks):
  """Delays [B, T, ...] by one: zeros first, the last block dropped."""
  padding = [(0, 0)] * blocks.ndim
  padding[1] = (1, 0)
  return jnp.pad(blocks[:, :-1], padding)


def _frame(inputs, size, stride):
  """[B, T, C] -> [B, T', size, C] overlapping frames, by slices."""
  batch, length, channels = inputs.shape
  count = (length - size) // stride + 1
  per_frame = -(-size // stride)
  total = (count - 1 + per_frame) * stride
  inputs = jnp.pad(inputs, ((0, 0), (0, max(0, total - length)), (0, 0)))
  blocks = inputs[:, :total].reshape(batch, -1, stride, channels)
  frames = jnp.concatenate(
      [blocks[:, i:i + count] for i in range(per_frame)], axis=2)
  return frames[:, :, :size]


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
    return causal_conv(inputs, kernel, self.dilation) + bias


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
    return causal_conv_strided(inputs, kernel, self.stride) + bias


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
    return causal_conv_transposed(inputs, kernel, self.stride) + bias
