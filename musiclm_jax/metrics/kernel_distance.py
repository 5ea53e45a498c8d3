"""Kernel audio distance: the unbiased squared MMD of two sets of embeddings.

Chung et al., "KAD: No More FAD!" (2025). With the Gaussian kernel
k(x, y) = exp(-|x - y|^2 / (2 b^2)), whose bandwidth b is the median distance
between vectors of the reference,

  100 * (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),   x != x', y != y'.

It assumes no normal distribution, needs few vectors, and has no bias from their
number; so it is around 0, and as often below, where the sets are alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musiclm_jax import errors
from musiclm_jax.metrics import intervals

SCALE = 100.0  # as the authors' toolkit prints it
_BLOCK = 1_024  # rows of a kernel matrix that are in memory at once
_BANDWIDTH_VECTORS = 4_000  # ours: 8 million distances place a median well


class Reference:
  """One side of the distance, with what is computed once for many others.

  Attributes:
    vectors: [m, D] float64.
    bandwidth: of the kernel.
  """

  def __init__(self, vectors: npt.ArrayLike, seed: int = 0,
               bandwidth: float | None = None):
    """A reference of [m, D] vectors, two or more.

    Args:
      vectors: [m, D].
      seed: of the vectors that the bandwidth is measured on, where there are
        more than 4,000.
      bandwidth: in place of the median distance.

    Raises:
      UserError: half of the vectors are equal.
      ValueError: fewer than two.
    """
    self.vectors = _checked(vectors)
    self.bandwidth = bandwidth or median_distance(self.vectors, seed)
    if not self.bandwidth > 0:
      raise errors.UserError(
          'half of the reference\'s vectors are equal, so that there is no '
          'distance to measure by; expected different recordings.')
    size = len(self.vectors)
    self._own = (sum(block.sum() for _, block in self._kernels(
        self.vectors, self.vectors)) - size) / (size * (size - 1))

  def _kernels(self, one, other) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, [rows, m] kernels) of [n, D] and [m, D], in blocks."""
    squares = np.einsum('md,md->m', other, other)
    for start in range(0, len(one), _BLOCK):
      rows = one[start:start + _BLOCK]
      apart = np.einsum('nd,nd->n', rows, rows)[:, None] + squares
      apart -= 2 * rows @ other.T
      np.maximum(apart, 0, out=apart)
      yield start, np.exp(apart / (-2 * self.bandwidth**2))

  def distance(self, vectors: npt.ArrayLike) -> float:
    """100 times the unbiased squared MMD to [n, D] vectors, two or more."""
    vectors = self._like(vectors)
    size = len(vectors)
    own = sum(block.sum() for _, block in self._kernels(vectors, vectors))
    across = sum(
        block.sum() for _, block in self._kernels(vectors, self.vectors))
    return self._put_together(own - size, across, size)

  def _put_together(self, own, across, size):
    """The distance of sums of kernels; `own` is without the diagonal."""
    return SCALE * float(
        own / (size * (size - 1)) + self._own
        - 2 * across / (size * len(self.vectors)))

  def interval(self, vectors: npt.ArrayLike, tracks: Sequence[str],
               value: float, seed: int = 0, draws: int = intervals.DRAWS
               ) -> tuple[float, float] | None:
    """95 % interval of `distance`, by resampling the vectors' tracks.

    A track that is drawn twice is not compared with itself: the kernels between
    its copies are 1, which would raise the distance.

    Args:
      vectors: [n, D].
      tracks: [n] names; equal ones are drawn together.
      value: the distance.
      seed: of the draws.
      draws: how many.

    Returns:
      (low, high), or None for fewer than three tracks.
    """
    group, picks = intervals.picks(tracks, seed, draws)
    number = picks.shape[1]
    if number < 3:
      return None
    order = np.argsort(group, kind='stable')
    group = group[order]
    between, across = self._by_track(self._like(vectors)[order], group)
    sizes = np.bincount(group).astype(float)
    within = np.diag(between) - sizes  # without each vector's 1 with itself
    apart = between - np.diag(np.diag(between))
    times = np.stack([np.bincount(pick, minlength=number) for pick in picks])
    times = times.astype(float)
    size = times @ sizes
    # As many pairs as are counted: copies of a track make none.
    pairs = size**2 - times**2 @ sizes**2 + times @ (sizes * (sizes - 1))
    own = np.einsum('dt,dt->d', times @ apart, times) + times @ within
    some = pairs > 0
    found = own[some] / pairs[some] + self._own - 2 * (times @ across)[some] / (
        size[some] * len(self.vectors))
    return intervals.around(SCALE * found, value) if some.any() else None

  def _by_track(self, vectors, group):
    """Kernels summed over tracks: ([T, T] among them, [T] to the reference).

    `group` are the vectors' tracks, 0..T-1 in ascending order.
    """
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    between = np.zeros((len(starts), len(starts)))
    across = np.zeros(len(starts))
    for start, block in self._kernels(vectors, vectors):
      np.add.at(between, group[start:start + len(block)],
                np.add.reduceat(block, starts, axis=1))
    for start, block in self._kernels(vectors, self.vectors):
      np.add.at(across, group[start:start + len(block)], block.sum(1))
    return between, across

  def _like(self, vectors):
    vectors = _checked(vectors)
    if vectors.shape[1] != self.vectors.shape[1]:
      raise ValueError(
          f'embeddings of {vectors.shape[1]} dimensions beside a reference of '
          f'{self.vectors.shape[1]}; expected one embedder.')
    return vectors


def distance(vectors: npt.ArrayLike, reference: npt.ArrayLike,
             bandwidth: float | None = None) -> float:
  """The distance of [n, D] vectors to [m, D]; see the module."""
  return Reference(reference, bandwidth=bandwidth).distance(vectors)


def median_distance(vectors: npt.ArrayLike, seed: int = 0) -> float:
  """Median Euclidean distance between different rows of [m, D] vectors."""
  from scipy.spatial import distance as distances  # pylint: disable=g-import-not-at-top
  vectors = _checked(vectors)
  if len(vectors) > _BANDWIDTH_VECTORS:
    vectors = vectors[np.random.default_rng(seed).choice(
        len(vectors), _BANDWIDTH_VECTORS, replace=False)]
  return float(np.median(distances.pdist(vectors)))


def _checked(vectors):
  vectors = np.asarray(vectors, np.float64)
  if vectors.ndim != 2 or len(vectors) < 2:
    raise ValueError(
        f'vectors have shape {vectors.shape}; expected [n, D], n 2 or more.')
  return vectors
