"""Causal attention with T5's relative bias, a chunk of queries at a time.

  table -> distance_bias [H, L] -> near_biases [H, chunk, R] for all layers
  query, key, value [B, H, L, D], near biases -> attention -> [B, H, L, D]

Keys of the future are neither computed nor stored (ours); results are those of
the whole product. The products of the gradient are written out in the forms
that XLA:CPU is fast at; other platforms are given the plain ones.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

_MOST_SLICES = 64  # of a batch, that a gradient adds one by one
NEGATIVE = -1e9  # added to the logit of a key that must not be seen


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
  return (_wide(back, grad, columns).astype(rows.dtype),
          _over_queries(small, large).astype(columns.dtype))


_product.defvjp(
    lambda sums, *operands: (_product(sums, *operands), operands),
    _product_backward)


def _over_queries(small, large):
  """[B, H, Q, D] x [B, H, Q, K] -> [B, H, D, K] float32.

  Where both operands are summed over their rows XLA:CPU gains nothing from a
  second thread; with the small one transposed beforehand it does.
  """
  def transposed_first(small, large):
    small = jax.lax.optimization_barrier(small.swapaxes(2, 3))
    return _wide('bhdq,bhqk->bhdk', small, large)

  return jax.lax.platform_dependent(
      small, large, cpu=transposed_first,
      default=lambda *operands: _wide('bhqd,bhqk->bhdk', *operands))


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


def attention(query, key, value, near, key_mask, remat=False, dropout=None):
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
    logits = _product(_LOGITS, q, k) + (b + mask[:, None, None])
    logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
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
