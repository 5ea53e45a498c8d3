"""Vector quantisation: k-means, residual codes, and RVQ trained by EMA.

Three layers, each usable alone:

  kmeans / residual_kmeans     centroids of vectors in memory (MuLan's RVQ, the
                               codec's first codebooks; more: nn/kmeans.py)
  nearest / rvq_encode / rvq_decode     vectors <-> codes, nothing learned
  RvqConfig, Rvq, quantize     the codec's quantizer while it trains

All sums over vectors are matrix products with one-hot assignments: they are
deterministic on every backend, and under data parallelism they are global, so
that eight devices see the codebooks that one would. A CPU adds the codec's up
one by one instead (nn/assignments.py).
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import assignments

_CHUNK = 8192  # vectors whose distances to all centroids are held at once
_SEED_ROUNDS = 4
_EPSILON = 1e-5


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
  # Two plain reductions instead of argmax, which XLA:CPU does one by one.
  ids = jnp.arange(len(centroids), dtype=jnp.int32)
  best = jnp.max(scores, axis=-1, keepdims=True)
  found = jnp.min(jnp.where(scores == best, ids, len(ids)), axis=-1)
  return jnp.minimum(found, len(ids) - 1)  # NaN equals nothing


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


def assign_chunk(vectors, valid, centroids):
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


def level_report(vectors, codebooks):
  """How well residual codebooks fit.

  Args:
    vectors: [N, D] NumPy.
    codebooks: [Q, K, D] NumPy.

  Returns:
    {'distortion': share of the squared distance to the mean that is left after
    each level, 'usage': share of each level's entries that `vectors` use}.
  """
  residual = vectors - vectors.mean(0)
  total = np.mean(np.sum(residual**2, -1))
  codes = np.concatenate([
      np.asarray(rvq_encode(jnp.asarray(part), codebooks))
      for part in np.array_split(vectors, -(-len(vectors) // 8192))])
  distortion, usage = [], []
  residual = vectors.copy()
  for level, codebook in enumerate(codebooks):
    residual -= codebook[codes[:, level]]
    distortion.append(float(np.mean(np.sum(residual**2, -1)) / total))
    usage.append(len(np.unique(codes[:, level])) / len(codebook))
  return dict(distortion=distortion, usage=usage)


@flax.struct.dataclass
class Rvq:
  """The state of a residual quantizer that learns by moving averages."""

  codebooks: jax.Array  # [Q, K, D] the entries in use: sums / counts
  counts: jax.Array  # [Q, K] average assignments per batch
  sums: jax.Array  # [Q, K, D] average sum of assigned vectors per batch


@flax.struct.dataclass
class Quantized:
  """What `quantize` returns."""

  vectors: jax.Array  # [B, T, D] the chosen levels' sum, straight-through
  codes: jax.Array  # [B, T, Q] int32, of every level
  residuals: jax.Array  # [Q, B * T, D] what each level was asked to quantise
  commitment: jax.Array  # scalar: distance of the vectors from their codes


def begin(codebooks):
  """An `Rvq` that begins with codebooks [Q, K, D]."""
  # One assignment each: the true averages take over within 1 / (1 - decay)
  # steps, and no entry is dead before it had its chance.
  return Rvq(codebooks, jnp.ones(codebooks.shape[:2]), codebooks)


@dataclasses.dataclass(frozen=True)
class RvqConfig:
  """How a residual quantizer learns.

  Attributes:
    decay: of the moving averages of counts and sums.
    dead_code_ratio: an entry whose average count falls under this share of the
      mean count is replaced by a random frame. SoundStream's threshold of 2
      means this for its own (unstated) batch; a share scales with any batch.
    dropout_rate: share of examples that use a random number of levels,
      1..Q; the rest use all.
    start_step: latents pass as they are before this step, while the codebooks
      follow them. Those of a network that knows nothing hold it to the little
      that they tell.
    init_iters: Lloyd iterations of the first codebooks.
    init_vectors: vectors that the first codebooks are fitted to, at least.
  """

  decay: float = 0.99  # paper
  dead_code_ratio: float = 0.1  # ours
  dropout_rate: float = 1.0  # paper
  start_step: int = 0  # ours
  init_iters: int = 10  # ours
  init_vectors: int = 8192  # ours

  def init(self, rng, vectors, num_codebooks, codebook_size):
    """An `Rvq` by residual k-means of `vectors` [N, D]."""
    return begin(residual_kmeans(
        rng, vectors, num_codebooks, codebook_size, self.init_iters))

  def draw_levels(self, rng, batch_size, num_codebooks):
    """[B] int32: how many levels each example uses, 1..Q."""
    level_rng, keep_rng = jax.random.split(rng)
    levels = jax.random.randint(
        level_rng, (batch_size,), 1, num_codebooks + 1)
    drop = jax.random.uniform(keep_rng, (batch_size,)) < self.dropout_rate
    return jnp.where(drop, levels, num_codebooks)

  def update(self, rng, rvq, quantized):
    """The `Rvq` after one batch: averages moved, dead entries replaced.

    Every level learns from every example, also from those whose decoder saw
    fewer levels (ours): the residual exists either way.

    Args:
      rng: PRNG key, chooses the frames that replace dead entries.
      rvq: the state that `quantized` was made with.
      quantized: a `Quantized` of the batch.

    Returns:
      The new `Rvq`.
    """
    num_codebooks, size, _ = rvq.codebooks.shape
    codes = quantized.codes.reshape(-1, num_codebooks).T
    residuals = jax.lax.stop_gradient(quantized.residuals)
    mean_count = codes.shape[1] / size
    counts, sums = jax.tree.map(
        self._average, (rvq.counts, rvq.sums),
        assignments.sums(codes, residuals, size))
    dead = counts < self.dead_code_ratio * mean_count
    picks = jax.vmap(
        lambda key: jax.random.randint(key, (size,), 0, codes.shape[1]))(
            jax.random.split(rng, num_codebooks))
    picked = jnp.take_along_axis(residuals, picks[..., None], axis=1)
    # A new entry starts with the mean count: it has time to prove itself.
    counts = jnp.where(dead, mean_count, counts)
    sums = jnp.where(dead[..., None], picked * mean_count, sums)
    return Rvq(sums / jnp.maximum(counts, _EPSILON)[..., None], counts, sums)

  def _average(self, old, new):
    return self.decay * old + (1.0 - self.decay) * new


def quantize(vectors, codebooks, num_levels):
  """Residual quantisation that training can differentiate.

  Args:
    vectors: [B, T, D] float.
    codebooks: [Q, K, D] float.
    num_levels: [B] int32, levels that each example uses (1..Q).

  Returns:
    A `Quantized`. The gradient of `vectors` passes straight through; the
    commitment is the squared distance to the sum of the first q levels, mean
    over features, frames and used levels. Codebooks get no gradient.
  """
  fixed = jax.lax.stop_gradient(vectors)
  codebooks = jax.lax.stop_gradient(codebooks)

  def level(residual, codebook):
    ids = nearest(residual, codebook)
    left = residual - codebook[ids]
    return left, (ids, residual, left)

  _, (codes, residuals, left) = jax.lax.scan(level, fixed, codebooks)
  used = jnp.arange(len(codebooks))[:, None] < num_levels
  last = jnp.take_along_axis(
      left, (num_levels - 1)[None, :, None, None], axis=0)[0]
  # fixed - left is the sum of the levels so far.
  distances = jnp.mean(jnp.square(vectors - (fixed - left)), axis=(2, 3))
  return Quantized(
      vectors=vectors - jax.lax.stop_gradient(last),
      codes=jnp.moveaxis(codes, 0, -1),
      residuals=residuals.reshape(len(codebooks), -1, vectors.shape[-1]),
      commitment=jnp.sum(distances * used) / jnp.sum(used))


def perplexity(counts):
  """[...] exp of the entropy of counts [..., K]: 1..K entries in even use."""
  share = counts / jnp.maximum(jnp.sum(counts, -1, keepdims=True), _EPSILON)
  entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-10)), -1)
  return jnp.exp(entropy)


def usage(codes, size):
  """How evenly a batch spreads over each codebook, whatever its length.

  The number of distinct entries in use, over the number that as many draws
  from an even distribution would be expected to hit: K (1 - (1 - 1/K)^N). Few
  frames cannot use many entries; this is near 1 where they use what they can.
  The moving counts cannot tell: an entry that is dead is soon replaced, and
  looks alive until it dies again.

  Args:
    codes: [..., Q] int32 codes of N frames.
    size: K, entries per codebook.

  Returns:
    [Q] float32, 0..1.
  """
  codes = codes.reshape(-1, codes.shape[-1]).T
  expected = size * (1.0 - (1.0 - 1.0 / size)**codes.shape[-1])
  used = jax.lax.map(
      lambda c: jnp.sum(jnp.any(jax.nn.one_hot(c, size, dtype=bool), axis=0)),
      codes)
  return jnp.minimum(used / expected, 1.0)
