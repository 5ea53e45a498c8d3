"""MAUVE: how much of either set of embeddings the other has, too.

Pillutla et al., "MAUVE" (2021), on embeddings of sound as Huang et al. (2025)
use it. Both sets are quantised by one k-means; between their histograms P and Q
lies a curve of mixtures R = w P + (1 - w) Q,

  (exp(-c KL(Q || R)), exp(-c KL(P || R))),   0 <= w <= 1,

and the area under it is 1 for equal histograms and near 0 for disjoint ones.
Recordings against others of their kind do not reach 1: chance fills the bins.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import numpy as np
import numpy.typing as npt

from musiclm_jax.metrics import intervals

SCALE = 5.0  # c, paper
_PER_CLUSTER = 10  # paper: a tenth as many clusters as vectors
_MOST_CLUSTERS = 500  # paper
_MIXTURES = np.linspace(1e-6, 1 - 1e-6, 25)  # as the authors' package draws them
_RESTARTS, _ITERATIONS = 5, 100  # ours: the fit of least error is taken
_SHARE = 0.9  # as the authors' package: of the variance that is clustered by
DRAWS = 500


def from_histograms(one: npt.ArrayLike, other: npt.ArrayLike,
                    scale: float = SCALE) -> float:
  """The area under the curve of two histograms, in 0..1.

  Args:
    one: [K] counts or shares, of 0 and more.
    other: [K].
    scale: c; larger is stricter.

  Raises:
    ValueError: other shapes, or a histogram of nothing.
  """
  one, other = (np.asarray(h, np.float64) for h in (one, other))
  if one.ndim != 1 or one.shape != other.shape:
    raise ValueError(
        f'histograms have shapes {one.shape} and {other.shape}; expected [K].')
  if min(one.sum(), other.sum()) <= 0 or min(one.min(), other.min()) < 0:
    raise ValueError('a histogram has nothing in it, or counts below zero.')
  one, other = one / one.sum(), other / other.sum()
  weights = _MIXTURES[::-1, None]  # R goes from P to Q
  mixed = weights * one + (1 - weights) * other
  across = np.concatenate(([0.0], np.exp(-scale * _divergence(other, mixed)),
                           [1.0]))
  upward = np.concatenate(([1.0], np.exp(-scale * _divergence(one, mixed)),
                           [0.0]))
  # The curve falls from (0, 1) to (1, 0).
  return float(np.trapezoid(upward, across))


def _divergence(one, mixed):
  """[K], [M, K] -> [M] KL(one || mixed), 0 log 0 being 0."""
  used = one > 0
  return np.sum(one[used] * np.log(one[used] / mixed[:, used]), axis=1)


@dataclasses.dataclass(frozen=True)
class Found:
  """What two sets of embeddings come to.

  Attributes:
    value: the area, in 0..1.
    low, high: 95 % interval over tracks of the first set, or None.
    clusters: of the k-means.
  """

  value: float
  low: float | None
  high: float | None
  clusters: int


def num_clusters(one: int, other: int) -> int:
  """A tenth of the smaller set, in 2..500."""
  return int(np.clip(min(one, other) // _PER_CLUSTER, 2, _MOST_CLUSTERS))


def measure(vectors: npt.ArrayLike, reference: npt.ArrayLike,
            tracks: Sequence[str] = (), seed: int = 0,
            clusters: int | None = None) -> Found:
  """MAUVE of [n, D] vectors beside [m, D] of a reference.

  Args:
    vectors: [n, D].
    reference: [m, D].
    tracks: [n] names for the interval; its draws keep the clusters.
    seed: of the k-means and the draws.
    clusters: in place of `num_clusters`.
  """
  vectors, reference = (np.asarray(v, np.float64) for v in (vectors, reference))
  clusters = clusters or num_clusters(len(vectors), len(reference))
  labels = quantise(
      np.concatenate([vectors, reference]), clusters, seed)
  own, others = labels[:len(vectors)], labels[len(vectors):]
  against = np.bincount(others, minlength=clusters)
  value = from_histograms(np.bincount(own, minlength=clusters), against)
  group, picks = intervals.picks(tracks, seed, DRAWS)
  number = picks.shape[1]
  if number < 3:
    return Found(value, None, None, clusters)
  by_track = np.zeros((number, clusters))
  np.add.at(by_track, (group, own), 1)
  times = np.stack([np.bincount(pick, minlength=number) for pick in picks])
  drawn = [from_histograms(row, against) for row in times @ by_track]
  low, high = intervals.around(drawn, value)
  return Found(value, max(low, 0.0), min(high, 1.0), clusters)


def quantise(vectors: np.ndarray, clusters: int, seed: int = 0) -> np.ndarray:
  """[n, D] -> [n] clusters of vectors at unit length, by their main directions.

  The directions are those that hold 90 % of the variance.
  """
  import jax  # pylint: disable=g-import-not-at-top

  from musiclm_jax.nn import lloyd  # pylint: disable=g-import-not-at-top
  length = np.linalg.norm(vectors, axis=1, keepdims=True)
  unit = vectors / np.maximum(length, 1e-12)
  unit -= unit.mean(0)
  values, directions = np.linalg.eigh(unit.T @ unit)
  values, directions = np.maximum(values[::-1], 0), directions[:, ::-1]
  kept = 1 + int(np.searchsorted(np.cumsum(values), _SHARE * values.sum()))
  points = (unit @ directions[:, :kept]).astype(np.float32)
  best = None
  for restart in range(_RESTARTS):
    centroids = lloyd.kmeans(
        jax.random.PRNGKey(seed * _RESTARTS + restart), points, clusters,
        _ITERATIONS)
    labels = np.asarray(lloyd.nearest(points, centroids))
    error = np.sum((points - np.asarray(centroids)[labels])**2)
    if best is None or error < best[0]:
      best = error, labels
  return best[1]
