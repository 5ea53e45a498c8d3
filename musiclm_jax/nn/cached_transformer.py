"""One token at a time through the T5 1.1 stack of `nn.transformer`.

  prefill [B, P, D] -> cache          once, for the prompt
  step    [B, D]    -> [B, D], cache  for every token after it

Weights are laid out for decoding: layers unrolled, matrices [out, in], query,
key and value in one product, norm scales folded into the next product. They may
be int8 (ours), a scale for each output; inputs are then rounded likewise, a
scale for each row, so that the product is one of integers.

The cache is in two parts, because XLA:CPU copies a cache that one iteration
both writes and reads (measured: 4 times slower at 2,304 positions). A large part
is only read within a block of steps; a small one takes the block's own keys and
is put into the large one when the block ends. The large part is one pair for
each layer, keys [B, H, D, C] (a quarter faster than [B, H, C, D] at four rows)
and values [B, H, C, D].
"""

from typing import Any

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp

from musiclm_jax.nn import layers as layers_lib
from musiclm_jax.nn import transformer


@struct.dataclass
class Int8:
  """A matrix [out, in]: codes -127..127, each row of which has its scale."""

  codes: Any  # [out, in] int8
  scale: Any  # [out] float32


@struct.dataclass
class LayerWeights:
  """One block, [out, in] each; arrays of the compute type, or `Int8`."""

  qkv: Any  # [3 * H * D, E]
  out: Any  # [E, H * D]
  wi: Any  # [2 * F, E]
  wo: Any  # [E, F]


@struct.dataclass
class Weights:
  """The stack."""

  layers: tuple  # of LayerWeights
  table: Any  # [H, buckets] float32
  norm: Any  # [E] float32


def weights_from(params, config, int8=False):
  """Parameters of `transformer.Transformer` -> `Weights`.

  Args:
    params: of the stack.
    config: its size and compute type.
    int8: store matrices in int8.
  """
  dtype = jnp.dtype(config.dtype)
  stored = lambda matrix: (
      quantized(matrix.T) if int8 else matrix.T.astype(dtype))
  layers = []
  for index in range(config.num_layers):
    layer = layers_lib.layer(params, index)
    attention, mlp = layer['self_attention'], layer['mlp']
    scale = layer['pre_self_attention_layer_norm']['scale'][:, None]
    qkv = [attention[n]['kernel'] * scale for n in ('query', 'key', 'value')]
    scale = layer['pre_mlp_layer_norm']['scale'][:, None]
    wi = [mlp[n]['kernel'] * scale for n in ('wi_0', 'wi_1')]
    layers.append(LayerWeights(
        qkv=stored(jnp.concatenate(qkv, axis=1)),
        out=stored(attention['out']['kernel']),
        wi=stored(jnp.concatenate(wi, axis=1)),
        wo=stored(mlp['wo']['kernel'])))
  return Weights(layers=tuple(layers), table=params['rel_embedding'],
                 norm=params['decoder_norm']['scale'])


def quantized(rows):
  """[out, in] -> `Int8`, to the nearest step."""
  codes, scale = _rounded(rows)
  return Int8(codes, scale[:, 0])


def _rounded(rows):
  """[..., N] -> ([..., N] int8, [..., 1] float32 scale)."""
  rows = rows.astype(jnp.float32)
  scale = jnp.maximum(jnp.abs(rows).max(-1, keepdims=True), 1e-9) / 127.0
  return jnp.round(rows / scale).astype(jnp.int8), scale


def empty_recent(config, batch, length):
  """The block's (key, value) pairs, [B, H, length, D] zeros each."""
  shape = (batch, config.num_heads, length, config.head_dim)
  zeros = jnp.zeros(shape, jnp.dtype(config.dtype))
  return tuple((zeros, zeros) for _ in range(config.num_layers))


def grow(cache, length):
  """The cache with room for `length` positions."""
  more = (0, length - cache[0][1].shape[2])
  return tuple((jnp.pad(k, ((0, 0), (0, 0), (0, 0), more)),
                jnp.pad(v, ((0, 0), (0, 0), more, (0, 0)))) for k, v in cache)


def append(cache, recent, start):
  """Puts a block of recent keys and values into the cache at `start`."""
  put = lax.dynamic_update_slice
  return tuple((put(k, near_k.swapaxes(2, 3), (0, 0, 0, start)),
                put(v, near_v, (0, 0, start, 0)))
               for (k, v), (near_k, near_v) in zip(cache, recent))


def prefill(weights, config, x, key_mask):
  """Runs [B, P, E] embedded inputs; returns the cache, P positions long."""
  batch, length, _ = x.shape
  bias = transformer.distance_bias(weights.table, length, config.max_distance)
  x = x.astype(jnp.dtype(config.dtype))
  cache = []
  for layer in weights.layers:
    qkv = _product(_normalise(x), layer.qkv).reshape(
        batch, length, 3, config.num_heads, config.head_dim)
    query, key, value = jnp.moveaxis(qkv, (2, 3), (0, 2))
    cache.append((key.swapaxes(2, 3), value))
    y = transformer.causal_attention(
        query, key, value, bias, key_mask, config.attention_chunk)
    y = y.swapaxes(1, 2).reshape(batch, length, config.joined_kv)
    x = x + _product(y, layer.out)
    x = x + _feed_forward(layer, x)
  return tuple(cache)


def reversed_bias(weights, config, length, block):
  """[H, 2 * length + block]: bias by distance, far to near, then the future.

  The biases of keys k, k+1, ... at position p begin at `length - 1 - p + k`.
  """
  bias = transformer.distance_bias(weights.table, length, config.max_distance)
  future = jnp.full((bias.shape[0], length + block), transformer.NEGATIVE)
  return jnp.concatenate([bias[:, ::-1], future], axis=1)


def step(weights, config, cache, recent, x, position, start, bias, mask,
         near_mask=0.0):
  """One position.

  Args:
    weights: of `weights_from`.
    config: the stack's size.
    cache: pairs; only positions before `start` are looked at, which `mask`
      sees to.
    recent: pairs [B, H, S, D]: positions start .. start + S - 1, filled up to
      the one before `position`.
    x: [B, E] embedded input of this position.
    position: int32 scalar.
    start: int32 scalar, the first position of the block.
    bias: (reversed_bias, its length).
    mask: [B, C] float32, 0 for keys to look at, NEGATIVE for others.
    near_mask: the same for the block's own keys, [S].

  Returns:
    ([B, E] float32 after the final norm, recent with this position filled in).
  """
  values, length = bias
  heads, size = config.num_heads, recent[0][0].shape[2]
  slice_of = lambda first, width: lax.dynamic_slice(
      values, (0, length - 1 - position + first), (heads, width))
  far_bias = slice_of(0, cache[0][0].shape[3])[None] + mask[:, None]
  near_bias = slice_of(start, size)[None] + near_mask
  x = x.astype(jnp.dtype(config.dtype))
  filled = []
  for layer, (key, value), near in zip(weights.layers, cache, recent):
    qkv = _product(_normalise(x), layer.qkv).reshape(
        -1, 3, heads, 1, config.head_dim)
    place = (0, 0, position - start, 0)
    near = (lax.dynamic_update_slice(near[0], qkv[:, 1], place),
            lax.dynamic_update_slice(near[1], qkv[:, 2], place))
    filled.append(near)
    y = _attend(qkv[:, 0, :, 0], key, value, far_bias, near, near_bias)
    x = x + _product(y.reshape(-1, config.joined_kv), layer.out)
    x = x + _feed_forward(layer, x)
  x = transformer.rms_norm(x, weights.norm)
  return x.astype(jnp.float32), tuple(filled)


def _attend(query, key, value, far_bias, near, near_bias):
  """One softmax over the cache and the block: [B, H, D] -> [B, H, D]."""
  score = lambda keys, k: jnp.einsum(
      f'bhd,{keys}->bhk', query, k, preferred_element_type=jnp.float32)
  mix = lambda w, v: jnp.einsum(
      'bhk,bhkd->bhd', w.astype(v.dtype), v,
      preferred_element_type=jnp.float32)
  far = score('bhdk', key) + far_bias
  close = score('bhkd', near[0]) + near_bias
  top = jnp.maximum(far.max(axis=-1), close.max(axis=-1))[..., None]
  far, close = jnp.exp(far - top), jnp.exp(close - top)
  total = far.sum(axis=-1) + close.sum(axis=-1)
  y = (mix(far, value) + mix(close, near[1])) / total[..., None]
  return y.astype(query.dtype)


def _product(x, weight):
  """[..., in] x [out, in] -> [..., out]."""
  if isinstance(weight, Int8):
    codes, scale = _rounded(x)
    total = lax.dot_general(
        codes, weight.codes, (((x.ndim - 1,), (1,)), ((), ())),
        preferred_element_type=jnp.int32)
    return (total * (scale * weight.scale)).astype(x.dtype)
  return lax.dot_general(
      x, weight, (((x.ndim - 1,), (1,)), ((), ())),
      preferred_element_type=jnp.float32).astype(weight.dtype)


def _normalise(x):
  """RMSNorm without its scale, which the weights contain."""
  return transformer.rms_norm(x, 1.0)


def _feed_forward(layer, x):
  gate, up = jnp.split(_product(_normalise(x), layer.wi), 2, axis=-1)
  return _product(transformer.gelu(gate) * up, layer.wo)
