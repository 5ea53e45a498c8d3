"""K-means over more vectors than memory holds.

  blocks of vectors ──> a file on disk (`VectorFile`)
                    ──> mean and deviation of each dimension (`moments`)
                    ──> a sample in memory: the first centroids
                    ──> Lloyd passes over all of them, in chunks, sums on the
                        device (`fit`)

Every pass is exact: the file holds each vector as it came, so the features are
computed once and read many times, and no centroid depends on the order or the
size of what is read at once. In memory are two chunks, the sample and the
centroids, whatever the number of vectors.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import shutil
import tempfile

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import lloyd as lloyd_lib

CHUNK = 8192  # vectors on the device at once
_EPS = 1e-6
_NEVER = -3e38  # below the key of every vector


class VectorFile:
  """[N, D] float32 on disk, without a name: a process that dies leaves nothing.

  Use as a context manager; `append` first, read afterwards.
  """

  def __init__(self, directory: str = ''):
    """An empty file.

    Args:
      directory: where it lies; '' is the system's folder for temporary files
        (TMPDIR).
    """
    self.directory = directory or tempfile.gettempdir()
    try:
      self._file = tempfile.TemporaryFile(dir=self.directory)
    except OSError as error:
      raise errors.UserError(
          f'no vectors can be kept in {self.directory} '
          f'({error.strerror}); choose another folder.') from error
    self._length = self.dim = 0

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._file.close()

  def __len__(self):
    return self._length

  def check_space(self, count: int, dim: int) -> None:
    """UserError where `count` vectors of `dim` would not fit on the disk."""
    wanted, free = count * dim * 4, shutil.disk_usage(self.directory).free
    if wanted > free:
      raise errors.UserError(
          f'{count:,} vectors of {dim} need {wanted / 1e9:.1f} GB in '
          f'{self.directory}, which has {free / 1e9:.1f} GB left; choose '
          f'another folder (TMPDIR) or fewer vectors.')

  def append(self, vectors: np.ndarray) -> None:
    """Adds [n, D]; UserError for NaN or infinity."""
    vectors = np.ascontiguousarray(vectors, '<f4')
    if vectors.ndim != 2 or (self.dim and vectors.shape[1] != self.dim):
      raise ValueError(
          f'vectors have shape {vectors.shape}; expected [n, '
          f'{self.dim or "D"}].')
    if not np.isfinite(vectors).all():
      raise errors.UserError(
          'the vectors to be clustered hold NaN or infinite values; the model '
          'that made them has diverged, or its audio is damaged.')
    self.dim = vectors.shape[1]
    vectors.tofile(self._file)
    self._length += len(vectors)

  def rows(self, which: slice | np.ndarray) -> np.ndarray:
    """[n, D] float32 copies of the vectors at a slice or at [n] indices."""
    self._file.flush()
    # A new map each time: pages that were read are given back with it.
    stored = np.memmap(self._file, '<f4', 'r', shape=(self._length, self.dim))
    return np.array(stored[which], np.float32)

  def chunks(self, size: int) -> Iterator[np.ndarray]:
    """[<= size, D] one after the other."""
    for start in range(0, self._length, size):
      yield self.rows(slice(start, start + size))


def moments(vectors: VectorFile,
            chunk: int = CHUNK) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each dimension of a `VectorFile`.

  Chunks are merged by the sums of squares about their means (Chan et al.,
  1979), in float64.

  Returns:
    ([D] float32, [D] float32, at least 1e-6).
  """
  count, mean, squares = 0, np.zeros(vectors.dim), np.zeros(vectors.dim)
  for block in vectors.chunks(chunk):
    here = block.mean(0, dtype=np.float64)
    apart = here - mean
    total = count + len(block)
    squares += np.square(block - here).sum(0) + np.square(apart) * (
        count * len(block) / total)
    mean += apart * (len(block) / total)
    count = total
  std = np.sqrt(squares / max(count, 1))
  return mean.astype(np.float32), np.maximum(std, _EPS).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Fitted:
  """Centroids and how they divide the vectors.

  Attributes:
    mean: [D] float32 of the vectors.
    std: [D] float32 of the vectors.
    centroids: [K, D] float32, in units of `std` about `mean`.
    counts: [K] vectors nearest to each.
    inertia: mean squared distance to the nearest, in those units.
    passes: how often all vectors were read for it.
    moved: centroids that had nothing nearest to them and were put elsewhere.
  """

  mean: np.ndarray
  std: np.ndarray
  centroids: np.ndarray
  counts: np.ndarray
  inertia: float
  passes: int
  moved: int

  def report(self) -> dict:
    """Flat figures.

    Returns:
      vectors; clusters; usage, the share of ids in use; entropy of the ids in
      nats; inertia over the vectors' mean squared length, 1 where the clusters
      tell nothing apart; passes; moved.
    """
    share = self.counts / self.counts.sum()
    used = share[share > 0]
    # A dimension that never moves has length 0, not 1.
    length = np.sum(self.std > _EPS)
    return dict(
        vectors=int(self.counts.sum()), clusters=len(share),
        usage=float(len(used) / len(share)),
        entropy_nats=float(-np.sum(used * np.log(used))),
        inertia=float(self.inertia / max(length, 1)),
        passes=self.passes, moved=self.moved)


def fit(vectors: VectorFile, k: int, seed: int = 0, iters: int = 20,
        tolerance: float = 1e-4, sample: int = 65_536,
        say: Callable[[str], None] | None = None) -> Fitted:
  """Standardises and clusters the vectors of a file; deterministic.

  The first centroids come from k-means in memory over a random sample. A
  centroid that nothing is nearest to moves to a vector drawn in proportion to
  its squared distance from its own.

  Args:
    vectors: a `VectorFile`, not empty.
    k: centroids; more than there are vectors repeats some.
    seed: of the sample and the draws.
    iters: Lloyd iterations over the sample, and again over all, at most.
    tolerance: the iterations over all end when the inertia falls by less than
      this share.
    sample: vectors to start from, at most.
    say: None or a function of a line of progress.

  Returns:
    A `Fitted`.
  """
  say = say or (lambda line: None)
  mean, std = moments(vectors)
  rng = jax.random.PRNGKey(seed)
  chosen = np.random.default_rng(seed).choice(
      len(vectors), min(sample, len(vectors)), replace=False, shuffle=False)
  start = (vectors.rows(np.sort(chosen)) - mean) / std
  centroids = lloyd_lib.kmeans(rng, start, k, iters)
  return lloyd(vectors, mean, std, centroids, rng, iters, tolerance, say)


def lloyd(vectors: VectorFile, mean: np.ndarray, std: np.ndarray,
          centroids: jax.Array | np.ndarray, rng: jax.Array, iters: int,
          tolerance: float = 0.0, say: Callable[[str], None] | None = None,
          chunk: int = CHUNK) -> Fitted:
  """Lloyd's iterations over a `VectorFile` from given centroids.

  Args:
    vectors: the file.
    mean: [D] subtracted from every vector.
    std: [D] that divides it then.
    centroids: [K, D] to start from.
    rng: PRNG key of the draws for empty clusters.
    iters: iterations, at most.
    tolerance: as in `fit`; 0 ends where nothing is gained.
    say: None or a function of a line of progress.
    chunk: vectors on the device at once; the result does not depend on it, but
      for rounding.

  Returns:
    A `Fitted`; its counts and inertia are those of its centroids.
  """
  centroids = jnp.asarray(centroids, jnp.float32)
  before, moved = np.inf, 0
  for number in range(iters + 1):
    seen = _pass(vectors, mean, std, centroids,
                 jax.random.fold_in(rng, number), chunk)
    counts = np.asarray(seen.counts)
    inertia = float(seen.distance) / len(vectors)
    if say:
      say(f'k-means, pass {number + 1} of at most {iters + 1}: inertia '
          f'{inertia / vectors.dim:.4f}, {np.mean(counts > 0):.0%} of the '
          f'clusters in use')
    empty = counts == 0
    gained = before - inertia
    if number == iters or (not empty.any() and gained <= tolerance * before
                           and number):
      break
    before = inertia
    centroids = seen.sums / jnp.maximum(seen.counts, 1)[:, None]
    if empty.any():
      fresh = vectors.rows(np.asarray(seen.far_rows)[:empty.sum()])
      centroids = centroids.at[np.flatnonzero(empty)].set((fresh - mean) / std)
      moved += int(empty.sum())
  return Fitted(mean, std, np.asarray(centroids), counts, inertia, number + 1,
                moved)


@flax.struct.dataclass
class _Seen:
  """What one pass has found so far."""

  counts: jax.Array  # [K] int32
  sums: jax.Array  # [K, D]
  distance: jax.Array  # [] sum of squared distances
  far_keys: jax.Array  # [K] the largest keys of the draw, best first
  far_rows: jax.Array  # [K] int32, whose they are


def _pass(vectors, mean, std, centroids, rng, chunk):
  """`_Seen` of all vectors."""
  k = len(centroids)
  seen = _Seen(jnp.zeros(k, jnp.int32), jnp.zeros_like(centroids),
               jnp.zeros(()), jnp.full(k, _NEVER), jnp.zeros(k, jnp.int32))
  start = 0
  for block in vectors.chunks(chunk):
    count = len(block)
    block = np.pad(block, ((0, chunk - count), (0, 0)))
    waiting, seen = seen, _step(
        seen, block, start, count, mean, std, centroids, rng)
    # Dispatch is asynchronous: without this, chunks would pile up.
    jax.block_until_ready(waiting)
    start += count
  return seen


@jax.jit
def _step(seen, block, start, count, mean, std, centroids, rng):
  """Adds the first `count` of [chunk, D] vectors, numbered from `start`."""
  place = jnp.arange(len(block))
  valid = place < count
  x = jnp.where(valid[:, None], (block - mean) / std, 0.0)
  counts, sums, distances = lloyd_lib.assign_chunk(x, valid, centroids)
  # The largest of log(weight) + Gumbel noise are a draw by weight, without
  # replacement. Noise by row, not by chunk: any chunking draws the same ones.
  rows = start + place
  noise = jax.vmap(
      lambda row: jax.random.gumbel(jax.random.fold_in(rng, row)))(rows)
  keys = jnp.where(
      valid, jnp.log(jnp.maximum(distances, 1e-30)) + noise, _NEVER)
  keys, best = jax.lax.top_k(
      jnp.concatenate([seen.far_keys, keys]), len(centroids))
  return _Seen(
      counts=seen.counts + counts.astype(jnp.int32), sums=seen.sums + sums,
      distance=seen.distance + jnp.sum(distances * valid), far_keys=keys,
      far_rows=jnp.concatenate([seen.far_rows, rows])[best])
