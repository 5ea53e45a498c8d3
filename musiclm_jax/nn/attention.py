"""Bidirectional attention of the encoders; decoders have nn/causal.py.

This is the plain form; a platform may have others (nn/kernels/dispatch.py).
"""

import jax
import jax.numpy as jnp

from musiclm_jax.nn import biases
from musiclm_jax.nn import dropping
from musiclm_jax.nn.kernels import dispatch


@dispatch.operation
def attend(query: jax.Array, key: jax.Array, value: jax.Array,
           mask: jax.Array | None = None,
           drop: dropping.WeightDropout | None = None) -> jax.Array:
  """Every query over all keys: softmax(q . k / sqrt(D)) v.

  The softmax divides after the product with the values, [Tq, D] numbers rather
  than [Tq, Tk], and heads come before time: both are faster on CPU than the
  textbook's order.

  Args:
    query: [B, Tq, H, D].
    key: [B, Tk, H, D].
    value: [B, Tk, H, D].
    mask: [B, Tk] bool, True where there is something to look at; None: all.
    drop: of the weights, or None.

  Returns:
    [B, Tq, H, D].
  """
  query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  scores = (query / query.shape[-1]**0.5) @ jnp.swapaxes(key, 2, 3)
  if mask is not None:
    scores += jnp.where(mask, 0.0, biases.NEGATIVE)[:, None, None, :]
  largest = jax.lax.stop_gradient(scores.max(-1, keepdims=True))
  weights = jnp.exp(scores - largest)
  total = weights.sum(-1, keepdims=True)
  if drop is not None:
    weights = drop(weights)
  return jnp.swapaxes(weights @ value / total, 1, 2)
