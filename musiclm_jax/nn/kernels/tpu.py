"""Forms of operations for TPUs, each a kernel of Pallas.

What an operation is stands with the plain form of the same name, in nn/causal.py
and nn/attention.py; the kernels are in tpu_attention.py (whole sequences) and
tpu_decode.py (one position after another). Here arrays are brought into the order
that those want, and every device gets its own part: the compiler splits no kernel
over a mesh by itself.

A kernel runs on any machine as plain jax ("interpreted": slow, for tests) where
the program is not for a TPU.
"""

import functools

import jax
import jax.numpy as jnp

from musiclm_jax.nn import biases
from musiclm_jax.nn import dropping
from musiclm_jax.nn import partitioning
from musiclm_jax.nn.kernels import platforms
from musiclm_jax.nn.kernels import tpu_attention
from musiclm_jax.nn.kernels import tpu_decode
from musiclm_jax.nn.kernels import tpu_gelu

# Positions whose keys, queries, results and gradients lie in the memory beside the
# units, in float32 too.
_MOST = 16_384
_MOST_OF = {'TPU v4': 3_072}
# Of queries and of keys: {positions of a block: time for one weight, relatively},
# by the schedules of their compilers.
_BLOCKS = {256: 1.0, 384: 0.95}
# Chips on which larger blocks do not fit (v4) or are slower (v6e).
_SMALL_BLOCKS = 'TPU v4', 'TPU v6 lite'
# Registers that the heads of a program fill: a v6e has more to do at a time.
_WIDE = {'TPU v6 lite': 2}


def near_biases(bias: jax.Array, chunk: int = 256,
                flat: int | None = None) -> jax.Array:
  """`causal.near_biases` as `tpu_attention.attend` wants them.

  Returns:
    [H, near, block, block], keys by queries; `chunk` does not matter.
  """
  del chunk
  heads, length = bias.shape
  if length > _most():
    return NotImplemented
  bias = biases.nearer(bias, flat)
  block = _block(length)
  near = min(-(-length // block), (bias.shape[1] + block - 2) // block + 1)
  bias = jnp.pad(bias, ((0, 0), (0, max(0, near * block - bias.shape[1]))))
  future = jnp.full((heads, block - 1), biases.NEGATIVE, bias.dtype)
  line = jnp.concatenate([future, bias[:, :near * block]], axis=1)
  return jnp.stack([
      biases.toeplitz(
          line[:, away * block:(away + 2) * block - 1], block, block)
      for away in range(near)], axis=1)


def attention(query: jax.Array, key: jax.Array, value: jax.Array,
              near: jax.Array, key_mask: jax.Array, remat: bool = False,
              dropout: dropping.Dropout | None = None) -> jax.Array:
  """`causal.attention`, of biases that are this module's.

  There is nothing to `remat`: its gradient always computes probabilities again.
  """
  del remat
  if near.ndim != 4:
    return NotImplemented
  return _attend(query, key, value, near, key_mask, dropout, True)


def attend(query: jax.Array, key: jax.Array, value: jax.Array,
           mask: jax.Array | None = None,
           drop: dropping.WeightDropout | None = None) -> jax.Array:
  """`attention.attend`."""
  batch, length, heads, dim = query.shape
  if key.shape != query.shape or length > _most():
    return NotImplemented
  block = _block(length, causal=False)
  added = jnp.zeros((batch, length), jnp.float32)
  if mask is not None:
    added = jnp.where(mask, added, biases.NEGATIVE)
  query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  # A bias that is not looked at; its gradient is none.
  nothing = jnp.zeros((heads, 1, block, block), jnp.float32)
  out = _attend((query / dim**0.5).astype(query.dtype), key, value, nothing,
                added, drop, False)
  return jnp.swapaxes(out, 1, 2)


def _most():
  """Positions that fit on the chip that is traced for."""
  return _MOST_OF.get(_kind(), _MOST)


def _block(length, causal=True):
  """Positions of a block: least work, what is past the end included."""
  whole = -(-length // tpu_attention.LANES) * tpu_attention.LANES
  if whole <= min(_BLOCKS) or _kind() in _SMALL_BLOCKS:
    return min(whole, *_BLOCKS)

  def work(block):
    count = -(-length // block)
    pairs = count * (count + 1) / 2 if causal else count**2
    return pairs * block**2 * _BLOCKS[block]

  return min(_BLOCKS, key=work)


def _kind():
  """The chip that is traced for, '' where none is named."""
  return getattr(platforms.mesh().abstract_device, 'device_kind', '')


def _attend(query, key, value, bias, mask, dropout, causal):
  """[B, H, L, D] of every device's own sequences and heads."""
  mesh = platforms.mesh()
  rows, heads = platforms.splitting(
      query.shape[:2], (partitioning.BATCH, partitioning.HEADS))
  seeds, rate, factors = jnp.zeros(2, jnp.uint32), 0.0, None
  if isinstance(dropout, dropping.KeyDropout):
    factors = dropout.factors
  elif dropout is not None:
    seeds, rate = _words(dropout.rng)[:2], dropout.rate
  local = functools.partial(_of_device, causal, rate, rows, heads)
  if mesh.size > 1:
    P = jax.sharding.PartitionSpec
    spec = P(rows, heads)
    local = jax.shard_map(
        local, mesh=mesh, out_specs=spec, check_vma=False,
        in_specs=(P(), spec, spec, spec, P(heads), P(rows), spec))
  return local(seeds, query, key, value, bias, mask, factors)


def _words(rng):
  """[n] uint32, a key's own."""
  typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
  return jax.random.key_data(rng) if typed else rng


def _of_device(causal, rate, rows, heads, seeds, query, key, value, bias, mask,
               factors):
  """What one device computes; `rows` and `heads` are the axes that split both."""
  batch, count, length, dim = query.shape
  first = lambda axes, size: jnp.uint32(
      size * (jax.lax.axis_index(axes) if axes else 0))
  seeds = jnp.concatenate([seeds, jnp.stack(
      [first(rows, batch), first(heads, count)])])
  size = tpu_attention.head_size(dim)
  fill = max(1, tpu_attention.LANES // size)
  together = fill * (_WIDE.get(_kind(), 1) if length <= _most() // 2 else 1)
  # More than fill a register only where no head of zeros comes of it.
  together = min(count, fill if count % together else together)
  plan = tpu_attention.Plan(
      length, size, together, bias.shape[-1], bias.shape[1] if causal else 0,
      causal, rate, platforms.platform() != 'tpu')
  more = -count % plan.heads

  def joined(x):
    x = jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, size - dim)))
    return x.swapaxes(1, 2).reshape(batch, length, -1)

  bias = jnp.pad(bias, ((0, more), (0, 0), (0, 0), (0, 0)))
  if factors is not None:
    factors = jnp.pad(factors, ((0, 0), (0, more), (0, 0)))
  out = tpu_attention.attend(
      plan, seeds, joined(query), joined(key), joined(value), bias, mask,
      factors)
  out = out.reshape(batch, length, count + more, size)
  return out[:, :, :count, :dim].swapaxes(1, 2)


FORMS = tpu_decode.FORMS | tpu_gelu.FORMS | {
    form.__name__: form for form in (near_biases, attention, attend)}
