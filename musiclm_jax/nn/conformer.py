"""Conformer blocks: half feed-forward, attention, convolution, half feed-forward.

Every operation is per frame, or looks at other frames through a mask: frames
past the end of an utterance change nothing before it.

Deviation from Gulati et al. (2020): the convolution is followed by a LayerNorm
over channels where they use BatchNorm (ours: a batch may then be split, padded
or evaluated alone with the same result).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax import errors
from musiclm_jax.nn import attention
from musiclm_jax.nn import dropping

POSITIONS = ('none', 'rotary')


class FeedForward(nn.Module):
  """LayerNorm, widen, Swish, narrow."""

  mlp_dim: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    dim = x.shape[-1]
    x = nn.LayerNorm(name='norm')(x)
    x = nn.swish(nn.Dense(self.mlp_dim, name='wi')(x))
    x = nn.Dropout(self.dropout_rate)(x, deterministic)
    x = nn.Dense(dim, name='wo')(x)
    return nn.Dropout(self.dropout_rate)(x, deterministic)


class SelfAttention(nn.Module):
  """Bidirectional multi-head attention, with rotary positions on request."""

  num_heads: int
  position: str = 'none'
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array,
               deterministic: bool) -> jax.Array:
    if self.position not in POSITIONS:
      raise errors.choice('position', self.position, POSITIONS)
    dim = x.shape[-1]
    if dim % self.num_heads:
      raise errors.UserError(
          f'num_heads={self.num_heads} does not divide the width {dim}.')
    heads = (self.num_heads, dim // self.num_heads)
    x = nn.LayerNorm(name='norm')(x)
    query, key, value = (
        nn.DenseGeneral(heads, name=name)(x)
        for name in ('query', 'key', 'value'))
    if self.position == 'rotary':
      query, key = rotary(query), rotary(key)
    drop = None
    if self.dropout_rate and not deterministic:
      drop = dropping.WeightDropout(
          self.make_rng('dropout'), self.dropout_rate)
    x = attention.attend(query, key, value, mask, drop)
    x = nn.DenseGeneral(dim, axis=(-2, -1), name='out')(x)
    return nn.Dropout(self.dropout_rate)(x, deterministic)


class ConvModule(nn.Module):
  """Gated pointwise, depthwise over time, norm, Swish, pointwise."""

  kernel_size: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array,
               deterministic: bool) -> jax.Array:
    dim = x.shape[-1]
    x = nn.LayerNorm(name='norm')(x)
    x = nn.glu(nn.Dense(2 * dim, name='gate')(x))
    # Zeros, as beyond the ends of the sequence, where there is no frame.
    x = jnp.where(mask[..., None], x, 0.0)
    x = DepthwiseConv(self.kernel_size, name='depthwise')(x)
    x = nn.swish(nn.LayerNorm(name='conv_norm')(x))
    x = nn.Dense(dim, name='out')(x)
    return nn.Dropout(self.dropout_rate)(x, deterministic)


class DepthwiseConv(nn.Module):
  """One filter per channel over time, as a sum of shifted products.

  XLA:CPU runs grouped convolutions, and more so their gradients, far slower
  than the few multiply-adds that they are.
  """

  kernel_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dim, size = x.shape[-1], self.kernel_size
    kernel = self.param('kernel', nn.initializers.variance_scaling(
        1.0, 'fan_in', 'truncated_normal', in_axis=0, out_axis=1),
        (size, dim))
    bias = self.param('bias', nn.initializers.zeros_init(), (dim,))
    left = (size - 1) // 2
    padded = jnp.pad(x, ((0, 0), (left, size - 1 - left), (0, 0)))
    length = x.shape[1]
    return bias + sum(
        padded[:, k:k + length] * kernel[k] for k in range(size))


class ConformerBlock(nn.Module):
  """One block; half-step residuals around both feed-forwards (macaron).

  Attributes:
    num_heads: attention heads; must divide the width of the input.
    mlp_dim: inner width of the feed-forwards.
    kernel_size: frames the depthwise convolution sees.
    position: 'none' (the convolutions alone tell the order) or 'rotary'.
    dropout_rate: on every branch and on the attention weights.
  """

  num_heads: int
  mlp_dim: int
  kernel_size: int = 5
  position: str = 'none'
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array,
               deterministic: bool = True) -> jax.Array:
    """[B, T, D], [B, T] bool (True: a frame) -> [B, T, D]."""
    rate = self.dropout_rate
    x += 0.5 * FeedForward(self.mlp_dim, rate, name='mlp_in')(
        x, deterministic)
    x += SelfAttention(self.num_heads, self.position, rate,
                       name='attention')(x, mask, deterministic)
    x += ConvModule(self.kernel_size, rate, name='conv')(
        x, mask, deterministic)
    x += 0.5 * FeedForward(self.mlp_dim, rate, name='mlp_out')(
        x, deterministic)
    return nn.LayerNorm(name='norm')(x)


def rotary(x: jax.Array, base: float = 10_000.0) -> jax.Array:
  """Turns pairs of features by their position: products see the distance only.

  Args:
    x: [B, T, H, D] with even D.
    base: the slowest pair turns once in about `2 pi base` frames.

  Returns:
    [B, T, H, D].
  """
  length, dim = x.shape[1], x.shape[-1]
  rate = base**(-jnp.arange(0, dim, 2) / dim)
  angle = jnp.arange(length)[:, None] * rate
  cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
