"""What a cross entropy is made of, and never all of its logits.

  hidden [B, N, Q, D], tables [Q, K, D], labels [B, N, Q] -> Scores [B, N, Q]

Logits are K / D times as large as what they are products of: 0.56 GB for four
rows of the coarse stage at the paper's size, and their gradient as much. By
blocks of positions a few of them stand in memory at a time; the gradient
computes them again, one product in four more.

The blocks are of each row's positions, so that a batch that is split over
devices stays where it is.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from musiclm_jax.nn import partitioning
from musiclm_jax.nn.kernels import dispatch
from musiclm_jax.nn.kernels import platforms

P = jax.sharding.PartitionSpec


class Scores(NamedTuple):
  """Of the logits of each position, [B, N, Q] float32.

  Attributes:
    average: their mean.
    top: the largest; without a gradient.
    log_z: the logarithm of the sum of their exponentials.
    chosen: the label's.
  """

  average: jax.Array
  top: jax.Array
  log_z: jax.Array
  chosen: jax.Array


@dispatch.operation
def scores(hidden: jax.Array, tables: jax.Array, labels: jax.Array,
           block: int = 0) -> Scores:
  """The `Scores` of hidden @ table, of each of Q levels with its own table.

  Args:
    hidden: [B, N, Q, D], of the type that products are computed in; their sums
      are float32.
    tables: [Q, K, D]; cast to the type of `hidden`. Their gradient is summed in
      float32.
    labels: [B, N, Q] int, 0..K-1.
    block: positions of N at a time, the last ones may be fewer; 0, and N or
      more: all at once, by the gradient that jax derives.
  """
  if 0 < block < hidden.shape[1]:
    return _by_blocks(hidden, tables, labels, block)
  # The batch is behind the levels, as products leave it: nothing moves.
  found = _of_logits(level_logits(hidden, tables), jnp.moveaxis(labels, 2, 0))
  return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), found)


def level_logits(hidden: jax.Array, tables: jax.Array) -> jax.Array:
  """[B, N, Q, D], [Q, K, D] -> [Q, B, N, K] float32: a product a level."""
  return jnp.einsum('bnqd,qkd->qbnk', hidden, tables.astype(hidden.dtype),
                    preferred_element_type=jnp.float32)


def _of_logits(logits, labels):
  """[..., K] -> the `Scores` [...]."""
  top = jax.lax.stop_gradient(logits.max(axis=-1))
  log_z = top + jnp.log(jnp.exp(logits - top[..., None]).sum(axis=-1))
  chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  return Scores(logits.mean(axis=-1), top, log_z, chosen)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _by_blocks(hidden, tables, labels, block):
  return _forward(hidden, tables, labels, block)[0]


def _forward(hidden, tables, labels, block):
  cast = tables.astype(hidden.dtype)

  def local(hidden, tables, labels):
    part = lambda hidden, labels: _of_logits(
        level_logits(hidden, tables), labels.transpose(2, 0, 1))
    found = jax.lax.map(
        lambda parts: part(*parts), _split((hidden, labels), block))
    # [blocks, Q, B, block] each.
    return jax.tree.map(lambda x: _joined(
        x.transpose(0, 2, 3, 1), hidden.shape[1]), found)

  found = _of_own_rows(local, hidden, cast, labels)
  return found, (hidden, tables, labels, found.log_z)


def _backward(block, residuals, grads):
  hidden, tables, labels, log_z = residuals
  cast = tables.astype(hidden.dtype)

  def local(hidden, tables, labels, log_z, grads):
    ids = jnp.arange(tables.shape[1])

    def step(total, parts):
      hidden, *others = parts
      labels, log_z, average, chosen, whole = (
          x.transpose(2, 0, 1)[..., None] for x in others)
      outer = (whole * jnp.exp(level_logits(hidden, tables) - log_z) +
               average / len(ids) + jnp.where(ids == labels, chosen, 0.0))
      outer = outer.astype(hidden.dtype)
      total += jnp.einsum('qbnk,bnqd->qkd', outer, hidden,
                          preferred_element_type=jnp.float32)
      return total, jnp.einsum(
          'qbnk,qkd->bnqd', outer, tables,
          preferred_element_type=jnp.float32).astype(hidden.dtype)

    # Behind the last position gradients are 0, so that nothing comes of it.
    total, found = jax.lax.scan(
        step, jnp.zeros(tables.shape, jnp.float32), _split(
            (hidden, labels, log_z, grads.average, grads.chosen, grads.log_z),
            block))
    return _joined(found, hidden.shape[1]), total[None]

  of_hidden, of_tables = _of_own_rows(
      local, hidden, cast, labels, log_z, grads)
  # Over devices once, behind all blocks, and in float32.
  return of_hidden, of_tables.sum(axis=0).astype(tables.dtype), None


_by_blocks.defvjp(_forward, _backward)


def _of_own_rows(local, hidden, tables, *others):
  """`local` of each device's own rows of the batch, and of whole tables.

  Else the compiler would sum the tables' gradient over devices block by block.
  Tables that are split over classes stay so: the mesh axis that splits them is
  left to the compiler.

  Args:
    local: (hidden, tables, *others) -> arrays, which are put one behind the
      other by their first axis.
    hidden: [B, ...]; so `others`.
    tables: [Q, K, D].
  """
  rows, = platforms.splitting(hidden.shape[:1], (partitioning.BATCH,))
  if rows:
    own = P(rows)
    local = jax.shard_map(
        local, mesh=platforms.mesh(), axis_names=set(rows), check_vma=False,
        in_specs=(own, P()) + (own,) * len(others), out_specs=own)
  return local(hidden, tables, *others)


def _split(arrays, block):
  """[B, N, ...] each -> [blocks, B, block, ...], the last one's end zeros."""
  def split(x):
    more = -x.shape[1] % block
    x = jnp.pad(x, ((0, 0), (0, more)) + ((0, 0),) * (x.ndim - 2))
    x = x.reshape((x.shape[0], -1, block) + x.shape[2:])
    return jnp.moveaxis(x, 1, 0)

  return jax.tree.map(split, arrays)


def _joined(x, length):
  """[blocks, B, block, ...] -> [B, `length`, ...]."""
  x = jnp.moveaxis(x, 0, 1)
  return x.reshape((x.shape[0], -1) + x.shape[3:])[:, :length]
