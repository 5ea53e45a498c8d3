"""T5 1.1 decoder blocks: RMSNorm, causal attention, gated GELU, no biases.

  x -> [RMSNorm -> attention + relative bias -> + x -> RMSNorm -> gated GELU
        feed-forward -> + x] * layers -> RMSNorm

Values marked `paper` are MusicLM's (section 4.2) or T5's, which it follows.
Parameter names and logical axes are T5X's, kept in `params_axes`. With
`scan_layers` the blocks are one block under `lax.scan` (nn/layer_stacks.py).

Attention itself is in nn/causal.py. There is no 1/sqrt(d) in it: as in T5 it is
folded into the initial query kernel.
"""

from typing import Any

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_policies
import jax.numpy as jnp

from musiclm_jax.nn import causal
from musiclm_jax.nn import layer_stacks
from musiclm_jax.nn import partitioning

# Where activations lie. Left to itself XLA may split them as it does the weights
# of an FSDP mesh, and sums them over all devices in every product.
_RESIDUAL = (partitioning.BATCH, partitioning.LENGTH, partitioning.EMBED)
_BY_HEAD = (partitioning.BATCH, partitioning.LENGTH, partitioning.HEADS,
            partitioning.KV)
_INNER = (partitioning.BATCH, partitioning.LENGTH, partitioning.MLP)
# What the gradient computes again instead of keeping, from least to most.
REMATS = ('none', 'attention', 'dots', 'full')
_POLICIES = {
    'dots': checkpoint_policies.dots_with_no_batch_dims_saveable,
    'full': checkpoint_policies.nothing_saveable,
}


def rms_norm(x, scale, eps=1e-6):
  """x / rms(x) * scale over the last axis, in float32 inside."""
  wide = x.astype(jnp.float32)
  mean = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(mean + eps) * scale).astype(x.dtype)


def gelu(x):
  """The tanh form, T5 1.1's (jax's default as well)."""
  return nn.gelu(x, approximate=True)


class RMSNorm(nn.Module):
  """T5's layer norm: no mean, no bias."""

  @nn.compact
  def __call__(self, x):
    scale = partitioning.param_with_axes(
        'scale', nn.initializers.ones, (x.shape[-1],), jnp.float32,
        axes=(partitioning.EMBED,))
    return rms_norm(x, scale)


class Kernel(nn.Module):
  """A bias-free projection [..., in] -> [..., out]."""

  features: int
  stddev: float
  axes: tuple
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    kernel = partitioning.param_with_axes(
        'kernel', nn.initializers.normal(self.stddev),
        (x.shape[-1], self.features), jnp.float32, axes=self.axes)
    # Of two axes: a gradient that sums over both others has XLA:CPU transpose.
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(self.dtype)
    return flat.reshape(*x.shape[:-1], self.features)


class Attention(nn.Module):
  """Multi-head causal self-attention."""

  config: Any

  @nn.compact
  def __call__(self, x, near, key_mask, deterministic):
    config = self.config
    batch, length, dim = x.shape
    joined = config.num_heads * config.head_dim
    into = (partitioning.EMBED, partitioning.JOINED_KV)
    dtype = jnp.dtype(config.dtype)

    def project(name, stddev):
      y = Kernel(joined, stddev, into, dtype, name=name)(x)
      y = y.reshape(batch, length, config.num_heads, config.head_dim)
      return partitioning.with_sharding_constraint(y, _BY_HEAD).swapaxes(1, 2)

    query = project('query', (dim * config.head_dim)**-0.5)  # paper (T5)
    key = project('key', dim**-0.5)
    value = project('value', dim**-0.5)
    dropout = None
    if config.dropout_rate and not deterministic:
      rng, rate = self.make_rng('dropout'), config.dropout_rate
      def dropout(weights, index):
        keep = jax.random.bernoulli(
            jax.random.fold_in(rng, index), 1.0 - rate, weights.shape)
        return jnp.where(keep, weights / (1.0 - rate), 0.0)
    out = causal.attention(
        query, key, value, near, key_mask, config.remat == 'attention', dropout)
    out = out.swapaxes(1, 2).reshape(batch, length, joined)
    return Kernel(dim, joined**-0.5,
                  (partitioning.JOINED_KV, partitioning.EMBED), dtype,
                  name='out')(out)


class FeedForward(nn.Module):
  """Gated GELU: wo(gelu(wi_0 x) * wi_1 x)."""

  config: Any

  @nn.compact
  def __call__(self, x, deterministic):
    config, dim = self.config, x.shape[-1]
    dtype = jnp.dtype(config.dtype)
    into = (partitioning.EMBED, partitioning.MLP)
    gate = Kernel(config.mlp_dim, dim**-0.5, into, dtype, name='wi_0')(x)
    up = Kernel(config.mlp_dim, dim**-0.5, into, dtype, name='wi_1')(x)
    x = partitioning.with_sharding_constraint(gelu(gate) * up, _INNER)
    x = nn.Dropout(config.dropout_rate)(x, deterministic=deterministic)
    return Kernel(dim, config.mlp_dim**-0.5,
                  (partitioning.MLP, partitioning.EMBED), dtype, name='wo')(x)


class Block(nn.Module):
  """One pre-norm layer: attention, then feed-forward, each with a residual."""

  config: Any

  @nn.compact
  def __call__(self, x, near, key_mask, deterministic):
    drop = nn.Dropout(self.config.dropout_rate, deterministic=deterministic)
    x = partitioning.with_sharding_constraint(x, _RESIDUAL)
    y = RMSNorm(name='pre_self_attention_layer_norm')(x)
    y = Attention(self.config, name='self_attention')(
        y, near, key_mask, deterministic)
    x = partitioning.with_sharding_constraint(x + drop(y), _RESIDUAL)
    y = RMSNorm(name='pre_mlp_layer_norm')(x)
    y = FeedForward(self.config, name='mlp')(y, deterministic)
    return partitioning.with_sharding_constraint(x + drop(y), _RESIDUAL)


class _ScannedBlock(Block):
  """A block as `lax.scan` wants it: (carry, nothing)."""

  @nn.compact
  def __call__(self, x, near, key_mask, deterministic):
    return super().__call__(x, near, key_mask, deterministic), None


class Transformer(nn.Module):
  """A stack of blocks that share one relative bias, and a final norm.

  Attributes:
    config: has num_layers, num_heads, head_dim, mlp_dim, dropout_rate,
      num_buckets, max_distance, attention_chunk, remat, scan_layers and dtype.
  """

  config: Any

  @nn.compact
  def __call__(self, x, key_mask, deterministic=True):
    """[B, L, D] inputs, [B, L] additive key mask -> [B, L, D] float32."""
    config = self.config
    table = partitioning.param_with_axes(
        'rel_embedding',
        nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
        (config.num_heads, config.num_buckets), jnp.float32,
        axes=(partitioning.HEADS, partitioning.CODE))
    near = causal.near_biases(
        causal.distance_bias(table, x.shape[1], config.max_distance),
        config.attention_chunk, config.max_distance)
    drop = nn.Dropout(config.dropout_rate, deterministic=deterministic)
    x = drop(x.astype(jnp.dtype(config.dtype)))
    x = self._blocks(x, near, key_mask, deterministic)
    x = RMSNorm(name='decoder_norm')(x)
    return drop(x).astype(jnp.float32)

  def _blocks(self, x, near, key_mask, deterministic):
    config = self.config
    block = _ScannedBlock if config.scan_layers else Block
    if config.remat in _POLICIES:
      block = nn.remat(
          block, static_argnums=(4,), prevent_cse=not config.scan_layers,
          policy=_POLICIES[config.remat])
    if not config.scan_layers:
      for index in range(config.num_layers):
        x = block(config, name=f'layers_{index}')(
            x, near, key_mask, deterministic)
      return x
    blocks = partitioning.scan_with_axes(
        block, variable_axes={'params': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),
        length=config.num_layers, axis_name=partitioning.LAYERS)
    return blocks(config, name=layer_stacks.STACKED)(
        x, near, key_mask, deterministic)[0]
