"""Biases by distance, and what else all forms of attention agree on."""

import jax
import jax.numpy as jnp

NEGATIVE = -1e9  # added to the logit of a key that must not be seen
OUT = 'attention_out'  # the name of attention's results, for `jax.checkpoint`


def nearer(bias: jax.Array, flat: int | None) -> jax.Array:
  """[H, L] biases by distance -> [H, R], of which there is one worth adding.

  Args:
    bias: [H, L].
    flat: distance from which on `bias` is the same; None: it never is. What all
      logits share changes no softmax, so that only nearer keys are left, with
      their biases relative to the one there.
  """
  if flat is None or flat >= bias.shape[1]:
    return bias
  return bias[:, :flat] - bias[:, flat:flat + 1]


def toeplitz(values: jax.Array, rows: int, columns: int) -> jax.Array:
  """[H, rows + columns - 1] -> [H, rows, columns]: v[column - row + rows - 1].

  Reshapes only, so that the gradient is a sum and not a scatter.
  """
  heads, width = values.shape
  tiled = jnp.broadcast_to(values[:, None], (heads, rows, width))
  flat = tiled.reshape(heads, -1)[:, rows - 1:rows - 1 + rows * (width - 1)]
  return flat.reshape(heads, rows, width - 1)[:, :, :columns]
