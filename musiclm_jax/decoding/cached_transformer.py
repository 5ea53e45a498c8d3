"""Weights and caches of `nn.transformer` while a sequence is drawn.

  prefill [B, P, E] -> cache          once, for the prompt
  step    [B, E]    -> [B, E], recent for every token after it

What is computed is the transformer's; here is what it is computed from. Weights
are packed, perhaps into int8. The cache is large and only read within a block of
steps; a small one takes the block's own keys and values, and is put into the
large one when the block ends.
"""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from musiclm_jax.nn import causal
from musiclm_jax.nn import packed
from musiclm_jax.nn import transformer


def weights_from(params: dict, config: Any, int8: bool = False) -> dict:
  """Parameters of `transformer.Transformer` -> those of the packed one.

  Args:
    params: of the stack.
    config: its size and compute type.
    int8: store matrices in int8.
  """
  dtype = jnp.dtype(config.dtype)
  return transformer.packed_params(
      params, config,
      packed.quantized if int8 else lambda matrix: matrix.astype(dtype))


def empty_recent(config: Any, batch: int, length: int) -> tuple:
  """The block's (key, value) pairs, [B, H, length, D] zeros each.

  float32 whatever the compute type: XLA:CPU would make such a copy every step.
  """
  shape = (batch, config.num_heads, length, config.head_dim)
  zeros = jnp.zeros(shape, jnp.float32)
  return tuple((zeros, zeros) for _ in range(config.num_layers))


def grow(cache: tuple, length: int) -> tuple:
  """The cache with room for `length` positions."""
  more = (0, length - cache[0][1].shape[2])
  return tuple((jnp.pad(k, ((0, 0), (0, 0), (0, 0), more)),
                jnp.pad(v, ((0, 0), (0, 0), more, (0, 0)))) for k, v in cache)


def append(cache: tuple, recent: tuple, start: jax.Array) -> tuple:
  """Puts a block of recent keys and values into the cache at `start`."""
  put = lax.dynamic_update_slice
  return tuple(
      (put(k, near_k.swapaxes(2, 3).astype(k.dtype), (0, 0, 0, start)),
       put(v, near_v.astype(v.dtype), (0, 0, start, 0)))
      for (k, v), (near_k, near_v) in zip(cache, recent))


def prefill(weights: dict, config: Any, x: jax.Array,
            key_mask: jax.Array) -> tuple:
  """Runs [B, P, E] embedded inputs; returns the cache, P positions long."""
  return transformer.Transformer(config, packed=True).apply(
      {'params': weights}, x, key_mask, method='prefill')[1]


def reversed_bias(weights: dict, config: Any, length: int,
                  block: int) -> tuple[jax.Array, int]:
  """What `step` takes its biases from, for a cache of `length` positions."""
  bias = causal.distance_bias(
      weights['rel_embedding'], length, config.max_distance)
  return causal.reversed_bias(bias, block), length


def step(weights: dict, config: Any, cache: tuple, recent: tuple,
         x: jax.Array, position: jax.Array, start: jax.Array, bias: tuple,
         mask: jax.Array,
         near_mask: jax.Array | float = 0.0) -> tuple[jax.Array, tuple]:
  """One position.

  Args:
    weights: of `weights_from`.
    config: the stack's size.
    cache: pairs; only positions before `start` are looked at, which `mask`
      sees to.
    recent: pairs [B, H, S, D]: positions start .. start + S - 1, filled up to
      the one before `position`.
    x: [B, E] embedded input of this position.
    position: int32 scalar.
    start: int32 scalar, the first position of the block.
    bias: of `reversed_bias`.
    mask: [B, C] float32, 0 for keys to look at, NEGATIVE for others.
    near_mask: the same for the block's own keys, [S].

  Returns:
    ([B, E] float32 after the final norm, recent with this position filled in).
  """
  values, length = bias
  slice_of = lambda first, width: lax.dynamic_slice(
      values, (0, length - 1 - position + first), (config.num_heads, width))
  biases = (slice_of(0, cache[0][0].shape[3])[None] + mask[:, None],
            slice_of(start, recent[0][0].shape[2])[None] + near_mask)
  return transformer.Transformer(config, packed=True).apply(
      {'params': weights}, x, cache, recent, position - start, start, biases,
      method='step')
