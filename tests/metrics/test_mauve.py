"""MAUVE: areas by hand and by quadrature, and what clusters are of."""

import numpy as np
import pytest
from scipy import stats

from musiclm_jax.metrics import mauve


def test_equal_and_disjoint_histograms():
  assert mauve.from_histograms([3, 1, 2], [6, 2, 4]) == pytest.approx(1, abs=1e-4)
  # Of disjoint ones KL(Q || R) is -log(1 - w): the curve is x^(1/5) + y^(1/5)
  # = 1, whose area is the integral of (1 - x^(1/5))^5, 5! 5! / 10! = 1 / 252.
  assert mauve.from_histograms([1, 0], [0, 1]) == pytest.approx(
      1 / 252, rel=0.1)
  # With c = 1 it is the line x + y = 1.
  assert mauve.from_histograms([1, 0], [0, 1], scale=1) == pytest.approx(
      0.5, abs=1e-3)


def test_area_is_that_of_the_curve():
  # The curve written out with SciPy's entropies at the same 25 mixtures, and
  # its area summed as trapezoids one by one.
  p, q = np.array([4, 1, 0, 3]) / 8, np.array([1, 2, 4, 1]) / 8
  corners = [(0.0, 1.0)]
  for w in np.linspace(1 - 1e-6, 1e-6, 25):
    mixed = w * p + (1 - w) * q
    corners.append((np.exp(-5 * stats.entropy(q, mixed)),
                    np.exp(-5 * stats.entropy(p, mixed))))
  corners.append((1.0, 0.0))
  area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2
             for a, b in zip(corners, corners[1:]))
  assert mauve.from_histograms(8 * p, 8 * q) == pytest.approx(area, rel=1e-9)
  assert mauve.from_histograms(q, p) == pytest.approx(area, rel=1e-9)


def test_values_of_the_authors_package():
  # mauve-text 0.4.0: its curve of 25 mixtures and the mean of both its areas.
  for seed, wanted in ((1, 0.18708212547913622), (3, 0.2318733347743555)):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(8) * 0.5), rng.dirichlet(np.ones(8) * 0.5)
    assert mauve.from_histograms(p, q) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize('one, other, match', [
    ([1, 2], [1, 2, 3], r'expected \[K\]'),
    ([0, 0], [1, 2], 'nothing in it'),
    ([1, -1], [1, 2], 'below zero')])
def test_what_is_no_histogram(one, other, match):
  with pytest.raises(ValueError, match=match):
    mauve.from_histograms(one, other)


def test_number_of_clusters():
  assert mauve.num_clusters(300, 5_000) == 30
  assert mauve.num_clusters(90_000, 90_000) == 500
  assert mauve.num_clusters(7, 7) == 2


def _blobs(seed, counts):
  """[n, 6] vectors around as many directions as there are counts."""
  rng = np.random.default_rng(seed)
  centres = 5 * np.eye(6)[:len(counts)]
  return np.concatenate([
      rng.uniform(0.5, 2, (n, 1)) * (c + 0.05 * rng.normal(size=(n, 6)))
      for n, c in zip(counts, centres)])


def test_clusters_are_directions():
  labels = mauve.quantise(_blobs(0, (20, 30, 25)), 3)
  assert [len(set(part)) for part in np.split(labels, [20, 50])] == [1, 1, 1]
  assert len(set(labels)) == 3


def test_sets_come_to_the_area_of_their_histograms():
  found = mauve.measure(
      _blobs(1, (30, 10, 20)), _blobs(2, (15, 40, 5)), clusters=3)
  assert found.value == pytest.approx(
      mauve.from_histograms([30, 10, 20], [15, 40, 5]), rel=1e-9)
  assert found.low is None and found.clusters == 3


def test_the_interval_resamples_tracks():
  vectors, reference = _blobs(1, (32, 12, 16)), _blobs(2, (15, 40, 5))
  tracks = [str(i) for i in range(60)]
  found = mauve.measure(vectors, reference, tracks, clusters=3)
  assert 0 <= found.low < found.value < found.high <= 1
  together = mauve.measure(
      vectors, reference, [str(i // 4) for i in range(60)], clusters=3)
  assert together.value == found.value
  assert together.high - together.low > 1.3 * (found.high - found.low)
