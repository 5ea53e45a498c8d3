"""Forms of operations that XLA:CPU is fast at, each for a measured reason.

What an operation is stands with the plain form of the same name, in
nn/conv.py, nn/causal.py, nn/packed.py and nn/assignments.py; here is why
another order of the same sums is faster.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from musiclm_jax.nn import biases
from musiclm_jax.nn import dropping

_MOST_SLICES = 64  # of a batch, that a gradient adds one by one
_PIECE = 128  # positions that are looked at together, at least,
_PIECE_NUMBERS = 1 << 20  # and numbers of the keys of a layer
_DIMENSIONS = {3: ('NHC', 'HIO', 'NHC'), 4: ('NHWC', 'HWIO', 'NHWC')}


# Convolutions.


def convolve(inputs: jax.Array, kernel: jax.Array, strides: tuple,
             padding: tuple, dilation: tuple, groups: int = 1) -> jax.Array:
  """`conv.convolve`, whose gradients are forward convolutions too.

  The gradient that jax derives is slow inside a conditional (seen, not
  explained: other orders of axes seem to be brought to the fast one only
  outside), and a grouped one anywhere. Reverse mode only, first order.
  """
  return _convolve(inputs, kernel, strides, padding, dilation, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolve(inputs, kernel, strides, padding, dilation, groups):
  return _native(inputs, kernel, strides, padding, dilation, groups)


def _native(inputs, kernel, strides, padding, dilation, groups, spread=None):
  return lax.conv_general_dilated(
      inputs, kernel, strides, padding, lhs_dilation=spread,
      rhs_dilation=dilation, dimension_numbers=_DIMENSIONS[inputs.ndim],
      feature_group_count=groups)


def _convolve_backward(strides, padding, dilation, groups, residuals, outer):
  geometry = strides, padding, dilation, groups
  return (_input_gradient(*residuals, outer, *geometry),
          _kernel_gradient(*residuals, outer, *geometry))


_convolve.defvjp(
    lambda inputs, kernel, *geometry: (
        _native(inputs, kernel, *geometry), (inputs, kernel)),
    _convolve_backward)


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


# Causal attention of whole sequences.


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, near: jax.Array,
    key_mask: jax.Array, remat: bool = False,
    dropout: dropping.Dropout | None = None) -> jax.Array:
  """`causal.attention`, its products and their gradients in the fast forms.

  Keys and values lie as [B, H, D, L], so that each product has its small
  matrix on the left (`_product`), and what chunks share is not padded and
  summed over in the gradient (`_over_batch`, `_beginnings`).
  """
  value, dropout = dropping.of_values(value, dropout)
  batch, _, length, _ = query.shape
  chunk = near.shape[1]
  # Biases of the last chunk over all keys; earlier chunks see a part of it.
  last = jnp.pad(lax.stop_gradient(near), (
      (0, 0), (0, 0), (-(-length // chunk) * chunk - near.shape[2], 0)))

  def attend(index, q, k, v, b, b_near, mask):
    b = _over_batch(b, b_near, batch, b_near.shape[2])
    logits = _product(_LOGITS, q, k) + (b + mask[:, None, None])
    logits -= lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits)
    scale = 1.0 / weights.sum(axis=-1)[..., None]
    if dropout is not None:
      weights = dropout(weights, index)
    out = _product(_MIX, weights.astype(v.dtype), v)
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _over_batch(bias, near, batch, reach):
  """[H, Q, K] bias -> [batch, H, Q, K]; its gradient goes to `near` alone.

  `near`, [H, Q, reach], are the last columns of `bias` over again, those that
  depend on parameters; the batch is summed over as is fastest.
  """
  del near, reach
  return jnp.broadcast_to(bias[None], (batch,) + bias.shape)


def _sum_over_batch(batch, reach, _, grad):
  """A sum over a leading axis is much slower than slices added one by one; in
  a sharded batch, which is a large one, a slice lies on one device."""
  grad = grad[..., grad.shape[-1] - reach:]
  if batch > _MOST_SLICES:
    return None, grad.sum(axis=0)
  return None, functools.reduce(jnp.add, [grad[i] for i in range(batch)])


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


_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
_LOGITS = 'bhqd,bhdk->bhqk'  # queries and keys
_MIX = 'bhqk,bhdk->bhqd'  # probabilities and values


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(sums, rows, columns):
  """`sums` of a [B, H, Q, ...] and a [B, H, D, K], as float32.

  The gradient is the usual one, with a small matrix on the left in both of its
  products: XLA:CPU is slow where it has to transpose the large one.

  Args:
    sums: _LOGITS or _MIX.
    rows: [B, H, Q, D] queries of _LOGITS, [B, H, Q, K] probabilities of _MIX.
    columns: [B, H, D, K] keys or values.

  Returns:
    [B, H, Q, K] of _LOGITS, [B, H, Q, D] of _MIX.
  """
  return _wide(sums, rows, columns)


def _product_backward(sums, operands, grad):
  rows, columns = operands
  if sums == _LOGITS:
    back, small, large = _MIX, rows, grad
  else:
    back, small, large = _LOGITS, grad, rows
  # Where both operands are summed over their rows a second thread gains
  # nothing; with the small one transposed beforehand it does.
  small = lax.optimization_barrier(small.swapaxes(2, 3))
  return (_wide(back, grad, columns).astype(rows.dtype),
          _wide('bhdq,bhqk->bhdk', small, large).astype(columns.dtype))


_product.defvjp(
    lambda sums, *operands: (_product(sums, *operands), operands),
    _product_backward)


# Decoding, one position at a time.


def cached_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array,
    near: tuple, near_bias: jax.Array, seen: jax.Array) -> jax.Array:
  """`causal.cached_attention`, at as much of the cache as is filled.

  By pieces, where the cache is large enough for that to pay. On an accelerator
  the loop, whose length is known to the device alone, would wait for the host.
  """
  rows, heads, width, size = key.shape
  piece = max(_PIECE, _PIECE_NUMBERS // (rows * heads * width))
  result = _look(query, near[0].swapaxes(2, 3), near[1], near_bias)
  if 3 * piece > size:
    result = _together(result, _look(query, key, value, bias))
  else:

    def look(index, result):
      first = index * piece
      start = jnp.minimum(first, size - piece)  # where a slice can begin
      part = lambda x, axis: _slice(x, start, piece, axis)
      again = jnp.where(start + jnp.arange(piece) < first, biases.NEGATIVE, 0.0)
      return _together(result, _look(
          query, part(key, 3), part(value, 2), part(bias, 2) + again))

    result = lax.fori_loop(0, (seen + piece - 1) // piece, look, result)
  _, total, mixed = result
  return (mixed / total[..., None]).astype(query.dtype)


def _slice(x, start, size, axis):
  """A slice of one axis; of bfloat16 as the bits that it is.

  XLA:CPU slices no bfloat16: it would first make a float32 copy of all of `x`.
  """
  if x.dtype != jnp.bfloat16:
    return lax.dynamic_slice_in_dim(x, start, size, axis)
  bits = lax.bitcast_convert_type(x, jnp.uint16)
  bits = lax.dynamic_slice_in_dim(bits, start, size, axis)
  return lax.bitcast_convert_type(bits, jnp.bfloat16)


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


def narrow_product(x: jax.Array, matrix: jax.Array, dtype) -> jax.Array:
  """`packed.narrow_product`, the matrix first and never one row alone.

  One row takes XLA's path for vectors, which first makes a wide copy of the
  matrix (slower than two rows); and with the matrix first, that one is read as
  it lies while the few rows are packed, instead of the reverse. Without the
  barrier XLA takes out the transposition, and so turns the product round.
  """
  rows = x.reshape(-1, x.shape[-1])
  count = len(rows)
  if count == 1:
    rows = jnp.pad(rows, ((0, 1), (0, 0)))
  total = lax.optimization_barrier(lax.dot_general(
      matrix, rows, (((1,), (1,)), ((), ())), preferred_element_type=dtype))
  return total.T[:count].reshape(x.shape[:-1] + (len(matrix),))


# Quantizers.


def sums_by_entry(ids: jax.Array, vectors: jax.Array,
                  size: int) -> tuple[jax.Array, jax.Array]:
  """`assignments.sums_by_entry`, each vector added where it belongs.

  A product with one-hot assignments takes fifty times as long. One after the
  other, so that this is deterministic too.
  """
  levels = jnp.arange(len(ids))[:, None]
  zeros = jnp.zeros((len(ids), size, vectors.shape[-1]))
  return (zeros[..., 0].at[levels, ids].add(1.0),
          zeros.at[levels, ids].add(vectors))


FORMS = {form.__name__: form for form in (
    convolve, attention, cached_attention, narrow_product, sums_by_entry)}
