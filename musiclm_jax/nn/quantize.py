"""Vector quantisation: k-means, residual codes, and RVQ trained by EMA.

Three layers, each usable alone:

  kmeans / residual_kmeans     centroids of a fixed set of vectors (w2v-BERT's
                               units, MuLan's RVQ, the codec's first codebooks)
  nearest / rvq_encode / rvq_decode     vectors <-> codes, nothing learned
  Rvq + quantize + ema_update  the codec's quantizer while it trains

All sums over vectors are matrix products with one-hot assignments: they are
deterministic on every backend, and under data parallelism they are global, so
that eight devices see the codebooks that one would.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

_CHUNK = 8192  # vectors whose distances to all centroids are held at once
_SEED_ROUNDS = 4


def nearest(vectors, centroids):
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
  return jnp.argmax(scores, axis=-1).astype(jnp.int32)


def kmeans(rng, vectors, k, iters=20):
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
    seeds = jnp.concatenate([seeds, vectors[far[jnp.arange(wanted) % len(far)]]])
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
    x, valid = inputs
    ids = nearest(x, centroids)
    one_hot = jax.nn.one_hot(ids, k) * valid[:, None]
    distances = jnp.sum(jnp.square(x - centroids[ids]), axis=-1)
    counts, sums = totals
    return (counts + one_hot.sum(0), sums + one_hot.T @ x), distances

  zeros = jnp.zeros((k,)), jnp.zeros((k, dim))
  (counts, sums), distances = jax.lax.scan(body, zeros, (chunks, real))
  return counts, sums, distances.reshape(-1)[:num_vectors]


def _draw_far(rng, distances, k):
  """min(k, N) distinct indices, drawn in proportion to squared distance."""
  keys = jnp.log(jnp.maximum(distances, 1e-30)) + jax.random.gumbel(
      rng, distances.shape)
  return jax.lax.top_k(keys, min(k, len(distances)))[1]


def residual_kmeans(rng, vectors, num_codebooks, k, iters=20):
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
  residual = jnp.asarray(vectors, jnp.float32)
  codebooks = []
  for level in range(num_codebooks):
    centroids = kmeans(jax.random.fold_in(rng, level), residual, k, iters)
    residual = residual - _nearest_vectors(residual, centroids)
    codebooks.append(centroids)
  return jnp.stack(codebooks)


@jax.jit
def _nearest_vectors(vectors, centroids):
  """[N, D] the centroid nearest to each vector, in chunks."""
  chunk = min(_CHUNK, len(vectors))
  ids = jax.lax.map(
      lambda v: nearest(v, centroids), vectors, batch_size=chunk)
  return centroids[ids]


def rvq_encode(vectors, codebooks):
  """Residual codes: level q quantises what levels before it left over.

  Args:
    vectors: [..., D] float.
    codebooks: [Q, K, D] float.

  Returns:
    [..., Q] int32 codes, 0..K-1.
  """
  def level(residual, codebook):
    ids = nearest(residual, codebook)
    return residual - codebook[ids], ids

  _, codes = jax.lax.scan(level, vectors, codebooks)
  return jnp.moveaxis(codes, 0, -1)


def rvq_decode(codes, codebooks):
  """Sum of the chosen entries; fewer levels than codebooks are allowed.

  Args:
    codes: [..., q] int32 with q <= Q, the first q levels.
    codebooks: [Q, K, D] float.

  Returns:
    [..., D] float.
  """
  num_levels = codes.shape[-1]
  if num_levels > len(codebooks):
    raise ValueError(
        f'codes have {num_levels} levels; the quantizer has '
        f'{len(codebooks)}.')
  total = 0.0
  for level in range(num_levels):
    total = total + codebooks[level][codes[..., level]]
  return total
