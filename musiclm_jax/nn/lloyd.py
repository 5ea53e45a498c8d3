"""K-means of vectors in memory, and residual k-means.

  nearest            vectors -> the index of each one's centroid
  kmeans             one codebook
  residual_kmeans    codebooks one after the other, each of what is left over

More vectors than memory holds: nn/kmeans.py. All sums over vectors are matrix
products with one-hot assignments: deterministic on every backend.
"""

import functools

import jax
import jax.numpy as jnp

_CHUNK = 8192  # vectors whose distances to all centroids are held at once
_SEED_ROUNDS = 4


def nearest(vectors: jax.Array, centroids: jax.Array) -> jax.Array:
  """Index of the nearest centroid.

  Args:
    vectors: [..., D] float.
    centroids: [K, D] float.

  Returns:
    [...] int32 in 0..K-1; the lowest index where several are equally near.
  """
  # |v - c|^2 without |v|^2, which is the same for every c.
  scores = 2.0 * vectors @ centroids.T - jnp.sum(
      jnp.square(centroids), axis=-1)
  # Two plain reductions instead of argmax, which XLA:CPU does one by one.
  ids = jnp.arange(len(centroids), dtype=jnp.int32)
  best = jnp.max(scores, axis=-1, keepdims=True)
  found = jnp.min(jnp.where(scores == best, ids, len(ids)), axis=-1)
  return jnp.minimum(found, len(ids) - 1)  # NaN equals nothing


def kmeans(rng: jax.Array, vectors: jax.Array, k: int,
           iters: int = 20) -> jax.Array:
  """Lloyd's k-means; the same `rng` and vectors give the same centroids.

  Starts from distinct vectors drawn in four rounds, each in proportion to the
  squared distance from those drawn before (k-means++'s law, in blocks). A
  centroid that nothing is nearest to moves to a vector drawn by the same law,
  so that none stays unused while there are distinct vectors left. Distances
  are formed in chunks: memory is O(N D + chunk K).

  Args:
    rng: PRNG key.
    vectors: [N, D] float.
    k: number of centroids; more than N is allowed and repeats vectors.
    iters: Lloyd iterations.

  Returns:
    [k, D] float32.
  """
  if vectors.ndim != 2 or not len(vectors):
    raise ValueError(
        f'vectors have shape {vectors.shape}; expected [N, D] with N > 0.')
  return _kmeans(rng, jnp.asarray(vectors, jnp.float32), k, iters)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _kmeans(rng, vectors, k, iters):
  start_rng, rng = jax.random.split(rng)
  centroids = _seeds(start_rng, vectors, k)

  def iteration(i, centroids):
    counts, sums, distances = _assign(vectors, centroids)
    means = sums / jnp.maximum(counts, 1.0)[:, None]
    fresh = vectors[_draw_far(jax.random.fold_in(rng, i), distances, k)]
    empty = counts < 0.5
    rank = jnp.clip(jnp.cumsum(empty) - 1, 0, len(fresh) - 1)
    return jnp.where(empty[:, None], fresh[rank], means)

  return jax.lax.fori_loop(0, iters, iteration, centroids)


def _seeds(rng, vectors, k):
  """[k, D] starting centroids: distinct vectors, spread out."""
  num_vectors = len(vectors)
  distances = jnp.ones(num_vectors)
  seeds = vectors[:0]
  for part in range(_SEED_ROUNDS):
    wanted = (k * (part + 1)) // _SEED_ROUNDS - len(seeds)
    if not wanted:
      continue
    far = _draw_far(jax.random.fold_in(rng, part), distances, wanted)
    far = far[jnp.arange(wanted) % len(far)]
    seeds = jnp.concatenate([seeds, vectors[far]])
    distances = _assign(vectors, seeds)[2]
  return seeds


def _assign(vectors, centroids):
  """One pass over `vectors`: counts [k], sums [k, D], distances [N]."""
  num_vectors, dim = vectors.shape
  k = len(centroids)
  chunk = min(_CHUNK, num_vectors)
  num_chunks = -(-num_vectors // chunk)
  padding = num_chunks * chunk - num_vectors
  chunks = jnp.pad(vectors, ((0, padding), (0, 0))).reshape(
      num_chunks, chunk, dim)
  real = (jnp.arange(num_chunks * chunk) < num_vectors).reshape(
      num_chunks, chunk)

  def body(totals, inputs):
    counts, sums, distances = assign_chunk(*inputs, centroids)
    return (totals[0] + counts, totals[1] + sums), distances

  zeros = jnp.zeros((k,)), jnp.zeros((k, dim))
  (counts, sums), distances = jax.lax.scan(body, zeros, (chunks, real))
  return counts, sums, distances.reshape(-1)[:num_vectors]


def assign_chunk(
    vectors: jax.Array, valid: jax.Array,
    centroids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What Lloyd's iteration needs of some vectors.

  Args:
    vectors: [N, D] float.
    valid: [N] bool; the others count and add nothing.
    centroids: [K, D] float.

  Returns:
    (counts [K] and sums [K, D] of the vectors nearest to each centroid, [N]
    squared distance of each vector to its own).
  """
  ids = nearest(vectors, centroids)
  one_hot = jax.nn.one_hot(ids, len(centroids)) * valid[:, None]
  distances = jnp.sum(jnp.square(vectors - centroids[ids]), axis=-1)
  # In full: an accelerator's default would round the vectors.
  sums = jnp.matmul(one_hot.T, vectors, precision=jax.lax.Precision.HIGHEST)
  return one_hot.sum(0), sums, distances


def _draw_far(rng, distances, k):
  """min(k, N) distinct indices, drawn in proportion to squared distance."""
  keys = jnp.log(jnp.maximum(distances, 1e-30)) + jax.random.gumbel(
      rng, distances.shape)
  return jax.lax.top_k(keys, min(k, len(distances)))[1]


def residual_kmeans(rng: jax.Array, vectors: jax.Array, num_codebooks: int,
                    k: int, iters: int = 20) -> jax.Array:
  """Codebooks fitted one after the other, each to what the last left over.

  Args:
    rng: PRNG key.
    vectors: [N, D] float.
    num_codebooks: levels Q.
    k: entries per codebook.
    iters: Lloyd iterations per level.

  Returns:
    [num_codebooks, k, D] float32.
  """
  return _residual_kmeans(
      jax.random.split(rng, num_codebooks), jnp.asarray(vectors, jnp.float32),
      k, iters)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _residual_kmeans(rngs, vectors, k, iters):
  """One level per key: [Q, k, D]."""
  chunk = min(_CHUNK, len(vectors))

  def level(residual, rng):
    centroids = _kmeans(rng, residual, k, iters)
    ids = jax.lax.map(
        lambda v: nearest(v, centroids), residual, batch_size=chunk)
    return residual - centroids[ids], centroids

  return jax.lax.scan(level, vectors, rngs)[1]
