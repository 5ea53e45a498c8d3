"""Attention by cuDNN, through jax's own entry to it, for GPUs.

Chosen by name (MUSICLM_KERNELS=cudnn), not by itself: it has run on no GPU yet.
Unlike the kernels of tpu_attention.py cuDNN wants the bias as an array of [L, L],
one for all layers, and arrays in half precision.
"""

import jax
import jax.numpy as jnp

from musiclm_jax.nn import biases
from musiclm_jax.nn import dropping

_IMPLEMENTATION = 'cudnn'
_HALF = (jnp.bfloat16, jnp.float16)


def near_biases(bias: jax.Array, chunk: int = 256,
                flat: int | None = None) -> jax.Array:
  """`causal.near_biases` of all queries over all keys: [1, H, L, L]."""
  del chunk
  heads, length = bias.shape
  bias = biases.nearer(bias, flat)
  bias = jnp.pad(bias, ((0, 0), (0, length - bias.shape[1])))
  future = jnp.full((heads, length - 1), biases.NEGATIVE, bias.dtype)
  line = jnp.concatenate([bias[:, ::-1], future], axis=1)
  return biases.toeplitz(line, length, length)[None]


def attention(query: jax.Array, key: jax.Array, value: jax.Array,
              near: jax.Array, key_mask: jax.Array, remat: bool = False,
              dropout: dropping.Dropout | None = None) -> jax.Array:
  """`causal.attention`; float32, and weights dropped one by one, as plain jnp."""
  del remat
  value, dropout = dropping.of_values(value, dropout)
  if dropout is not None:
    return _plainly(query, key, value, near, key_mask, dropout)
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  out = jax.nn.dot_product_attention(
      query, key, value, near.astype(query.dtype),
      (key_mask == 0)[:, None, None], scale=1.0, is_causal=True,
      implementation=_IMPLEMENTATION if query.dtype in _HALF else 'xla')
  return out.swapaxes(1, 2)


def _plainly(query, key, value, near, key_mask, dropout):
  wide = dict(preferred_element_type=jnp.float32)
  logits = jnp.einsum('bhqd,bhkd->bhqk', query, key, **wide)
  weights = jax.nn.softmax(logits + near + key_mask[:, None, None])
  weights = dropout(weights).astype(value.dtype)
  return jnp.einsum('bhqk,bhkd->bhqd', weights, value, **wide).astype(
      value.dtype)


FORMS = {form.__name__: form for form in (near_biases, attention)}
