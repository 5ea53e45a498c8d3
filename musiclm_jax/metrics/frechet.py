"""Frechet audio distance between two sets of embeddings.

Kilgour et al., "Frechet Audio Distance" (2019): the distance between normal
distributions with the sets' means and covariances,

  d = |m - m'|^2 + tr(S) + tr(S') - 2 tr((S S')^(1/2)).

It is biased: fewer embeddings give a larger distance, nearly linear in 1 / n
(Chong and Forsyth, 2020). `to_infinity` draws that line to its end. What is left
of the bias is the reference's own, so compare rows by one reference only.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import numpy as np
import numpy.typing as npt

from musiclm_jax.metrics import intervals

# What a covariance's lowest eigenvalue may be, as a share of the highest, before
# it is no covariance; the official code allows its root an imaginary part of so
# much.
_TOLERANCE = 1e-3
LEAST_TRACKS = 8  # ours: for the line in 1 / n, whose left end is half of them
_SIZES, _SUBSETS = 8, 10  # ours: points of that line, subsets of each size
_EXTRA_WIDE = 1_024  # ours: dimensions above which a root takes seconds


@dataclasses.dataclass(frozen=True)
class Moments:
  """Mean and covariance of a stream, float64.

  Attributes:
    count: vectors so far.
    mean: [D].
    scatter: [D, D], the sum of (x - mean) (x - mean)'.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def of(cls, vectors: npt.ArrayLike,
         weights: npt.ArrayLike | None = None) -> Moments:
    """Of [n, D] vectors, each as often as [n] whole `weights` say."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
      raise ValueError(
          f'vectors have shape {vectors.shape}; expected [n, D].')
    if weights is not None:
      used = np.flatnonzero(weights)
      vectors, weights = vectors[used], np.asarray(weights, np.float64)[used]
    size = vectors.shape[1]
    if not len(vectors):
      return cls(0, np.zeros(size), np.zeros((size, size)))
    if weights is None:
      mean = vectors.mean(0)
      centred = vectors - mean
      return cls(len(vectors), mean, centred.T @ centred)
    count = weights.sum()
    mean = weights @ vectors / count
    centred = np.sqrt(weights)[:, None] * (vectors - mean)
    return cls(int(count), mean, centred.T @ centred)

  def merged(self, other: Moments) -> Moments:
    """Those of both streams together (Chan, Golub and LeVeque, 1979).

    Workers may each take a share of the vectors: no large sum of squares is
    ever subtracted from another.
    """
    if self.mean.shape != other.mean.shape:
      raise ValueError(
          f'moments of {len(self.mean)} and of {len(other.mean)} dimensions; '
          f'expected one embedder.')
    count = self.count + other.count
    if not count:
      return self
    step = other.mean - self.mean
    mean = self.mean + step * (other.count / count)
    scatter = self.scatter + other.scatter + np.outer(step, step) * (
        self.count * other.count / count)
    return Moments(count, mean, scatter)

  @property
  def covariance(self) -> np.ndarray:
    """[D, D], over n - 1."""
    if self.count < 2:
      raise ValueError(
          f'a covariance of {self.count} vectors; expected 2 or more.')
    return self.scatter / (self.count - 1)

  @property
  def full_rank(self) -> bool:
    """Whether there are vectors enough for every dimension to vary freely."""
    return self.count > len(self.mean)


class Reference:
  """One side of the distance, with what is computed once for many others."""

  def __init__(self, moments: Moments):
    self.moments = moments
    covariance = moments.covariance
    self._trace = np.trace(covariance)
    values, vectors = np.linalg.eigh(covariance)
    _check(values)
    self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

  def distance(self, other: Moments) -> float:
    """The distance to `other`, of 0 and more.

    (S S')^(1/2) has the trace of (R S' R)^(1/2), where R is the symmetric root
    of S. That matrix is symmetric, so its eigenvalues are real, and singular
    covariances do no harm; a general matrix root loses digits there or fails,
    for which the official code adds 1e-7 to both diagonals and tries again.

    Raises:
      ValueError: other dimensions, fewer than two vectors, or no covariance.
    """
    if other.mean.shape != self.moments.mean.shape:
      raise ValueError(
          f'embeddings of {len(other.mean)} dimensions beside a reference of '
          f'{len(self.moments.mean)}; expected one embedder.')
    covariance = other.covariance
    values = np.linalg.eigvalsh(self._root @ covariance @ self._root)
    _check(values)
    shift = other.mean - self.moments.mean
    found = (shift @ shift + self._trace + np.trace(covariance)
             - 2 * np.sqrt(np.maximum(values, 0)).sum())
    return float(max(found, 0.0))


def distance(one: Moments, other: Moments) -> float:
  """The Frechet distance of two sets' moments; see `Reference.distance`."""
  return Reference(one).distance(other)


def _check(values):
  if not np.all(np.isfinite(values)):
    raise ValueError('a covariance has entries that are not finite.')
  if values[0] < -_TOLERANCE * max(values[-1], 1e-12):
    raise ValueError(
        f'a covariance has the eigenvalue {values[0]:g} beside {values[-1]:g}; '
        f'expected none below zero.')


def _one_thread():
  """Matrices of a few hundred rows are no work for several threads.

  On a machine with other work they wait for one another, for far longer than one
  of them takes.
  """
  import threadpoolctl  # pylint: disable=g-import-not-at-top
  return threadpoolctl.threadpool_limits(1)


@dataclasses.dataclass(frozen=True)
class Line:
  """Distances over 1 / n, drawn to its end.

  Attributes:
    value: where 1 / n is 0; it may be below zero by chance.
    half: mean distance of halves of the tracks.
    fit: R^2 of the line, 1 where all points lie on it.
    rest: what points lie off it, root mean square.
  """

  value: float
  half: float
  fit: float
  rest: float


def to_infinity(reference: Reference, vectors: np.ndarray,
                tracks: Sequence[str], seed: int = 0) -> Line:
  """The distance that infinitely many vectors would have.

  Args:
    reference: what the distance is to.
    vectors: [n, D].
    tracks: [n] names; vectors of one track are drawn together, at least
      LEAST_TRACKS of them.
    seed: of the subsets.

  Raises:
    ValueError: too few tracks.
  """
  _, group = np.unique(np.asarray(tracks, str), return_inverse=True)
  number = int(group.max(initial=-1)) + 1
  if number < LEAST_TRACKS:
    raise ValueError(
        f'{number} tracks; expected {LEAST_TRACKS} or more, from half of which '
        f'to all of them the line is drawn.')
  rng = np.random.default_rng(seed)
  sizes = np.unique(np.rint(
      1 / np.linspace(2 / number, 1 / number, _SIZES)).astype(int))
  points = []
  with _one_thread():
    for size in sizes:
      # The two ends of one shuffle have less in common than two draws.
      orders = [rng.permutation(number) for _ in range(-(-_SUBSETS // 2))]
      subsets = [o for order in orders for o in (order[:size], order[-size:])]
      for subset in subsets[:1 if size == number else _SUBSETS]:
        moments = Moments.of(vectors, np.isin(group, subset))
        points.append((size, 1 / moments.count, reference.distance(moments)))
  size, inverse, found = np.array(points).T
  slope, value = np.polyfit(inverse, found, 1)
  rest = found - (slope * inverse + value)
  spread = np.sum((found - found.mean())**2)
  return Line(float(value), float(found[size == sizes[0]].mean()),
              float(1 - rest @ rest / spread) if spread else 1.0,
              float(np.sqrt(np.mean(rest**2))))


def interval_draws(dimensions: int) -> int:
  """Bootstrap draws that are worth their time: a root grows with the cube."""
  return 100 if dimensions <= 256 else 40 if dimensions <= _EXTRA_WIDE else 0


def interval(
    reference: Reference, vectors: np.ndarray, tracks: Sequence[str],
    values: tuple[float, float], seed: int = 0
) -> tuple[tuple[float, float], tuple[float, float]] | None:
  """95 % intervals of the distance and of its extrapolation, over tracks.

  A resampled set has its tracks several times, as if it were smaller, which
  raises the distance: the raw quantiles would lie above the value itself. So
  the draws' spread around their own mean is laid around the value. Of each draw
  the extrapolation is the one from its two halves to the whole.

  Args:
    reference: what the distance is to.
    vectors: [n, D].
    tracks: [n] names; equal ones are drawn together.
    values: the distance, and its extrapolation.
    seed: of the draws.

  Returns:
    ((low, high), (low, high)); None where there are too few tracks, or so many
    dimensions that it would take too long.
  """
  draws = interval_draws(vectors.shape[1])
  group, picks = intervals.picks(tracks, seed, draws)
  number = picks.shape[1]
  if not draws or number < LEAST_TRACKS:
    return None
  found = []
  with _one_thread():
    for pick in picks:
      parts = [Moments.of(vectors, np.bincount(part, minlength=number)[group])
               for part in np.array_split(pick, 2)]
      halves = np.mean([reference.distance(part) for part in parts])
      whole = reference.distance(parts[0].merged(parts[1]))
      found.append((whole, 2 * whole - halves))
  whole, infinite = np.array(found).T
  return (intervals.around(whole, values[0]),
          intervals.around(infinite, values[1]))
