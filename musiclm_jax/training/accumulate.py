"""Gradient accumulation: a large batch in the memory of a small one.

For a loss that is a weighted mean over the rows of a batch. Micro-batches run
one after the other and their gradients are added, each with its share of the
weight, so the result is that of the whole batch (to float32 rounding; with
dropout, which draws anew for every micro-batch, in expectation).

Losses that compare the rows of a batch with each other are no such mean; for
contrastive ones there is training/gradient_cache.py.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from musiclm_jax.training import gradient_cache


def gradients(
    loss: Callable[..., Any], weight: Callable[[Any], jax.Array], params: Any,
    batch: Any, rng: jax.Array | None, microbatch: int
) -> tuple[Any, dict[str, jax.Array]]:
  """The gradient of `loss` by `params`, and its metrics.

  Args:
    loss: (params, rows, rng) -> (scalar, {name: scalar}): means over the rows,
      weighted by `weight`.
    weight: rows -> scalar, additive over rows.
    params: tree of float32.
    batch: {name: [B, ...]}.
    rng: a key, or None where the loss draws nothing.
    microbatch: rows at a time, a divisor of B; 0: all of them.

  Returns:
    (gradients, metrics), over the whole batch.
  """
  size = len(jax.tree.leaves(batch)[0])
  gradient_cache.check(size, microbatch)
  gradient = jax.grad(loss, has_aux=True)
  if microbatch in (0, size):
    return gradient(params, batch, rng)
  count = size // microbatch
  total = jnp.maximum(weight(batch), 1e-9)

  def add(sums, index):
    rows = gradient_cache.part(batch, index, count)
    key = None if rng is None else jax.random.fold_in(rng, index)
    share = weight(rows) / total
    return jax.tree.map(
        lambda s, x: s + share * x, sums, gradient(params, rows, key)), None

  shapes = jax.eval_shape(gradient, params, batch, rng)
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  return jax.lax.scan(add, zeros, jnp.arange(count))[0]
