"""Frechet distances against SciPy's matrix root, and their bias."""

import numpy as np
import pytest
from scipy import linalg

from musiclm_jax.metrics import frechet


def _vectors(seed, count, size=6, scale=1.0, shift=0.0):
  rng = np.random.default_rng(seed)
  mixing = np.random.default_rng(99).normal(size=(size, size))
  return scale * rng.normal(size=(count, size)) @ mixing + shift


def _by_scipy(one, other, eps=0.0):
  """The formula as it is written, with a general matrix root."""
  mean = [x.mean(0) for x in (one, other)]
  cov = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (one, other)]
  offset = eps * np.eye(one.shape[1])
  root = linalg.sqrtm((cov[0] + offset) @ (cov[1] + offset))
  assert np.abs(root.imag).max(initial=0) < 1e-3
  return (np.sum((mean[0] - mean[1])**2) + np.trace(cov[0]) + np.trace(cov[1])
          - 2 * np.trace(root.real))


def _distance(one, other):
  return frechet.distance(frechet.Moments.of(one), frechet.Moments.of(other))


@pytest.mark.parametrize('size', [1, 6, 40])
def test_distance_is_that_of_scipy(size):
  one = _vectors(0, 200, size)
  other = _vectors(1, 90, size, 1.4, 0.5)
  np.testing.assert_allclose(
      _distance(one, other), _by_scipy(one, other), rtol=1e-10)
  np.testing.assert_allclose(
      _distance(one, other), _distance(other, one), rtol=1e-10)


def test_a_case_by_hand():
  # Variances 1 and 4 of one dimension, means 0 and 3: 9 + 1 + 4 - 2 * 2 = 10.
  one = np.array([[-1.0], [0.0], [1.0]])
  other = np.array([[1.0], [3.0], [5.0]])
  assert _distance(one, other) == pytest.approx(10, abs=1e-12)
  assert _distance(one, one) == pytest.approx(0, abs=1e-12)


def test_fewer_vectors_than_dimensions():
  # Both covariances are singular, where the official code adds 1e-7.
  one, other = _vectors(0, 12, 30), _vectors(1, 9, 30, 1.5)
  np.testing.assert_allclose(
      _distance(one, other), _by_scipy(one, other, 1e-7), rtol=1e-4)
  assert not frechet.Moments.of(one).full_rank
  assert not frechet.Moments.of(_vectors(0, 30, 30)).full_rank
  assert frechet.Moments.of(_vectors(0, 31, 30)).full_rank


def test_moments_of_parts_merge_to_those_of_all():
  # A mean far from 0: sums of squares would lose all digits.
  vectors = _vectors(3, 101, 5) + 1e6
  parts = np.split(vectors, [0, 1, 40, 73])
  merged = frechet.Moments.of(parts[0])
  for part in parts[1:]:
    merged = merged.merged(frechet.Moments.of(part))
  assert merged.count == 101
  np.testing.assert_allclose(merged.mean, vectors.mean(0), rtol=1e-14)
  np.testing.assert_allclose(
      merged.covariance, np.cov(vectors, rowvar=False), rtol=1e-6)
  other_way = frechet.Moments.of(parts[4]).merged(
      frechet.Moments.of(np.concatenate(parts[:4])))
  np.testing.assert_allclose(
      other_way.covariance, merged.covariance, rtol=1e-6)


def test_weights_are_repetitions():
  vectors, times = _vectors(4, 6, 3), np.array([2, 0, 1, 1, 3, 0])
  weighted = frechet.Moments.of(vectors, times)
  repeated = frechet.Moments.of(np.repeat(vectors, times, axis=0))
  assert weighted.count == repeated.count == 7
  np.testing.assert_allclose(weighted.mean, repeated.mean)
  np.testing.assert_allclose(weighted.covariance, repeated.covariance)


def test_what_is_no_set_is_refused():
  one = frechet.Moments.of(_vectors(0, 9, 4))
  with pytest.raises(ValueError, match='expected one embedder'):
    frechet.distance(one, frechet.Moments.of(_vectors(0, 9, 5)))
  with pytest.raises(ValueError, match='expected one embedder'):
    one.merged(frechet.Moments.of(_vectors(0, 9, 5)))
  with pytest.raises(ValueError, match='2 or more'):
    frechet.distance(one, frechet.Moments.of(_vectors(0, 1, 4)))
  broken = frechet.Moments(9, np.zeros(2), np.diag([8.0, -1.0]))
  with pytest.raises(ValueError, match='none below zero'):
    frechet.Reference(broken)


def test_the_extrapolation_takes_the_bias_away():
  # Two draws of one distribution: their distance is bias alone.
  size = 12
  reference = frechet.Reference(frechet.Moments.of(_vectors(0, 20_000, size)))
  whole, infinite = [], []
  for seed in range(6):
    vectors = _vectors(seed + 1, 240, size)
    tracks = [str(i // 3) for i in range(240)]
    whole.append(reference.distance(frechet.Moments.of(vectors)))
    line = frechet.to_infinity(reference, vectors, tracks, seed)
    infinite.append(line.value)
    assert line.half > whole[-1] > line.value and 0 < line.fit < 1
  assert abs(np.mean(infinite)) < 0.2 * np.mean(whole)


def test_the_line_of_points_that_lie_on_it():
  # Of n vectors at +-1, the variance over n - 1 is near 1 + 1/n whatever their
  # order: all points are within that of a line, which ends at the variance 1.
  reference = frechet.Reference(frechet.Moments(
      3, np.zeros(1), np.full((1, 1), 2e-12)))
  vectors = np.tile([[-1.0], [1.0]], (50, 1))
  line = frechet.to_infinity(
      reference, vectors, [str(i // 2) for i in range(100)])
  assert line.value == pytest.approx(1.0, abs=1e-3)
  assert line.fit > 0.999
  # 25 tracks of two: 50 vectors, 50/49.
  assert line.half == pytest.approx(50 / 49, abs=1e-4)


def test_too_few_tracks_for_a_line():
  reference = frechet.Reference(frechet.Moments.of(_vectors(0, 50, 2)))
  vectors = _vectors(1, 40, 2)
  tracks = [str(i % 7) for i in range(40)]
  with pytest.raises(ValueError, match='7 tracks; expected 8'):
    frechet.to_infinity(reference, vectors, tracks)
  assert frechet.interval(reference, vectors, tracks, (1.0, 1.0)) is None


def test_the_interval_is_as_wide_as_new_draws_are():
  # The truth is known here: the distance of many fresh sets of one size.
  size, count = 4, 160
  reference = frechet.Reference(frechet.Moments.of(_vectors(0, 20_000, size)))
  fresh = [reference.distance(frechet.Moments.of(
      _vectors(seed, count, size, 1.3))) for seed in range(100, 200)]
  vectors = _vectors(1, count, size, 1.3)
  value = reference.distance(frechet.Moments.of(vectors))
  (low, high), infinite = frechet.interval(
      reference, vectors, [str(i) for i in range(count)], (value, value))
  wide = np.subtract(*np.quantile(fresh, [0.975, 0.025]))
  assert low < value < high
  assert 0.6 * wide < high - low < 1.6 * wide
  assert infinite[1] - infinite[0] > 0.8 * (high - low)
  # Vectors of one track are drawn together: fewer tracks, a wider interval.
  same = np.repeat(vectors[::4], 4, axis=0)
  (low, high), _ = frechet.interval(
      reference, same, [str(i // 4) for i in range(count)], (value, value))
  (narrow_low, narrow_high), _ = frechet.interval(
      reference, same, [str(i) for i in range(count)], (value, value))
  assert high - low > 1.3 * (narrow_high - narrow_low)


def test_many_dimensions_get_fewer_draws():
  assert frechet.interval_draws(128) > frechet.interval_draws(768) > 0
  assert frechet.interval_draws(12_288) == 0
