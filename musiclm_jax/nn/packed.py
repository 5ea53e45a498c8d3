"""Matrices as decoding stores them, [out, in] and perhaps in int8; their products.

A token at a time, decoding takes as long as it takes to read the weights. In
int8 (ours) each output has its scale; inputs are then rounded likewise, a scale
for each row, so that the product is one of integers.
"""

from typing import Any

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp

from musiclm_jax.nn.kernels import dispatch


@struct.dataclass
class Int8:
  """A matrix [out, in]: codes -127..127, each row of which has its scale."""

  codes: Any  # [out, in] int8
  scale: Any  # [out] float32


def quantized(rows: jax.Array) -> Int8:
  """[out, in] -> `Int8`, to the nearest step."""
  codes, scale = _rounded(rows)
  return Int8(codes, scale[:, 0])


def product(x: jax.Array, matrix: jax.Array | Int8) -> jax.Array:
  """[..., in] x [out, in] -> [..., out], in the type of `x`."""
  if isinstance(matrix, Int8):
    codes, scale = _rounded(x)
    total = narrow_product(codes, matrix.codes, jnp.int32)
    return (total * (scale * matrix.scale)).astype(x.dtype)
  if matrix.dtype == jnp.float32:
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (1,)), ((), ())))
  return narrow_product(x, matrix, jnp.float32).astype(matrix.dtype)


@dispatch.operation
def narrow_product(x: jax.Array, matrix: jax.Array, dtype: Any) -> jax.Array:
  """[..., in] x [out, in] of bfloat16 or int8 -> [..., out] of a wide type."""
  return lax.dot_general(x, matrix, (((x.ndim - 1,), (1,)), ((), ())),
                         preferred_element_type=dtype)


def _rounded(rows):
  """[..., N] -> ([..., N] int8, [..., 1] float32 scale)."""
  rows = rows.astype(jnp.float32)
  scale = jnp.maximum(jnp.abs(rows).max(-1, keepdims=True), 1e-9) / 127.0
  return jnp.round(rows / scale).astype(jnp.int8), scale
