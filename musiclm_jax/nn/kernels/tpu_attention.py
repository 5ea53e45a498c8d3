"""Softmax attention by blocks for TPUs: no [L, L] array leaves the chip.

  query, key, value [B, L, H * D]  ->  attend  ->  [B, L, H * D]

A program has some heads of one sequence, all their keys and values, and a block
of queries; of the logits there is never more than one block, with the running
maximum and sum of each query (online softmax: Milakov and Gimelshein, 2018; Dao
et al., 2022). The gradient computes the logits again from what is kept of each
query, its log-partition. Far blocks of causal attention are taken two at a time, so
that the matrix units have something to do while one waits for its softmax.

Everything stands on its side, logits as [keys, queries]: what belongs to a query
is a row then, which spreads over the sublanes of a register at no cost, and which
lies in memory without padding. And a program takes as many heads as fill the 128
lanes of a register, two of size 64, or more, with the lanes of the others set to
zero where a product must not see them: no array is padded from 64 to 128 lanes.

The relative bias is one block for each distance of a block of keys to a block of
queries, up to where the bias no longer changes: [H, 2, 256, 256] at T5's 128
positions, for sequences of any length.

Weights are dropped by a hash of (seed, sequence, head, query, key), so the
gradient drops what the value did, and a mesh of any shape drops the same.
"""

import dataclasses
import functools
import json

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from musiclm_jax.nn import biases

LANES = 128
_LOWEST = -1e30  # below every logit, and less a logit of it still finite
_MATRIX = (((1,), (0,)), ((), ()))  # rows times columns
_ROWS = (((1,), (1,)), ((), ()))  # rows times rows
_VMEM = 64 * 2**20  # bytes that a program may take, at most


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a kernel is built for.

  Attributes:
    length: of the sequences.
    head_dim: of a head; divides LANES, or is a multiple of it.
    heads: of a program: as many as fill LANES, or more, or all that there are.
    block: queries and keys at a time, a multiple of LANES.
    near: blocks of keys, the query's own being the first, that have a bias.
    causal: whether keys after the query are hidden.
    rate: share of the weights that is dropped.
    interpret: whether it runs as plain jax, on any machine.
  """

  length: int
  head_dim: int
  heads: int
  block: int
  near: int
  causal: bool
  rate: float
  interpret: bool

  @property
  def width(self) -> int:
    """Lanes of a program."""
    return self.heads * self.head_dim

  @property
  def blocks(self) -> int:
    return -(-self.length // self.block)

  @property
  def padded(self) -> int:
    """Positions of all blocks."""
    return self.blocks * self.block

  @property
  def pairs(self) -> int:
    """Pairs of blocks that are looked at."""
    return (self.blocks * (self.blocks + 1) // 2 if self.causal else
            self.blocks**2)

  def loops(self, backward: bool) -> list[int]:
    """How often each loop of a kernel runs for one sequence, in their order."""
    count = range(self.blocks)
    if not self.causal:
      return [self.blocks, self.pairs, self.blocks] if backward else [self.pairs]
    far = [max(i + 1 - self.near, 0) for i in count]
    halves = lambda counts: [sum(n // 2 for n in counts),
                             sum(n % 2 for n in counts)]
    if backward:
      near = sum(min(self.near, i + 1) for i in count)
      # The last block of queries, where it is far, has a loop of its own.
      return [self.blocks, near, *halves([max(n - 1, 0) for n in far]),
              sum(n > 0 for n in far), self.blocks]
    # The pair of a block with itself stands outside of the value's loops.
    return [*halves(far), sum(min(self.near - 1, i) for i in count)]


def head_size(dim: int) -> int:
  """The least size that heads of `dim` fit in: of LANES a part, or a multiple."""
  whole = 1 << (dim - 1).bit_length()
  return whole if whole < LANES else -(-dim // LANES) * LANES


def _mixed(x):
  """MurmurHash3's finalizer (Appleby): uint32 -> uint32."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def kept(plan: Plan, seed: tuple, first_key: jax.Array,
         first_query: jax.Array) -> jax.Array:
  """Which weights of a block of keys by a block of queries are not dropped.

  Keys and queries are mixed well, once for each; a multiplication more is all
  that is done for a pair of them. One hash does for two weights, a half each:
  the key's, and that of the key half a block further on.

  Args:
    plan: its block and rate.
    seed: of the sequence and head, see `head_seed`.
    first_key: int32 scalar.
    first_query: int32 scalar.

  Returns:
    [block, block] bool.
  """
  places = lax.broadcasted_iota(jnp.int32, (1, plan.block), 1)
  numbers = lambda first: (places + first).astype(jnp.uint32)
  keys = _mixed(numbers(first_key) + seed[0])[:, :plan.block // 2]
  queries = _mixed(numbers(first_query) ^ seed[1])
  bits = (_column(keys) ^ queries) * jnp.uint32(0x9E3779B1)
  bits = bits ^ (bits >> 15)
  least = jnp.uint32(round(plan.rate * 2**16) << 16)
  return jnp.concatenate([bits >= least, bits << 16 >= least], axis=0)


def head_seed(seeds, row, head) -> tuple:
  """The seed of one sequence and head.

  Args:
    seeds: two uint32 of the layer, then uint32 numbers of the first sequence and
      head that this device has.
    row: of a sequence on this device.
    head: likewise.
  """
  row = row.astype(jnp.uint32) + seeds[2]
  head = head.astype(jnp.uint32) + seeds[3]
  return (seeds[0] + _mixed(row * jnp.uint32(0x9E3779B1) + head),
          seeds[1] ^ _mixed(head * jnp.uint32(0x9E3779B1) + ~row))


# The value.


def _forward_kernel(plan, seeds, q_ref, k_ref, v_ref, bias_ref, mask_ref,
                    factor_ref, out_ref, lse_ref, sums):
  """One block of queries of some heads."""
  head, row, index = (pl.program_id(i) for i in range(3))
  size, dim, heads = plan.block, plan.head_dim, plan.heads
  query = _on_side(q_ref[0])
  queries = [_of_head(plan, query, i, 0) for i in range(heads)]
  sums[...] = jnp.zeros_like(sums)

  def logits_of(place, bias, real):
    """[block, block] of each head."""
    there = pl.ds(place * size, size)
    keys, mask = real(k_ref[0, there], place), _column(mask_ref[0, :, there])
    found = [_product(keys, query, _MATRIX) + mask for query in queries]
    if bias is not None:
      found = [x + bias(i) for i, x in enumerate(found)]
    return found

  def look(places, carry, bias=None, real=_as_it_is):
    """Blocks of keys together: their products do not wait for each other."""
    logits = [logits_of(place, bias, real) for place in places]
    values = [real(v_ref[0, pl.ds(place * size, size)], place).astype(
        jnp.float32).T for place in places]
    found = []
    for i, (largest, total) in enumerate(carry):
      part = slice(i * dim, (i + 1) * dim)
      top = largest
      for block in logits:
        top = jnp.maximum(top, block[i].max(axis=0, keepdims=True))
      scale = jnp.exp(largest - top)
      total, added = scale * total, 0.0
      for place, block, value in zip(places, logits, values):
        weights = jnp.exp(block[i] - top)
        total += weights.sum(axis=0, keepdims=True)
        if plan.rate:
          seed = head_seed(seeds, row, head * heads + i)
          weights = jnp.where(
              kept(plan, seed, place * size, index * size), weights, 0.0)
        factor = factor_ref[0, 0, i:i + 1, pl.ds(place * size, size)]
        own = (value[part] * factor).astype(q_ref.dtype)
        added += _product(own, weights.astype(own.dtype), _MATRIX)
      sums[part] = sums[part] * scale + added
      found.append((top, total))
    return tuple(found)

  nothing = (jnp.full((1, size), _LOWEST), jnp.zeros((1, size)))
  carry = (nothing,) * heads
  real = functools.partial(_real, plan)
  if plan.causal:
    # Keys before the query's own block are never past the end.
    far = jnp.maximum(index - plan.near + 1, 0)
    pairs = far >> 1
    bias = lambda away: lambda i: bias_ref[i, away]
    carry = lax.fori_loop(0, pairs, lambda i, carry: look(
        (2 * i, 2 * i + 1), carry), carry)
    carry = lax.fori_loop(2 * pairs, far, lambda place, carry: look(
        (place,), carry), carry)
    carry = lax.fori_loop(far, index, lambda place, carry: look(
        (place,), carry, bias(index - place)), carry)
    carry = look((index,), carry, bias(0), real)
  else:
    carry = lax.fori_loop(0, plan.blocks, lambda place, carry: look(
        (place,), carry, None, real), carry)
  for i, (top, total) in enumerate(carry):
    part = slice(i * dim, (i + 1) * dim)
    sums[part] = sums[part] / (total * (1.0 - plan.rate))
    lse_ref[0, 0, i:i + 1] = _hidden(plan, top + jnp.log(total), index)
  out_ref[0] = sums[...].T.astype(out_ref.dtype)


def _backward_kernel(plan, seeds, q_ref, k_ref, v_ref, bias_ref, mask_ref,
                     factor_ref, grad_ref, lse_ref, out_ref, q_grad_ref, k_grad_ref,
                     v_grad_ref, bias_grad_ref, q_sums, k_sums, v_sums, shifts):
  """One block of keys of some heads; the queries' gradients add up in `q_sums`.

  `grad_ref` is that of the output over 1 - rate. `shifts`: of every query the
  product of the output with its gradient, which the softmax takes off the gradient
  of every weight.
  """
  head, row, place = (pl.program_id(i) for i in range(3))
  size, dim, heads = plan.block, plan.head_dim, plan.heads
  keys = _real(plan, k_ref[0], place)
  values = _real(plan, v_ref[0], place)
  turned = _on_side(keys)
  own_keys = [_of_head(plan, keys, i, 1) for i in range(heads)]
  factors = [_column(factor_ref[0, 0, i:i + 1]) for i in range(heads)]
  own_values = [(_of_head(plan, values, i, 1) * factor).astype(values.dtype)
                for i, factor in enumerate(factors)]
  mask = _column(mask_ref[0])
  k_sums[...] = jnp.zeros_like(k_sums)
  v_sums[...] = jnp.zeros_like(v_sums)

  def begin(index, _):
    q_sums[index] = jnp.zeros(q_sums.shape[1:])
    here = pl.ds(index * size, size)
    both = [_real(plan, ref[0, here], index).astype(jnp.float32).T
            for ref in (grad_ref, out_ref)]
    both = both[0] * both[1]
    for i in range(heads):
      shifts[index, i:i + 1] = both[i * dim:(i + 1) * dim].sum(
          axis=0, keepdims=True) * (1.0 - plan.rate)
    return 0

  # Loops, and no branches: of these it is known how often they run.
  lax.fori_loop(0, jnp.where(place == 0, plan.blocks, 0), begin, 0)
  if plan.near:
    @pl.when((place == 0) & (row == 0))
    def _():
      bias_grad_ref[...] = jnp.zeros_like(bias_grad_ref)

  def look(indices, away=None, real=_as_it_is):
    """Blocks of queries together: their products do not wait for each other."""
    parts = [part_of(index, away, real) for index in indices]
    for i in range(heads):
      part = slice(i * dim, (i + 1) * dim)
      v_sums[part] += sum(
          _product(grad[part], used[i], _ROWS) for _, grad, used, _ in parts)
      k_sums[part] += sum(
          _product(query[part], changes[i], _ROWS)
          for query, _, _, changes in parts)
      for index, (_, _, _, changes) in zip(indices, parts):
        q_sums[index, part] += _product(turned[part], changes[i], _MATRIX)
    return 0

  def part_of(index, away, real):
    """(queries and gradients on their side, weights and their gradients)."""
    here = pl.ds(index * size, size)
    query, grad = (real(ref[0, here], index) for ref in (q_ref, grad_ref))
    logits = [_product(own, query, _ROWS) + mask for own in own_keys]
    changes = [_product(own, grad, _ROWS) for own in own_values]
    if away is not None:
      logits = [x + bias_ref[i, away] for i, x in enumerate(logits)]
    weights = [jnp.exp(x - lse_ref[0, 0, i:i + 1, here])
               for i, x in enumerate(logits)]
    used = weights
    if plan.rate:
      keeps = [kept(plan, head_seed(seeds, row, head * heads + i), place * size,
                    index * size) for i in range(heads)]
      used = [jnp.where(k, w, 0.0) for k, w in zip(keeps, weights)]
      changes = [jnp.where(k, c, 0.0) for k, c in zip(keeps, changes)]
    changes = [w * (c - shifts[index, i:i + 1])
               for i, (w, c) in enumerate(zip(weights, changes))]
    if away is not None:
      for i, change in enumerate(changes):
        bias_grad_ref[i, away] += change
    cast = lambda arrays: [x.astype(keys.dtype) for x in arrays]
    return _on_side(query), _on_side(grad), cast(used), cast(changes)

  # The last block of queries may reach past the end; it has its own loop.
  real = functools.partial(_real, plan)
  if plan.causal:
    last = plan.blocks - 1
    first = place + plan.near
    pairs = jnp.maximum(last - first, 0) >> 1
    lax.fori_loop(0, jnp.minimum(plan.near, plan.blocks - place),
                  lambda away, _: look((place + away,), away, real), 0)
    lax.fori_loop(0, pairs, lambda i, _: look(
        (first + 2 * i, first + 2 * i + 1)), 0)
    lax.fori_loop(first + 2 * pairs, last, lambda index, _: look((index,)), 0)
    lax.fori_loop(jnp.maximum(first, last), plan.blocks,
                  lambda index, _: look((index,), None, real), 0)
  else:
    lax.fori_loop(0, plan.blocks, lambda index, _: look((index,), None, real), 0)
  k_grad_ref[0] = k_sums[...].T.astype(k_grad_ref.dtype)
  factor = jnp.concatenate([jnp.broadcast_to(
      factor_ref[0, 0, i:i + 1], (dim, size)) for i in range(heads)])
  v_grad_ref[0] = (v_sums[...] * factor).T.astype(v_grad_ref.dtype)

  def write(index, _):
    q_grad_ref[0, pl.ds(index * size, size)] = q_sums[index].T.astype(
        q_grad_ref.dtype)
    return 0

  last = place == plan.blocks - 1
  lax.fori_loop(0, jnp.where(last, plan.blocks, 0), write, 0)


def _product(left, right, sums):
  return lax.dot_general(left, right, sums, preferred_element_type=jnp.float32)


def _of_head(plan, x, index, axis):
  """`x`, zero where it belongs to other heads."""
  if plan.heads == 1:
    return x
  place = lax.broadcasted_iota(jnp.int32, x.shape, axis)
  first = index * plan.head_dim
  return jnp.where((place >= first) & (place < first + plan.head_dim), x,
                   jnp.zeros_like(x))


def _on_side(x):
  """Transposed, by way of float32."""
  return x.astype(jnp.float32).T.astype(x.dtype)


def _as_it_is(x, place):
  """What `_real` makes of a block that is not the last."""
  del place
  return x


def _real(plan, x, place):
  """A block of positions; zeros past the end, where anything may lie."""
  if plan.padded == plan.length:
    return x
  rows = lax.broadcasted_iota(jnp.int32, x.shape, 0) + place * plan.block
  return jnp.where(rows < plan.length, x, jnp.zeros_like(x))


def _column(row):
  """[1, N] -> [N, 1]."""
  return jnp.broadcast_to(row, (8, row.shape[1])).T[:, :1]


def _hidden(plan, lse, index):
  """Log-partitions, so large past the end that no weight is left there."""
  if plan.padded == plan.length:
    return lse
  place = lax.broadcasted_iota(jnp.int32, lse.shape, 1) + index * plan.block
  return jnp.where(place < plan.length, lse, -_LOWEST)


# Both, on arrays as they lie in memory.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(plan: Plan, seeds: jax.Array, query: jax.Array, key: jax.Array,
           value: jax.Array, bias: jax.Array, mask: jax.Array,
           factors: jax.Array | None = None) -> jax.Array:
  """Attention of all heads.

  Args:
    plan: a `Plan`.
    seeds: [4] uint32, see `head_seed`.
    query: [B, L, H * D], H a multiple of `plan.heads`.
    key: likewise.
    value: likewise.
    bias: [H, near, block, block] float32, keys by queries, where `plan.causal`:
      of queries so many blocks after the keys. Farther away nothing is added.
      Without `causal` [H, 0, block, block] and not looked at.
    mask: [B, L] float32, added to the logits of each key.
    factors: [B, H, L] float32, of the weights of each key, once they are
      normalised; None: 1.

  Returns:
    [B, L, H * D] in the type of `value`; sums in float32.
  """
  return _forward(plan, seeds, query, key, value, bias, mask, factors)[0]


def _forward(plan, seeds, query, key, value, bias, mask, factors):
  """(output, log-partitions [B, H / heads, heads, padded])."""
  batch, _, joined = query.shape
  groups, size = joined // plan.width, plan.block
  heads = lambda rows, at: pl.BlockSpec(
      (1, rows, plan.width), lambda g, b, i, *_: (b, at(i), g))
  out, lse = pl.pallas_call(
      functools.partial(_forward_kernel, plan),
      grid_spec=pltpu.PrefetchScalarGridSpec(
          num_scalar_prefetch=1, grid=(groups, batch, plan.blocks),
          in_specs=[
              heads(size, lambda i: i), heads(plan.padded, lambda i: 0),
              heads(plan.padded, lambda i: 0), _bias_spec(plan, bias),
              pl.BlockSpec((1, 1, plan.padded), lambda g, b, i, *_: (b, 0, 0)),
              pl.BlockSpec((1, 1, plan.heads, plan.padded),
                           lambda g, b, i, *_: (b, g, 0, 0))],
          out_specs=[
              heads(size, lambda i: i),
              pl.BlockSpec((1, 1, plan.heads, size),
                           lambda g, b, i, *_: (b, g, 0, i))],
          scratch_shapes=[pltpu.VMEM((plan.width, size), jnp.float32)]),
      out_shape=[
          jax.ShapeDtypeStruct(query.shape, value.dtype),
          jax.ShapeDtypeStruct((batch, groups, plan.heads, plan.padded),
                               jnp.float32)],
      compiler_params=_parameters(), interpret=plan.interpret,
      name='attention', metadata=_metadata(plan, query, False),
      cost_estimate=cost(plan, batch, groups * plan.heads, value.dtype),
  )(seeds, query, key, value, bias, _padded_mask(plan, mask),
    _padded_factors(plan, factors, batch, groups))
  return out, lse


def _kept_for_gradient(plan, seeds, query, key, value, bias, mask, factors):
  out, lse = _forward(plan, seeds, query, key, value, bias, mask, factors)
  out, lse = (checkpoint_name(x, biases.OUT) for x in (out, lse))
  return out, (seeds, query, key, value, bias, mask, factors, out, lse)


def _gradient(plan, kept_values, grad):
  seeds, query, key, value, bias, mask, factors, out, lse = kept_values
  batch, _, joined = query.shape
  groups, size = joined // plan.width, plan.block
  if plan.rate:
    grad = (grad.astype(jnp.float32) / (1.0 - plan.rate)).astype(grad.dtype)
  whole = pl.BlockSpec((1, plan.padded, plan.width),
                       lambda g, b, j, *_: (b, 0, g))
  part = pl.BlockSpec((1, size, plan.width), lambda g, b, j, *_: (b, j, g))
  row = pl.BlockSpec((1, 1, plan.heads, plan.padded),
                     lambda g, b, j, *_: (b, g, 0, 0))
  grads = pl.pallas_call(
      functools.partial(_backward_kernel, plan),
      grid_spec=pltpu.PrefetchScalarGridSpec(
          num_scalar_prefetch=1, grid=(groups, batch, plan.blocks),
          in_specs=[
              whole, part, part, _bias_spec(plan, bias),
              pl.BlockSpec((1, 1, size), lambda g, b, j, *_: (b, 0, j)),
              pl.BlockSpec((1, 1, plan.heads, size),
                           lambda g, b, j, *_: (b, g, 0, j)),
              whole, row, whole],
          out_specs=[whole, part, part, _bias_spec(plan, bias)],
          scratch_shapes=[
              pltpu.VMEM((plan.blocks, plan.width, size), jnp.float32),
              pltpu.VMEM((plan.width, size), jnp.float32),
              pltpu.VMEM((plan.width, size), jnp.float32),
              pltpu.VMEM((plan.blocks, plan.heads, size), jnp.float32)]),
      out_shape=[
          jax.ShapeDtypeStruct(query.shape, query.dtype),
          jax.ShapeDtypeStruct(key.shape, key.dtype),
          jax.ShapeDtypeStruct(value.shape, value.dtype),
          jax.ShapeDtypeStruct(bias.shape, bias.dtype)],
      compiler_params=_parameters(), interpret=plan.interpret,
      name='attention_gradient', metadata=_metadata(plan, query, True),
      cost_estimate=cost(
          plan, batch, groups * plan.heads, value.dtype, backward=True),
  )(seeds, query, key, value, bias, _padded_mask(plan, mask),
    _padded_factors(plan, factors, batch, groups), grad, lse, out)
  q_grad, k_grad, v_grad, bias_grad = grads
  return None, q_grad, k_grad, v_grad, bias_grad, None, None


attend.defvjp(_kept_for_gradient, _gradient)


def _bias_spec(plan, bias):
  return pl.BlockSpec((plan.heads, *bias.shape[1:]),
                      lambda g, b, i, *_: (g, 0, 0, 0))


def _padded_mask(plan, mask):
  """[B, L] -> [B, 1, padded], what is past the end being hidden."""
  return jnp.pad(mask, ((0, 0), (0, plan.padded - plan.length)),
                 constant_values=biases.NEGATIVE)[:, None]


def _padded_factors(plan, factors, batch, groups):
  """[B, H, L] -> [B, H / heads, heads, padded]."""
  if factors is None:
    return jnp.ones((batch, groups, plan.heads, plan.padded))
  factors = factors.reshape(batch, groups, plan.heads, plan.length)
  return jnp.pad(
      factors, ((0, 0), (0, 0), (0, 0), (0, plan.padded - plan.length)))


def _parameters():
  return pltpu.CompilerParams(
      dimension_semantics=('parallel', 'arbitrary', 'arbitrary'),
      vmem_limit_bytes=_VMEM)


def _metadata(plan, query, backward):
  """What preflight/schedule.py reads: which kernel it is, and how much of it."""
  sequences = query.shape[0] * query.shape[2] // plan.width
  fields = dict(
      dataclasses.asdict(plan), dtype=query.dtype.name, backward=backward,
      programs=sequences * plan.blocks,
      loops=[sequences * count for count in plan.loops(backward)])
  return dict(attention=json.dumps(fields))


def example(plan: Plan, dtype: str) -> tuple:
  """(a function with the value's kernel and the gradient's, its arguments).

  Of one sequence and as few heads as a program has; arguments as shapes.
  """
  shape = lambda *dims, dtype=jnp.float32: jax.ShapeDtypeStruct(dims, dtype)
  array = shape(1, plan.length, plan.width, dtype=jnp.dtype(dtype))
  rows = shape(1, plan.heads, plan.length)

  def run(seeds, query, key, value, bias, mask, factors):
    return jax.vjp(lambda *inputs: attend(
        plan, seeds, *inputs, mask, factors), query, key, value, bias)[1](query)

  return run, (
      shape(4, dtype=jnp.uint32), array, array, array,
      shape(plan.heads, max(1, plan.near), plan.block, plan.block),
      shape(1, plan.length), rows)


def cost(plan: Plan, batch: int, heads: int, dtype,
         backward: bool = False) -> pl.CostEstimate:
  """What a call computes and moves, counted from its blocks.

  The products of all pairs of blocks that are looked at: two of the value, five
  of the gradient. Bytes: every array once.
  """
  products = 5 if backward else 2
  logits = batch * heads * plan.pairs * plan.block**2
  itemsize = jnp.dtype(dtype).itemsize
  array = batch * plan.length * heads * plan.head_dim * itemsize
  rows = batch * heads * plan.padded * 4
  bias = heads * plan.near * plan.block**2 * 4
  masks = batch * plan.padded * 4
  moved = (8 * array + 2 * bias if backward else
           4 * array + bias) + 2 * rows + masks
  return pl.CostEstimate(
      flops=2 * products * plan.head_dim * logits, bytes_accessed=moved,
      transcendentals=logits)
