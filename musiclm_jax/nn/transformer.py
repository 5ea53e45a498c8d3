"""T5 1.1 decoder blocks: RMSNorm, causal attention, gated GELU, no biases.

  x -> [RMSNorm -> attention + relative bias -> + x -> RMSNorm -> gated GELU
        feed-forward -> + x] * layers -> RMSNorm

Values marked `paper` are MusicLM's (section 4.2) or T5's, which it follows.
Parameter names and logical axes are T5X's, kept in `params_axes`. With
`scan_layers` the blocks are one block under `lax.scan` (nn/layers.py).

Deviations (ours): attention runs in chunks of queries, so that keys of the
future are neither computed nor stored; results are the same. There is no
1/sqrt(d) in attention: as in T5 it is folded into the initial query kernel.
"""

import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_policies
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import layers
from musiclm_jax.nn import partitioning

# Where activations lie. Left to itself XLA may split them as it does the weights
# of an FSDP mesh, and sums them over all devices in every product.
_RESIDUAL = (partitioning.BATCH, partitioning.LENGTH, partitioning.EMBED)
_BY_HEAD = (partitioning.BATCH, partitioning.LENGTH, partitioning.HEADS,
            partitioning.KV)
_INNER = (partitioning.BATCH, partitioning.LENGTH, partitioning.MLP)
_MOST_SLICES = 64  # of a batch, that a gradient adds one by one
NEGATIVE = -1e9  # added to the logit of a key that must not be seen
# What the gradient computes again instead of keeping, from least to most.
REMATS = ('none', 'attention', 'dots', 'full')
_POLICIES = {
    'dots': checkpoint_policies.dots_with_no_batch_dims_saveable,
    'full': checkpoint_policies.nothing_saveable,
}


def relative_buckets(num_positions, num_buckets=32, max_distance=128):
  """The bucket of a key 0 .. num_positions-1 positions in the past.

  Causal T5 (all buckets belong to the past): half of the buckets hold one
  distance each, the others grow logarithmically up to `max_distance`; what lies
  farther shares the last one.

  >>> buckets = relative_buckets(200)
  >>> [int(buckets[n]) for n in (0, 1, 15, 16, 20, 64, 127, 128, 199)]
  [0, 1, 15, 16, 17, 26, 31, 31, 31]

  Returns:
    [num_positions] int32.
  """
  exact = num_buckets // 2
  distance = np.arange(num_positions)
  grown = exact + np.floor(
      np.log(np.maximum(distance, 1) / exact) /
      math.log(max_distance / exact) * (num_buckets - exact) + 1e-9)
  grown = np.minimum(grown, num_buckets - 1)
  return np.where(distance < exact, distance, grown).astype(np.int32)


def distance_bias(table, num_positions, max_distance=128):
  """[heads, buckets] table -> [heads, num_positions] bias of each distance."""
  buckets = relative_buckets(num_positions, table.shape[1], max_distance)
  return jnp.take(table, buckets, axis=1)


def toeplitz(values, rows, columns):
  """[H, rows + columns - 1] -> [H, rows, columns]: v[column - row + rows - 1].

  Reshapes only, so that the gradient is a sum and not a scatter.
  """
  heads, width = values.shape
  tiled = jnp.broadcast_to(values[:, None], (heads, rows, width))
  flat = tiled.reshape(heads, -1)[:, rows - 1:rows - 1 + rows * (width - 1)]
  return flat.reshape(heads, rows, width - 1)[:, :, :columns]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _over_batch(bias, near, batch, reach):
  """[H, Q, K] bias -> [batch, H, Q, K]; its gradient goes to `near` alone.

  `near`, [H, Q, reach], are the last columns of `bias` over again, those that
  depend on parameters; the batch is summed over as is fastest.
  """
  del near, reach
  return jnp.broadcast_to(bias[None], (batch,) + bias.shape)


def _sum_over_batch(batch, reach, _, grad):
  """XLA:CPU sums over a leading axis much slower than it adds slices; in a
  sharded batch, which is a large one, a slice lies on one device."""
  grad = grad[..., grad.shape[-1] - reach:]
  total = lambda g: g.sum(axis=0)
  if batch > _MOST_SLICES:
    return None, total(grad)
  slices = lambda g: functools.reduce(jnp.add, [g[i] for i in range(batch)])
  return None, jax.lax.platform_dependent(grad, cpu=slices, default=total)


_over_batch.defvjp(
    lambda bias, *others: (_over_batch(bias, *others), None), _sum_over_batch)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _beginnings(x, stops):
  """[..., L] -> [its first `stop` positions for each of the rising `stops`]."""
  return [x[..., :stop] for stop in stops]


def _sum_beginnings(stops, _, grads):
  """Adds piece by piece: no gradient is padded to the whole length."""
  pieces = [functools.reduce(jnp.add, [g[..., start:stop] for g in grads[i:]])
            for i, (start, stop) in enumerate(zip((0,) + stops, stops))]
  return (jnp.concatenate(pieces, axis=-1),)


_beginnings.defvjp(
    lambda x, stops: (_beginnings(x, stops), None), _sum_beginnings)


@jax.custom_vjp
def _logits(query, key):
  """[B, H, Q, D] x [B, H, D, K] -> [B, H, Q, K] float32.

  The gradient is the usual one, with a small matrix on the left in both of its
  products: XLA:CPU is slow where it has to transpose the large one.
  """
  return jnp.einsum('bhqd,bhdk->bhqk', query, key,
                    preferred_element_type=jnp.float32)


def _logits_backward(operands, grad):
  query, key = operands
  wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  return (wide('bhqk,bhdk->bhqd', grad, key).astype(query.dtype),
          wide('bhqd,bhqk->bhdk', query, grad).astype(key.dtype))


_logits.defvjp(lambda query, key: (_logits(query, key), (query, key)),
               _logits_backward)


def near_biases(bias, chunk=256, flat=None):
  """The biases that a chunk of queries adds to the keys nearest to it.

  Of the distance alone, so that one array does for all chunks and layers.

  Args:
    bias: [H, L] float32, added to the logit of a key at each distance.
    chunk: queries at a time; 0 takes all of them at once.
    flat: distance from which on `bias` is the same; None: it never is. What all
      logits share changes no softmax, so that only the biases of nearer keys,
      relative to the one there, are added and have a gradient.

  Returns:
    [H, chunk, R]: of each query and the R keys up to the last query's; NEGATIVE
    for keys of the future. Keys farther than that have 0.
  """
  heads, length = bias.shape
  chunk = min(chunk or length, length)
  if flat is not None and flat < length:
    bias = bias[:, :flat] - bias[:, flat:flat + 1]
  rows = -(-length // chunk) * chunk
  reach = min(rows, bias.shape[1] + chunk - 1)
  past = jnp.pad(bias, ((0, 0), (0, max(0, reach - bias.shape[1]))))
  future = jnp.full((heads, chunk - 1), NEGATIVE, bias.dtype)
  return toeplitz(
      jnp.concatenate([past[:, :reach][:, ::-1], future], axis=1), chunk, reach)


def causal_attention(query, key, value, near, key_mask, remat=False,
                     dropout=None):
  """Softmax attention over the past, a chunk of queries at a time.

  Args:
    query: [B, H, L, D].
    key: [B, H, L, D].
    value: [B, H, L, D].
    near: [H, chunk, R] of `near_biases`; it says how long a chunk is.
    key_mask: [B, L] float32, 0 or NEGATIVE, added to the logits of each key.
    remat: whether the gradient recomputes the probabilities of each chunk.
    dropout: None or a function of (probabilities, index of the chunk).

  Returns:
    [B, H, L, D] in the type of `value`; softmax in float32.
  """
  batch, _, length, _ = query.shape
  chunk = near.shape[1]
  # Biases of the last chunk over all keys; earlier chunks see a part of it.
  last = jnp.pad(jax.lax.stop_gradient(near), (
      (0, 0), (0, 0), (-(-length // chunk) * chunk - near.shape[2], 0)))

  def attend(index, q, k, v, b, b_near, mask):
    b = _over_batch(b, b_near, batch, b_near.shape[2])
    logits = _logits(q, k) + (b + mask[:, None, None])
    logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits)
    scale = 1.0 / weights.sum(axis=-1)[..., None]
    if dropout is not None:
      weights = dropout(weights, index)
    out = jnp.einsum('bhqk,bhdk->bhqd', weights.astype(v.dtype), v,
                     preferred_element_type=jnp.float32)
    return (out * scale).astype(v.dtype)

  if remat:
    attend = jax.checkpoint(attend, static_argnums=(0,))
  starts = range(0, length, chunk)
  stops = tuple(min(start + chunk, length) for start in starts)
  keys, values = (_beginnings(x.swapaxes(2, 3), stops) for x in (key, value))
  parts = []
  for index, (start, stop) in enumerate(zip(starts, stops)):
    # Row i of this chunk is row i of `last`, its keys lie further left there.
    here = lambda x: x[:, :stop - start,
                       max(0, x.shape[2] - chunk - start):
                       x.shape[2] - chunk + stop - start]
    parts.append(attend(
        index, query[:, :, start:stop], keys[index], values[index],
        here(last), here(near), key_mask[:, :stop]))
  return jnp.concatenate(parts, axis=2)


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
    out = causal_attention(
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
    near = near_biases(
        distance_bias(table, x.shape[1], config.max_distance),
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
    return blocks(config, name=layers.STACKED)(
        x, near, key_mask, deterministic)[0]
