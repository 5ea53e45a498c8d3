"""One token at a time through the T5 1.1 stack of `nn.transformer`.

  prefill [B, P, D] -> cache          once, for the prompt
  step    [B, D]    -> [B, D], cache  for every token after it

Weights are laid out for decoding: layers unrolled, matrices [out, in], query,
key and value in one product, norm scales folded into the next product. They may
be int8 (ours), a scale for each output; inputs are then rounded likewise, a
scale for each row, so that the product is one of integers.

The cache is in two parts, because XLA:CPU copies a cache that one iteration
both writes and reads (far slower at thousands of positions). A large part
is only read within a block of steps; a small one takes the block's own keys and
is put into the large one when the block ends. The large part is one pair for
each layer, keys [B, H, D, C] (faster than [B, H, C, D])
and values [B, H, C, D]; where it is large enough for that to pay, a step looks
at as much of it as is filled, a piece at a time.
"""

from typing import Any

from flax import struct
from jax import lax
import jax.numpy as jnp

from musiclm_jax.nn import causal
from musiclm_jax.nn import layer_stacks
from musiclm_jax.nn import transformer

_PIECE = 128  # positions that are looked at together, at least,
_PIECE_NUMBERS = 1 << 20  # and numbers of the keys of a layer


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
    layer = layer_stacks.layer(params, index)
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
  """The block's (key, value) pairs, [B, H, length, D] zeros each.

  float32 whatever the compute type: XLA:CPU would make such a copy every step.
  """
  shape = (batch, config.num_heads, length, config.head_dim)
  zeros = jnp.zeros(shape, jnp.float32)
  return tuple((zeros, zeros) for _ in range(config.num_layers))


def grow(cache, length):
  """The cache with room for `length` positions."""
  more = (0, length - cache[0][1].shape[2])
  return tuple((jnp.pad(k, ((0, 0), (0, 0), (0, 0), more)),
                jnp.pad(v, ((0, 0), (0, 0), more, (0, 0)))) for k, v in cache)


def append(cache, recent, start):
  """Puts a block of recent keys and values into the cache at `start`."""
  put = lax.dynamic_update_slice
  return tuple(
      (put(k, near_k.swapaxes(2, 3).astype(k.dtype), (0, 0, 0, start)),
       put(v, near_v.astype(v.dtype), (0, 0, start, 0)))
      for (k, v), (near_k, near_v) in zip(cache, recent))


def prefill(weights, config, x, key_mask):
  """Runs [B, P, E] embedded inputs; returns the cache, P positions long."""
  batch, length, _ = x.shape
  near = causal.near_biases(
      causal.distance_bias(weights.table, length, config.max_distance),
      config.attention_chunk)
  x = x.astype(jnp.dtype(config.dtype))
  cache = []
  for layer in weights.layers:
    qkv = _product(_normalise(x), layer.qkv).reshape(
        batch, length, 3, config.num_heads, config.head_dim)
    query, key, value = jnp.moveaxis(qkv, (2, 3), (0, 2))
    cache.append((key.swapaxes(2, 3), value))
    y = causal.attention(query, key, value, near, key_mask)
    y = y.swapaxes(1, 2).reshape(batch, length, config.joined_kv)
    x = x + _product(y, layer.out)
    x = x + _feed_forward(layer, x)
  return tuple(cache)


def reversed_bias(weights, config, length, block):
  """[H, 2 * length + block]: bias by distance, far to near, then the future.

  The biases of keys k, k+1, ... at position p begin at `length - 1 - p + k`.
  """
  bias = causal.distance_bias(weights.table, length, config.max_distance)
  future = jnp.full((bias.shape[0], length + block), causal.NEGATIVE)
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
    near = tuple(lax.dynamic_update_slice(
        n, qkv[:, i].astype(n.dtype), place) for i, n in enumerate(near, 1))
    filled.append(near)
    y = _attend(
        qkv[:, 0, :, 0], key, value, far_bias, near, near_bias, start)
    x = x + _product(y.reshape(-1, config.joined_kv), layer.out)
    x = x + _feed_forward(layer, x)
  x = transformer.rms_norm(x, weights.norm)
  return x.astype(jnp.float32), tuple(filled)


def _attend(query, key, value, far_bias, near, near_bias, seen):
  """One softmax over the cache and the block: [B, H, D] -> [B, H, D].

  Only the first `seen` positions of the cache need to be looked at.
  """
  rows, heads, width, size = key.shape
  piece = max(_PIECE, _PIECE_NUMBERS // (rows * heads * width))
  near = _look(query, near[0].swapaxes(2, 3), near[1], near_bias)

  def look_at_all(near, key, value, bias):
    return _together(near, _look(query, key, value, bias))

  def look_at_pieces(near, key, value, bias):
    def look(index, result):
      first = index * piece
      start = jnp.minimum(first, size - piece)  # where a slice can begin
      part = lambda x, axis: lax.dynamic_slice_in_dim(x, start, piece, axis)
      again = jnp.where(start + jnp.arange(piece) < first,
                        causal.NEGATIVE, 0.0)
      return _together(result, _look(
          query, part(key, 3), part(value, 2), part(bias, 2) + again))
    return lax.fori_loop(0, (seen + piece - 1) // piece, look, near)

  # A loop of unknown length would make an accelerator wait for the host.
  _, total, mixed = lax.platform_dependent(
      near, key, value, far_bias, default=look_at_all,
      cpu=look_at_all if 3 * piece > size else look_at_pieces)
  return (mixed / total[..., None]).astype(query.dtype)


def _look(query, key, value, bias):
  """Attention to [B, H, D, C] keys, not divided yet.

  Returns:
    [B, H] largest logit, [B, H] sum of the weights relative to it, [B, H, D]
    the values' sum by those weights; float32.
  """
  query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
  logits = bias + jnp.einsum('bhd,bhdk->bhk', query, key)
  top = logits.max(axis=-1)
  weights = jnp.exp(logits - top[..., None])
  mixed = jnp.einsum('bhk,bhkd->bhd', weights, value)
  return top, weights.sum(axis=-1), mixed


def _together(one, other):
  """Two of `_look`, over different keys, as one."""
  top = jnp.maximum(one[0], other[0])
  one_scale, other_scale = jnp.exp(one[0] - top), jnp.exp(other[0] - top)
  add = lambda a, b, expand=lambda x: x: (
      a * expand(one_scale) + b * expand(other_scale))
  return (top, add(one[1], other[1]),
          add(one[2], other[2], lambda x: x[..., None]))


def _product(x, weight):
  """[..., in] x [out, in] -> [..., out]."""
  if isinstance(weight, Int8):
    codes, scale = _rounded(x)
    total = _few_rows(weight.codes, codes, jnp.int32)
    return (total * (scale * weight.scale)).astype(x.dtype)
  if weight.dtype == jnp.float32:
    return lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
  return _few_rows(weight, x, jnp.float32).astype(weight.dtype)


def _few_rows(weight, x, dtype):
  """The product of narrow types.

  On CPU one row takes XLA's path for vectors, which first makes a float32 copy
  of the matrix (slower than two rows); and with the matrix first, that
  one is read as it lies while the few rows are packed, instead of the reverse.
  """
  rows = x.reshape(-1, x.shape[-1])
  count = len(rows)
  if count == 1:
    rows = jnp.pad(rows, ((0, 1), (0, 0)))
  total = lax.dot_general(
      weight, rows, (((1,), (1,)), ((), ())), preferred_element_type=dtype)
  return total.T[:count].reshape(x.shape[:-1] + (len(weight),))


def _normalise(x):
  """RMSNorm without its scale, which the weights contain."""
  return transformer.rms_norm(x, 1.0)


def _feed_forward(layer, x):
  gate, up = jnp.split(_product(_normalise(x), layer.wi), 2, axis=-1)
  return _product(transformer.gelu(gate) * up, layer.wo)
