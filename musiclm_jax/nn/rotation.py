"""The rotation trick: a gradient through a quantizer that knows the code.

  straight-through   c + (e - stop(e)): every vector e of a cell hands on the
                     same gradient, wherever it lies
  rotation           (|c| / |e|) R e, with R the rotation that turns e to its
                     code c: the gradient comes back turned and scaled, so that
                     it keeps its angle to the vector

Forward both are the code. R and the scale are constants to the gradient
(arXiv:2410.06424).
"""

import jax
import jax.numpy as jnp

_EPSILON = 1e-12  # of a squared norm


def rotate(vectors: jax.Array, codes: jax.Array) -> jax.Array:
  """`codes`, with the gradient turned back to `vectors`.

  Args:
    vectors: [..., D] float, what was quantised.
    codes: [..., D] float, what it became; gets no gradient.

  Returns:
    [..., D]: the values of `codes`.
  """
  codes = jax.lax.stop_gradient(codes)
  fixed = jax.lax.stop_gradient(vectors)
  start, start_norm = _unit(fixed)
  end, end_norm = _unit(codes)
  middle, _ = _unit(start + end)
  turned = (vectors - 2.0 * _dot(vectors, middle) * middle
            + 2.0 * _dot(vectors, start) * end)
  turned *= end_norm / start_norm
  # The value without the rounding of the way there.
  return codes + (turned - jax.lax.stop_gradient(turned))


def _unit(x):
  """(x over its norm, the norm), both finite at 0."""
  norm = jnp.sqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _EPSILON)
  return x / norm, norm


def _dot(x, y):
  return jnp.sum(x * y, axis=-1, keepdims=True)
