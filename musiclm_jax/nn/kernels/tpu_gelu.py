"""The gated GELU of T5 1.1 and its gradient, for TPUs.

  gate, up [..., M]  ->  gelu(gate) * up  [..., M]

Computed where the products before it end, and there alone. Left to itself XLA
computes the GELU within each product that takes it, over again for every block of
that product, and the vector units keep the matrix units waiting: the gradient has
four such products. Barriers keep it from that.

The tanh form, and its gradient written out, which shares the tanh between both of
its products. Both are in float32.
"""

import math

import jax
import jax.numpy as jnp

_CUBIC = 0.044715
_SCALE = math.sqrt(2.0 / math.pi)


@jax.custom_vjp
def gated_gelu(gate: jax.Array, up: jax.Array) -> jax.Array:
  """`transformer.gated_gelu`; the barriers are the only difference in decoding."""
  return _value(gate, up)[0]


def _value(gate, up):
  x = gate.astype(jnp.float32)
  out = x * _half(x, x * x)[0] * up.astype(jnp.float32)
  return jax.lax.optimization_barrier(out.astype(gate.dtype)), (gate, up)


def _gradient(kept, grad):
  gate, up = kept
  x, grad = gate.astype(jnp.float32), grad.astype(jnp.float32)
  square = x * x
  half, tanh = _half(x, square)
  slope = half * (1.0 + x * (1.0 - tanh) * (
      _SCALE + 3.0 * _SCALE * _CUBIC * square))
  return jax.lax.optimization_barrier((
      (grad * up.astype(jnp.float32) * slope).astype(gate.dtype),
      (grad * x * half).astype(up.dtype)))


def _half(x, square):
  """gelu(x) / x, and the tanh that it is half of."""
  tanh = jnp.tanh(x * (_SCALE + _SCALE * _CUBIC * square))
  return 0.5 + 0.5 * tanh, tanh


gated_gelu.defvjp(_value, _gradient)

FORMS = {'gated_gelu': gated_gelu}
