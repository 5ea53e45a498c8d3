"""Gradients of a loss over a large batch, in the memory of a small one.

A contrastive loss compares every row of a batch with every other, but once the
rows are embedded it needs their embeddings alone. So (GradCache, Gao et al.,
2021):

  1. embed one micro-batch after the other, and keep nothing but embeddings
  2. the loss over all of them, and its gradient by each
  3. embed every micro-batch again, and carry its embeddings' gradient back

which costs one more forward pass. The result is that of the batch at once as
long as rows do not see each other (no BatchNorm) and randomness is a row's own
(a key for each row, not for each call).

Micro-batch j of n holds the rows j, j + n, j + 2 n, ...: a batch that is split
over devices is then split in time without any row changing its device.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from musiclm_jax import errors
from musiclm_jax.nn import partitioning


def check(batch_size: int, microbatch: int) -> None:
  """UserError unless micro-batches of `microbatch` rows make up the batch."""
  if microbatch < 0 or (microbatch and batch_size % microbatch):
    raise errors.UserError(
        f'microbatch is {microbatch} for a batch of {batch_size}; expected a '
        f'divisor of the batch, or 0 to embed it at once.')


def embed(function: Callable[[Any, Any], Any], params: Any, batch: Any,
          microbatch: int) -> Any:
  """`function(params, batch)`, a micro-batch at a time.

  Args:
    function: (params, batch) -> tree of arrays [b, ...] for any b rows.
    params: its first argument.
    batch: tree of arrays [B, ...], keys among them.
    microbatch: rows at a time, a divisor of B; 0: all of them.

  Returns:
    What `function` returns for all B rows, in their order.
  """
  size = len(jax.tree.leaves(batch)[0])
  check(size, microbatch)
  if microbatch in (0, size):
    return function(params, batch)
  count = size // microbatch
  parts = jax.lax.map(
      lambda j: function(params, part(batch, j, count)), jnp.arange(count))
  return jax.tree.map(
      lambda x: x.swapaxes(0, 1).reshape((size,) + x.shape[2:]), parts)


def value_and_grad(
    function: Callable[[Any, Any], Any], loss: Callable[[Any, Any], Any],
    microbatch: int) -> Callable[[Any, Any], Any]:
  """jax.value_and_grad of a loss of embeddings, with auxiliary values.

  Args:
    function: as `embed` takes it.
    loss: (params, embeddings) -> (scalar, auxiliary values).
    microbatch: rows at a time; 0: all of them.

  Returns:
    (params, batch) -> ((scalar, auxiliary values), gradient by the params).
  """
  def whole(params, batch):
    total = lambda params: loss(params, function(params, batch))
    return jax.value_and_grad(total, has_aux=True)(params)

  def cached(params, batch):
    embeddings = embed(function, params, batch, microbatch)
    result, (direct, wanted) = jax.value_and_grad(
        loss, argnums=(0, 1), has_aux=True)(params, embeddings)
    count = len(jax.tree.leaves(batch)[0]) // microbatch

    def add(grads, j):
      rows = part(batch, j, count)
      _, backward = jax.vjp(lambda params: function(params, rows), params)
      grad, = backward(part(wanted, j, count))
      return jax.tree.map(jnp.add, grads, grad), None

    grads, _ = jax.lax.scan(add, direct, jnp.arange(count))
    return result, grads

  def either(params, batch):
    size = len(jax.tree.leaves(batch)[0])
    check(size, microbatch)
    return (whole if microbatch in (0, size) else cached)(params, batch)

  return either


def part(batch: Any, j: int | jax.Array, count: int) -> Any:
  """Micro-batch j of `count`: rows j, j + count, ... of every array."""
  def rows(x):
    x = x.reshape((-1, count) + x.shape[1:])
    x = jax.lax.dynamic_index_in_dim(x, j, axis=1, keepdims=False)
    return partitioning.with_sharding_constraint(
        x, (partitioning.BATCH,) + (None,) * (x.ndim - 1))

  return jax.tree.map(rows, batch)
