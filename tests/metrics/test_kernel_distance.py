"""Kernel distances against sums that are written out."""

import numpy as np
import pytest
from scipy.spatial import distance as distances

from musiclm_jax import errors
from musiclm_jax.metrics import kernel_distance


def _vectors(seed, count, size=5, shift=0.0):
  return np.random.default_rng(seed).normal(size=(count, size)) + shift


def _written_out(x, y, bandwidth):
  kernel = lambda a, b: np.exp(-np.sum((a - b)**2) / (2 * bandwidth**2))
  n, m = len(x), len(y)
  own = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
  others = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
  across = sum(kernel(a, b) for a in x for b in y)
  return 100 * (own / (n * (n - 1)) + others / (m * (m - 1))
                - 2 * across / (n * m))


def test_a_case_by_hand():
  # Distances of the reference 0, 1, 3: 1, 3, 2, whose median is 2; a bandwidth
  # of 2 makes the exponents -d^2 / 8.
  reference, vectors = [[0.0], [1.0], [3.0]], [[0.0], [2.0]]
  e = lambda squared: np.exp(-squared / 8)
  assert kernel_distance.median_distance(reference) == 2
  wanted = 100 * (
      e(4) + (e(1) + e(9) + e(4)) / 3
      - 2 * (1 + e(1) + e(9) + e(4) + e(1) + e(1)) / 6)
  assert kernel_distance.distance(vectors, reference) == pytest.approx(
      wanted, rel=1e-12)


def test_distance_is_the_sum_written_out(monkeypatch):
  monkeypatch.setattr(kernel_distance, '_BLOCK', 7)  # several blocks
  x, y = _vectors(0, 17, shift=0.4), _vectors(1, 23)
  bandwidth = np.median(distances.pdist(y))
  found = kernel_distance.Reference(y)
  assert found.bandwidth == pytest.approx(bandwidth, rel=1e-12)
  assert found.distance(x) == pytest.approx(
      _written_out(x, y, bandwidth), rel=1e-10)
  # The bandwidth is the reference's, so the order matters.
  assert found.distance(x) != pytest.approx(kernel_distance.distance(y, x))
  assert kernel_distance.Reference(y, bandwidth=3.0).distance(
      x) == pytest.approx(_written_out(x, y, 3.0), rel=1e-10)


def test_it_is_unbiased():
  # Sets of one distribution: on both sides of 0, however small they are.
  found = [kernel_distance.distance(_vectors(s, 8), _vectors(s + 500, 8))
           for s in range(300)]
  assert min(found) < 0 < max(found)
  assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
  moved = [kernel_distance.distance(
      _vectors(s, 8, shift=0.7), _vectors(s + 500, 8)) for s in range(30)]
  assert np.mean(moved) > 5 * abs(np.mean(found))


def test_large_numbers_lose_no_digits_that_matter():
  x, y = _vectors(0, 20) + 1e4, _vectors(1, 20) + 1e4
  assert kernel_distance.distance(x, y) == pytest.approx(
      kernel_distance.distance(x - 1e4, y - 1e4), rel=1e-5)


def test_bandwidth_of_many_vectors_is_drawn(monkeypatch):
  vectors = _vectors(0, 600)
  whole = kernel_distance.median_distance(vectors)
  monkeypatch.setattr(kernel_distance, '_BANDWIDTH_VECTORS', 300)
  drawn = kernel_distance.median_distance(vectors, seed=1)
  assert drawn != whole
  assert drawn == pytest.approx(whole, rel=0.05)
  assert drawn == kernel_distance.median_distance(vectors, seed=1)


def test_the_interval_is_as_wide_as_new_draws_are():
  reference = kernel_distance.Reference(_vectors(0, 2_000))
  fresh = [reference.distance(_vectors(s, 60, shift=0.3))
           for s in range(100, 220)]
  vectors = _vectors(1, 60, shift=0.3)
  value = reference.distance(vectors)
  low, high = reference.interval(vectors, [str(i) for i in range(60)], value)
  wide = np.subtract(*np.quantile(fresh, [0.975, 0.025]))
  assert low < value < high
  assert 0.6 * wide < high - low < 1.6 * wide
  assert (low, high) == reference.interval(
      vectors, [str(i) for i in range(60)], value)
  # Vectors of one track are drawn together.
  same = np.repeat(vectors[::3], 3, axis=0)
  together, apart = (reference.interval(same, tracks, value) for tracks in (
      [str(i // 3) for i in range(60)], [str(i) for i in range(60)]))
  assert together[1] - together[0] > 1.3 * (apart[1] - apart[0])


def test_few_tracks_have_no_interval():
  reference = kernel_distance.Reference(_vectors(0, 10))
  assert reference.interval(_vectors(1, 10), ['a', 'b'] * 5, 0.0) is None


def test_what_is_no_set_is_refused():
  with pytest.raises(errors.UserError, match='vectors are equal'):
    kernel_distance.Reference(np.zeros((4, 2)))
  with pytest.raises(ValueError, match='n 2 or more'):
    kernel_distance.Reference(_vectors(0, 9)).distance(_vectors(0, 1))
  with pytest.raises(ValueError, match='expected one embedder'):
    kernel_distance.Reference(_vectors(0, 9)).distance(_vectors(0, 9, 4))
