"""Causal attention with T5's relative bias, of whole sequences and step by step.

  table -> distance_bias [H, L] -> near_biases [H, chunk, R] for all layers
  query, key, value [B, H, L, D], near biases -> attention -> [B, H, L, D]
  query [B, H, D], cached keys and values -> cached_attention -> [B, H, D]

Queries are taken a chunk at a time, so that keys of the future are neither
computed nor stored (ours); results are those of the whole product. These are
the plain forms; a platform may have others (nn/kernels/dispatch.py). One that
wants its biases otherwise has a form of `near_biases` too.
"""

import functools
import math

import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import biases
from musiclm_jax.nn import dropping
from musiclm_jax.nn.kernels import dispatch

NEGATIVE = biases.NEGATIVE
_wide = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def relative_buckets(num_positions: int, num_buckets: int = 32,
                     max_distance: int = 128) -> np.ndarray:
  """The bucket of a key 0 .. num_positions-1 positions in the past.

  Causal T5 (all buckets belong to the past): half of the buckets hold one
  distance each, the others grow logarithmically up to `max_distance`; what lies
  farther shares the last one.

  >>> buckets = relative_buckets(200)
  >>> [int(buckets[n]) for n in (0, 1, 15, 16, 20, 64, 127, 128, 199)]
  [0, 1, 15, 16, 17, 26, 31, 31, 31]

  Returns:
    [num_positions] int32.
  """
  exact = num_buckets // 2
  distance = np.arange(num_positions)
  grown = exact + np.floor(
      np.log(np.maximum(distance, 1) / exact) /
      math.log(max_distance / exact) * (num_buckets - exact) + 1e-9)
  grown = np.minimum(grown, num_buckets - 1)
  return np.where(distance < exact, distance, grown).astype(np.int32)


def distance_bias(table: jax.Array, num_positions: int,
                  max_distance: int = 128) -> jax.Array:
  """[heads, buckets] table -> [heads, num_positions] bias of each distance."""
  buckets = relative_buckets(num_positions, table.shape[1], max_distance)
  return jnp.take(table, buckets, axis=1)


@dispatch.operation
def near_biases(bias: jax.Array, chunk: int = 256,
                flat: int | None = None) -> jax.Array:
  """The biases that a chunk of queries adds to the keys nearest to it.

  Of the distance alone, so that one array does for all chunks and layers.

  Args:
    bias: [H, L] float32, added to the logit of a key at each distance.
    chunk: queries at a time; 0 takes all of them at once.
    flat: distance from which on `bias` is the same; None: it never is. What all
      logits share changes no softmax, so that only the biases of nearer keys,
      relative to the one there, are added and have a gradient.

  Returns:
    [H, chunk, R]: of each query and the R keys up to the last query's; NEGATIVE
    for keys of the future. Keys farther than that have 0.
  """
  heads, length = bias.shape
  chunk = min(chunk or length, length)
  bias = biases.nearer(bias, flat)
  rows = -(-length // chunk) * chunk
  reach = min(rows, bias.shape[1] + chunk - 1)
  past = jnp.pad(bias, ((0, 0), (0, max(0, reach - bias.shape[1]))))
  future = jnp.full((heads, chunk - 1), NEGATIVE, bias.dtype)
  return biases.toeplitz(
      jnp.concatenate([past[:, :reach][:, ::-1], future], axis=1), chunk, reach)


@dispatch.operation
def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, near: jax.Array,
    key_mask: jax.Array, remat: bool = False,
    dropout: dropping.Dropout | None = None) -> jax.Array:
  """Softmax attention over the past, a chunk of queries at a time.

  Args:
    query: [B, H, L, D].
    key: [B, H, L, D].
    value: [B, H, L, D].
    near: [H, chunk, R] of `near_biases`; it says how long a chunk is.
    key_mask: [B, L] float32, 0 or NEGATIVE, added to the logits of each key.
    remat: whether the gradient recomputes the probabilities of each chunk.
    dropout: of the probabilities, or None.

  Returns:
    [B, H, L, D] in the type of `value`; softmax in float32.
  """
  value, dropout = dropping.of_values(value, dropout)
  batch, _, length, _ = query.shape
  _, chunk, reach = near.shape

  def attend(index, q, k, v, bias, mask):
    # A row for each sequence before it is padded: so the gradient sums over the
    # nearest keys alone.
    bias = jnp.broadcast_to(bias, (batch, *bias.shape))
    bias = jnp.pad(bias, (
        (0, 0), (0, 0), (0, 0), (k.shape[2] - bias.shape[3], 0)))
    logits = _wide('bhqd,bhkd->bhqk', q, k) + (bias + mask[:, None, None])
    logits -= jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits)
    scale = 1.0 / weights.sum(axis=-1)[..., None]
    if dropout is not None:
      weights = dropout(weights, index)
    out = _wide('bhqk,bhkd->bhqd', weights.astype(v.dtype), v)
    return (out * scale).astype(v.dtype)

  if remat:
    attend = jax.checkpoint(attend, static_argnums=(0,))
  parts = []
  for index, start in enumerate(range(0, length, chunk)):
    stop = min(start + chunk, length)
    # The chunk's own keys are the last of those that `near` reaches.
    own = reach - chunk
    bias = near[:, :stop - start, max(0, own - start):own + stop - start]
    parts.append(attend(
        index, query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop],
        bias, key_mask[:, :stop]))
  return checkpoint_name(jnp.concatenate(parts, axis=2), biases.OUT)


def reversed_bias(bias: jax.Array, block: int) -> jax.Array:
  """The biases that one query adds to its keys, wherever it stands.

  Args:
    bias: [H, L] float32, of each distance.
    block: positions that a query may stand beyond its keys.

  Returns:
    [H, 2 * L + block]: far to near, then the future. The biases of keys k,
    k + 1, ... at position p begin at `L - 1 - p + k`.
  """
  future = jnp.full((bias.shape[0], bias.shape[1] + block), NEGATIVE)
  return jnp.concatenate([bias[:, ::-1], future], axis=1)


@dispatch.operation
def cached_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array,
    near: tuple[jax.Array, jax.Array], near_bias: jax.Array,
    seen: jax.Array) -> jax.Array:
  """One query over two sets of keys: a cache, and the latest of all.

  Args:
    query: [B, H, D].
    key: [B, H, D, C] of the cache.
    value: [B, H, C, D] of the cache.
    bias: [B, H, C] float32, which hides what is not to be seen.
    near: the latest keys and values, [B, H, S, D] each.
    near_bias: [1, H, S] float32.
    seen: int32 scalar; `bias` hides the cache from here on.

  Returns:
    [B, H, D] in the type of `query`; softmax in float32.
  """
  del seen
  logits = jnp.concatenate([
      bias + _wide('bhd,bhdk->bhk', query, key),
      near_bias + _wide('bhd,bhkd->bhk', query, near[0])], axis=-1)
  weights = jax.nn.softmax(logits)
  far, latest = jnp.split(weights, [key.shape[3]], axis=-1)
  out = (_wide('bhk,bhkd->bhd', far, value) +
         _wide('bhk,bhkd->bhd', latest, near[1]))
  return out.astype(query.dtype)
