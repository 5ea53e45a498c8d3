"""Matrices that are the same along each diagonal, as biases by distance are."""

import jax
import jax.numpy as jnp


def matrices(values: jax.Array, rows: int, columns: int) -> jax.Array:
  """[H, rows + columns - 1] -> [H, rows, columns]: v[column - row + rows - 1].

  Reshapes only, so that the gradient is a sum and not a scatter.
  """
  heads, width = values.shape
  tiled = jnp.broadcast_to(values[:, None], (heads, rows, width))
  flat = tiled.reshape(heads, -1)[:, rows - 1:rows - 1 + rows * (width - 1)]
  return flat.reshape(heads, rows, width - 1)[:, :, :columns]
