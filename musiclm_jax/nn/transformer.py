"""T5 1.1 decoder blocks: RMSNorm, causal attention, gated GELU, no biases.

  x -> [RMSNorm -> attention + relative bias -> + x -> RMSNorm -> gated GELU
        feed-forward -> + x] * layers -> RMSNorm

  __call__  [B, L, E] -> [B, L, E]                 all positions, as in training
  prefill   [B, P, E] -> [B, P, E], cache          likewise, and what it saw
  step      [B, E]    -> [B, E], recent            the position after that

The three differ in what attention looks at and in nothing else, so a layer has
one method that they share. A cache holds a pair for each layer, keys [B, H, D, C]
(for XLA:CPU faster than [B, H, C, D]) and values [B, H, C, D]. Beside it are the
latest pairs, [B, H, S, D] each, which a step adds to: XLA:CPU copies an array
that one iteration of a loop both writes and reads, so the large one is only
read (decoding/cached_transformer.py puts the latest there once in a while).

Values marked `paper` are MusicLM's (section 4.2) or T5's, which it follows.
Parameter names and logical axes are T5X's, kept in `params_axes`. With
`scan_layers` the blocks are one block under `lax.scan` (nn/layer_stacks.py),
which `scan_unroll` takes apart again for the compiler.

With `packed` the parameters are laid out for decoding, as `packed_params` makes
them: matrices [out, in] (nn/packed.py), query, key and value as one, gate and up
as one, and the scale of a norm within the matrix behind it.

Attention itself is in nn/causal.py. There is no 1/sqrt(d) in it: as in T5 it is
folded into the initial query kernel.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
from jax.ad_checkpoint import checkpoint_policies
import jax.numpy as jnp

from musiclm_jax.nn import biases
from musiclm_jax.nn import causal
from musiclm_jax.nn import dropping
from musiclm_jax.nn import layer_stacks
from musiclm_jax.nn import packed as packed_lib
from musiclm_jax.nn import partitioning
from musiclm_jax.nn.kernels import dispatch
from musiclm_jax.nn.kernels import platforms

# Where activations lie. Left to itself XLA may split them as it does the weights
# of an FSDP mesh, and sums them over all devices in every product.
_RESIDUAL = (partitioning.BATCH, partitioning.LENGTH, partitioning.EMBED)
_BY_HEAD = (partitioning.BATCH, partitioning.LENGTH, partitioning.HEADS,
            partitioning.KV)
_INNER = (partitioning.BATCH, partitioning.LENGTH, partitioning.MLP)
# Positions of bfloat16 that a TPU keeps together; where they are whole, arrays by
# sequence and by token lie alike, and kernels take them without a copy.
_TILE = 16
# What the gradient computes again instead of keeping, from least to most. With
# 'dots' all that is no product and no attention, with 'attention_out' all but
# the results of attention.
REMATS = ('none', 'attention', 'dots', 'attention_out', 'full')
_SAVED = checkpoint_policies.save_only_these_names(biases.OUT)
_POLICIES = {
    'dots': checkpoint_policies.save_from_both_policies(
        checkpoint_policies.dots_with_no_batch_dims_saveable, _SAVED),
    'attention_out': _SAVED,
    'full': checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class StackConfig:
  """What a stack asks of its configuration; `decoder.DecoderConfig` has more.

  Attributes are explained there.
  """

  num_layers: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout_rate: float = 0.0
  dropout_by_sequence: bool = False
  num_buckets: int = 32
  max_distance: int = 128
  attention_chunk: int = 0
  remat: str = 'none'
  scan_layers: bool = False
  scan_unroll: int = 1
  dtype: str = 'float32'


def rms_norm(x: jax.Array, scale: jax.Array | float,
             eps: float = 1e-6) -> jax.Array:
  """x / rms(x) * scale over the last axis, in float32 inside."""
  wide = x.astype(jnp.float32)
  mean = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
  return (wide * jax.lax.rsqrt(mean + eps) * scale).astype(x.dtype)


def gelu(x: jax.Array) -> jax.Array:
  """The tanh form, T5 1.1's (jax's default as well)."""
  return nn.gelu(x, approximate=True)


@dispatch.operation
def gated_gelu(gate: jax.Array, up: jax.Array) -> jax.Array:
  """gelu(gate) * up, of arrays [..., M] in one type."""
  return gelu(gate) * up


class RMSNorm(nn.Module):
  """T5's layer norm: no mean, no bias.

  Attributes:
    folded: the scale is within the matrix of the next product.
  """

  folded: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.folded:
      return rms_norm(x, 1.0)
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
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = partitioning.param_with_axes(
        'kernel', nn.initializers.normal(self.stddev),
        (x.shape[-1], self.features), jnp.float32, axes=self.axes)
    # Of two axes: a gradient that sums over both others has XLA:CPU transpose.
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(self.dtype)
    return flat.reshape(*x.shape[:-1], self.features)


class PackedKernel(nn.Module):
  """`Kernel` with a parameter of nn/packed.py, which it cannot initialise."""

  def __call__(self, x: jax.Array) -> jax.Array:
    return packed_lib.product(x, self.get_variable('params', 'kernel'))


class Attention(nn.Module):
  """Multi-head causal self-attention."""

  config: Any
  packed: bool = False

  def __call__(self, x: jax.Array, near: jax.Array, key_mask: jax.Array,
               kept: dropping.LayerDropout | None,
               deterministic: bool) -> jax.Array:
    """[B, L, E], biases of `causal.near_biases`, [B, L] -> [B, L, E]."""
    config, dropout = self.config, None
    if kept is not None:
      dropout = dropping.KeyDropout(kept.keys, config.dropout_rate)
    elif config.dropout_rate and not deterministic:
      dropout = dropping.WeightDropout(
          self.make_rng('dropout'), config.dropout_rate)

    def attend(query, key, value):
      return causal.attention(query, key, value, near, key_mask,
                              config.remat == 'attention', dropout), None

    return self._around(x, attend)[0]

  def prefill(self, x: jax.Array, near: jax.Array,
              key_mask: jax.Array) -> tuple[jax.Array, tuple]:
    """As `__call__`, without dropout: ([B, P, E], (keys, values))."""
    def attend(query, key, value):
      return (causal.attention(query, key, value, near, key_mask),
              (key.swapaxes(2, 3), value))

    return self._around(x, attend)

  def step(self, x: jax.Array, cache: tuple, recent: tuple, offset: jax.Array,
           seen: jax.Array, biases: tuple) -> tuple[jax.Array, tuple]:
    """One position: ([B, E], `recent` with its key and value).

    Args:
      x: [B, E].
      cache: the layer's (keys [B, H, D, C], values [B, H, C, D]).
      recent: its latest (keys, values), [B, H, S, D] each.
      offset: int32 scalar, the position's place in `recent`.
      seen: int32 scalar: the cache is hidden from here on.
      biases: of the cache [B, H, C] and of `recent` [1, H, S].
    """
    def attend(query, *pair):
      latest = tuple(jax.lax.dynamic_update_slice(
          held, new.astype(held.dtype), (0, 0, offset, 0))
                     for held, new in zip(recent, pair))
      out = causal.cached_attention(
          query[:, :, 0], *cache, biases[0], latest, biases[1], seen)
      return out[:, :, None], latest

    return self._around(x, attend)

  @nn.compact
  def _around(self, x, attend):
    """What is before and behind `attend`: queries, keys, values -> (out, what it
    saw), [B, H, L, D]; L is 1 where `x` is [B, E]."""
    config, dim = self.config, x.shape[-1]
    joined, dtype = config.num_heads * config.head_dim, jnp.dtype(config.dtype)
    if self.packed:
      parts = PackedKernel(name='qkv')(x).reshape(
          x.shape[0], -1, 3, config.num_heads, config.head_dim)
      parts = [parts[:, :, i].swapaxes(1, 2) for i in range(3)]
      project = PackedKernel(name='out')
    else:
      into = (partitioning.EMBED, partitioning.JOINED_KV)
      parts = []
      for name, stddev in (
          ('query', (dim * config.head_dim)**-0.5),  # paper (T5)
          ('key', dim**-0.5), ('value', dim**-0.5)):
        y = Kernel(joined, stddev, into, dtype, name=name)(x).reshape(
            x.shape[0], -1, config.num_heads, config.head_dim)
        parts.append(partitioning.with_sharding_constraint(
            y, _BY_HEAD).swapaxes(1, 2))
      project = Kernel(dim, joined**-0.5, into[::-1], dtype, name='out')
    out, seen = attend(*parts)
    return project(out.swapaxes(1, 2).reshape(*x.shape[:-1], joined)), seen


class FeedForward(nn.Module):
  """Gated GELU: wo(gelu(wi_0 x) * wi_1 x)."""

  config: Any
  packed: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool,
               kept: jax.Array | None = None) -> jax.Array:
    config, dim = self.config, x.shape[-1]
    if self.packed:
      gate, up = jnp.split(PackedKernel(name='wi')(x), 2, axis=-1)
      project = PackedKernel(name='wo')
    else:
      dtype = jnp.dtype(config.dtype)
      into = (partitioning.EMBED, partitioning.MLP)
      gate = Kernel(config.mlp_dim, dim**-0.5, into, dtype, name='wi_0')(x)
      up = Kernel(config.mlp_dim, dim**-0.5, into, dtype, name='wi_1')(x)
      project = Kernel(dim, config.mlp_dim**-0.5, into[::-1], dtype, name='wo')
    x = _constrained(gated_gelu(gate, up), _INNER)
    return project(_dropout(config, deterministic, kept)(x))


class Block(nn.Module):
  """One pre-norm layer: attention, then feed-forward, each with a residual.

  Its methods are those of `Attention`, with the same arguments.
  """

  config: Any
  packed: bool = False

  def __call__(self, x: jax.Array, near: jax.Array, key_mask: jax.Array,
               kept: dropping.LayerDropout | None,
               deterministic: bool) -> jax.Array:
    return self._around(x, lambda attention, y: (
        attention(y, near, key_mask, kept, deterministic), None), kept,
                        deterministic)[0]

  def prefill(self, x: jax.Array, *seen) -> tuple[jax.Array, tuple]:
    return self._around(x, lambda attention, y: attention.prefill(y, *seen))

  def step(self, x: jax.Array, *seen) -> tuple[jax.Array, tuple]:
    return self._around(x, lambda attention, y: attention.step(y, *seen))

  @nn.compact
  def _around(self, x, attend, kept=None, deterministic=True):
    """The layer; `attend` calls its attention: y -> (y, what it saw)."""
    if kept is None:
      inner, drop = None, _dropout(self.config, deterministic)
      drops = drop, drop
    else:
      inner = kept.inner
      drops = [_dropout(self.config, deterministic, k)
               for k in (kept.attended, kept.fed)]
    x = _constrained(x, _RESIDUAL)
    y = RMSNorm(self.packed, name='pre_self_attention_layer_norm')(x)
    y, seen = attend(
        Attention(self.config, self.packed, name='self_attention'), y)
    x = _constrained(x + drops[0](y), _RESIDUAL)
    y = RMSNorm(self.packed, name='pre_mlp_layer_norm')(x)
    y = FeedForward(self.config, self.packed, name='mlp')(
        y, deterministic, inner)
    return _constrained(x + drops[1](y), _RESIDUAL), seen


class _ScannedBlock(Block):
  """A block as `lax.scan` wants it: (carry, nothing)."""

  def __call__(self, x, near, key_mask, kept, deterministic):
    return super().__call__(x, near, key_mask, kept, deterministic), None


class Transformer(nn.Module):
  """A stack of blocks that share one relative bias, and a final norm.

  Attributes:
    config: has the attributes of `StackConfig`.
    packed: the parameters are of `packed_params`.
  """

  config: Any
  packed: bool = False

  def __call__(self, x: jax.Array, key_mask: jax.Array,
               deterministic: bool = True) -> jax.Array:
    """[B, L, E] inputs, [B, L] additive key mask -> [B, L, E] float32."""
    def through(table, x):
      near = self._near(table, x, self.config.max_distance)
      return self._blocks(x, near, key_mask, deterministic), None

    length = x.shape[1]
    more = -length % _TILE if platforms.platform() == 'tpu' else 0
    x = jnp.pad(x, ((0, 0), (0, more), (0, 0)))
    key_mask = jnp.pad(key_mask, ((0, 0), (0, more)))
    return self._around(x, through, deterministic)[0][:, :length]

  def prefill(self, x: jax.Array,
              key_mask: jax.Array) -> tuple[jax.Array, tuple]:
    """([B, P, E] float32, the cache of P positions); unrolled layers only."""
    def through(table, x):
      near, cache = self._near(table, x), []
      for index in range(self.config.num_layers):
        x, pair = self._block(index).prefill(x, near, key_mask)
        cache.append(pair)
      return x, tuple(cache)

    return self._around(x, through)

  def step(self, x: jax.Array, cache: tuple, recent: tuple, offset: jax.Array,
           seen: jax.Array, biases: tuple) -> tuple[jax.Array, tuple]:
    """One position: ([B, E] float32, `recent` with it); unrolled layers only.

    Args:
      x: [B, E] embedded input.
      cache: a pair of each layer; see `Attention.step`.
      recent: a pair of each layer.
      offset: as of `Attention.step`; so `seen` and `biases`, which say where the
        position stands and are the same for all layers.
    """
    def through(table, x):
      del table
      latest = []
      for index, pairs in enumerate(zip(cache, recent, strict=True)):
        x, pair = self._block(index).step(x, *pairs, offset, seen, biases)
        latest.append(pair)
      return x, tuple(latest)

    return self._around(x, through)

  @nn.compact
  def _around(self, x, through, deterministic=True):
    """What is before and behind the blocks: `through`, (table, x) -> (x, cache)."""
    config = self.config
    table = partitioning.param_with_axes(
        'rel_embedding',
        nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
        (config.num_heads, config.num_buckets), jnp.float32,
        axes=(partitioning.HEADS, partitioning.CODE))
    drop = _dropout(config, deterministic)
    x, cache = through(table, drop(x.astype(jnp.dtype(config.dtype))))
    x = RMSNorm(name='decoder_norm')(x)
    return drop(x).astype(jnp.float32), cache

  def _near(self, table, x, flat=None):
    """`flat` saves work in the gradient alone."""
    config = self.config
    return causal.near_biases(
        causal.distance_bias(table, x.shape[1], config.max_distance),
        config.attention_chunk, flat)

  def _block(self, index):
    return Block(self.config, self.packed, name=f'layers_{index}')

  def _blocks(self, x, near, key_mask, deterministic):
    config, kept = self.config, None
    if config.dropout_by_sequence and config.dropout_rate and not deterministic:
      kept = dropping.of_layers(
          lambda: self.make_rng('dropout'), config, *x.shape)
    block = _ScannedBlock if config.scan_layers else Block
    if config.remat in _POLICIES:
      block = nn.remat(
          block, static_argnums=(5,), policy=_POLICIES[config.remat],
          # Outside of a loop the compiler would find what is computed twice.
          prevent_cse=not config.scan_layers or config.scan_unroll != 1)
    if not config.scan_layers:
      for index in range(config.num_layers):
        x = block(config, self.packed, name=f'layers_{index}')(
            x, near, key_mask, jax.tree.map(lambda k: k[index], kept),
            deterministic)
      return x
    blocks = partitioning.scan_with_axes(
        block, variable_axes={'params': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=(nn.broadcast, nn.broadcast, 0, nn.broadcast),
        length=config.num_layers, axis_name=partitioning.LAYERS,
        unroll=config.scan_unroll or config.num_layers)
    return blocks(config, name=layer_stacks.STACKED)(
        x, near, key_mask, kept, deterministic)[0]


def packed_params(params: dict, config: Any,
                  store: Callable[[jax.Array], Any]) -> dict:
  """Parameters of a `Transformer` -> those of one that is `packed`.

  Args:
    params: of the stack, in either layout (nn/layer_stacks.py).
    config: its size.
    store: a matrix [out, in] -> what stands for it (nn/packed.py).
  """
  def joined(kernels, norm):
    return dict(kernel=store(jnp.concatenate(
        [kernel['kernel'] * norm['scale'][:, None] for kernel in kernels],
        axis=1).T))

  plain = lambda kernel: dict(kernel=store(kernel['kernel'].T))
  found = {name: params[name] for name in ('rel_embedding', 'decoder_norm')}
  for index in range(config.num_layers):
    layer = layer_stacks.layer(params, index)
    attention, mlp = layer['self_attention'], layer['mlp']
    found[f'layers_{index}'] = dict(
        self_attention=dict(
            qkv=joined([attention[n] for n in ('query', 'key', 'value')],
                       layer['pre_self_attention_layer_norm']),
            out=plain(attention['out'])),
        mlp=dict(wi=joined([mlp['wi_0'], mlp['wi_1']],
                           layer['pre_mlp_layer_norm']),
                 wo=plain(mlp['wo'])))
  return found


def _dropout(config, deterministic, kept=None):
  """Of activations [B, L, F]; `kept`: features [B, F], where they are decided."""
  if kept is not None:
    return functools.partial(
        dropping.by_sequence, kept=kept, rate=config.dropout_rate)
  return nn.Dropout(
      config.dropout_rate, deterministic=deterministic,
      broadcast_dims=(1,) if config.dropout_by_sequence else ())


def _constrained(x, axes):
  """`x` [B, L, E] where its logical `axes` lie; of [B, E] nothing is said."""
  return partitioning.with_sharding_constraint(
      x, axes) if x.ndim == len(axes) else x
