"""Forms for TPUs of what decoding does at every position.

  query [B, H, D], cache of C positions -> cached_attention -> [B, H, D]

A step reads the cache and computes next to nothing, so it takes as long as the
reading. The plain form reads all C positions, and writes logits of them to main
memory; this one is one kernel, which takes the cache block by block (online
softmax, sums in float32) and fetches only the blocks that are filled: how many,
it knows from `seen` before it starts.

On a mesh of several devices the plain form computes: XLA can split that one
over devices, and not a kernel.

Positions are in the lanes, whatever the size of a head: keys [.., D, C] lie so,
and values [.., C, D] too, as XLA gives an array on a TPU the order of axes that
pads it least. To turn them into [.., D, C] is no copy there.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from musiclm_jax.nn.kernels import platforms

_LANES = 128
_POSITIONS = 512  # of the cache in a block, and
_BYTES = 1 << 20  # of its keys, at most
_HIDDEN = -1e30  # below any logit, hidden by a mask or not


def cached_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array,
    near: tuple, near_bias: jax.Array, seen: jax.Array) -> jax.Array:
  """`causal.cached_attention`, of the filled blocks of the cache alone."""
  if platforms.mesh().size > 1:
    return NotImplemented
  value = value.swapaxes(2, 3)
  if platforms.platform() == 'tpu':
    # Else XLA may bring all of the cache on the chip, filled or not.
    key, value = (
        pltpu.with_memory_space_constraint(x, pltpu.HBM) for x in (key, value))
  rows, heads, width, size = key.shape
  block = min(size, _POSITIONS)
  share = _heads_in_block(heads, width * block * key.dtype.itemsize)
  latest = near[0].shape[2]
  last = lambda seen: jnp.maximum(seen[0] - 1, 0) // block
  # A block that was the latest one too is not fetched again.
  at = lambda k, seen: jnp.minimum(k, last(seen))
  own = lambda *shape: pl.BlockSpec(
      (1, share, *shape), lambda b, h, k, seen: (b, h, 0, 0))
  cached = pl.BlockSpec((1, share, width, block),
                        lambda b, h, k, seen: (b, h, 0, at(k, seen)))
  one_bias = len(bias) == 1  # for all rows
  grid = pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(rows, heads // share, pl.cdiv(size, block)),
      in_specs=[
          own(1, width),
          cached, cached,
          pl.BlockSpec((1, share, 1, block), lambda b, h, k, seen: (
              0 if one_bias else b, h, 0, at(k, seen))),
          own(latest, width), own(latest, width),
          pl.BlockSpec((1, share, 1, latest),
                       lambda b, h, k, seen: (0, h, 0, 0))],
      out_specs=own(1, width),
      scratch_shapes=[
          pltpu.VMEM((share, 1, n), jnp.float32)
          for n in (_LANES, _LANES, width)])
  out = pl.pallas_call(
      functools.partial(_kernel, size=size, block=block), grid_spec=grid,
      out_shape=jax.ShapeDtypeStruct((rows, heads, 1, width), query.dtype),
      compiler_params=pltpu.CompilerParams(
          dimension_semantics=('parallel', 'parallel', 'arbitrary')),
      interpret=platforms.platform() != 'tpu', name='cached_attention',
  )(jnp.reshape(seen, 1).astype(jnp.int32), query[:, :, None], key, value,
    bias[:, :, None], *near, near_bias[:, :, None])
  return out[:, :, 0]


def _heads_in_block(heads, bytes_each):
  """A divisor of `heads`, as large as fits."""
  return max(n for n in range(1, heads + 1) if not heads % n and (
      n == 1 or n * bytes_each <= _BYTES))


def _kernel(seen, query, key, value, bias, near_key, near_value, near_bias, out,
            top, total, mixed, *, size, block):
  """A block of the cache, for some heads of a row.

  `top`, `total` and `mixed` are of all that was looked at so far: the largest
  logit, and relative to it the sum of the weights and the values' sum by them.
  """
  index = pl.program_id(2)

  @pl.when(index == 0)
  def _():
    logits = _product(query[0], near_key[0], 2) + near_bias[0]
    largest = logits.max(axis=-1, keepdims=True)
    weights = jnp.exp(logits - largest)
    top[...] = jnp.broadcast_to(largest, top.shape)
    total[...] = jnp.broadcast_to(
        weights.sum(axis=-1, keepdims=True), total.shape)
    mixed[...] = _product(weights, near_value[0], 1)

  @pl.when(index * block < seen[0])
  def _():
    # A last block may reach beyond the cache, and what lies there be anything.
    filled = jnp.minimum(seen[0], size) - index * block
    place = lambda shape, axis: jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    logits = _product(query[0], key[0], 1) + bias[0]
    logits = jnp.where(place(logits.shape, 2) < filled, logits, _HIDDEN)
    before = top[:, :, :1]
    largest = jnp.maximum(before, logits.max(axis=-1, keepdims=True))
    scale, weights = jnp.exp(before - largest), jnp.exp(logits - largest)
    values = jnp.where(place(value.shape[1:], 2) < filled, value[0], 0)
    top[...] = jnp.broadcast_to(largest, top.shape)
    total[...] = total[...] * scale + weights.sum(axis=-1, keepdims=True)
    mixed[...] = mixed[...] * scale + _product(weights, values, 2)

  @pl.when(index == pl.num_programs(2) - 1)
  def _():
    out[0] = (mixed[...] / total[:, :, :1]).astype(out.dtype)


def _product(rows, matrix, axis):
  """[H, 1, N] and [H, ...], N of which is `axis` -> [H, 1, M] float32.

  Rows in the type of the matrix, as the matrix units want both alike.
  """
  exact = matrix.dtype == jnp.float32
  return jax.lax.dot_general(
      rows.astype(matrix.dtype), matrix, (((2,), (axis,)), ((0,), (0,))),
      precision=jax.lax.Precision.HIGHEST if exact else None,
      preferred_element_type=jnp.float32)


FORMS = {'cached_attention': cached_attention}
