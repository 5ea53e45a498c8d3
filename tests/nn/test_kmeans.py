"""K-means over a file: exact beside NumPy, small in memory, the same again."""

import gc
import os
import tracemalloc
import weakref

import jax
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import kmeans


def _blobs(count, dim=5, centres=9, seed=0):
  """Lumps of uneven weight, off zero and of uneven scale."""
  rng = np.random.default_rng(seed)
  means = rng.normal(size=(centres, dim)) * 4.0
  which = np.minimum(rng.geometric(0.3, count) - 1, centres - 1)
  x = means[which] + rng.normal(size=(count, dim))
  return (100.0 + x * np.geomspace(0.1, 50.0, dim)).astype(np.float32)


@pytest.fixture(name='stored')
def _stored():
  """(the vectors, a file that holds them in uneven pieces)."""
  x = _blobs(2_500)
  with kmeans.VectorFile() as file:
    for part in np.split(x, [7, 1_200, 1_201]):
      file.append(part)
    yield x, file


def _numpy_lloyd(x, centroids, iters):
  """Lloyd's algorithm as the textbook has it, in float64, all in memory."""
  x = x.astype(np.float64)
  distance = lambda c: np.square(x[:, None] - c).sum(-1)
  for _ in range(iters):
    ids = distance(centroids).argmin(1)
    centroids = np.stack([x[ids == k].mean(0) for k in range(len(centroids))])
  ids = distance(centroids).argmin(1)
  return centroids, np.bincount(ids), distance(centroids).min(1).mean()


def _run(file, centroids, chunk=300, iters=6, **kwargs):
  mean, std = kmeans.moments(file, chunk)
  return kmeans.lloyd(file, mean, std, centroids, jax.random.PRNGKey(0), iters,
                      chunk=chunk, **kwargs)


def test_a_file_gives_back_what_it_was_given(stored):
  x, file = stored
  assert len(file) == 2_500 and file.dim == 5
  np.testing.assert_array_equal(np.concatenate(list(file.chunks(999))), x)
  np.testing.assert_array_equal(file.rows([3, 2_000, 3]), x[[3, 2_000, 3]])


def test_moments_are_those_of_all_vectors(stored):
  x, file = stored
  for chunk in (1, 300, 10_000):
    mean, std = kmeans.moments(file, chunk)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, x.astype(np.float64).std(0), rtol=1e-5)


def test_every_pass_is_exact(stored):
  x, file = stored
  mean, std = kmeans.moments(file)
  whitened = (x - mean) / std
  start = whitened[::280]
  found = _run(file, start)
  centroids, counts, inertia = _numpy_lloyd(whitened, start, 6)
  np.testing.assert_allclose(found.centroids, centroids, atol=2e-5)
  np.testing.assert_array_equal(found.counts, counts)
  assert found.inertia == pytest.approx(inertia, rel=1e-5)
  assert found.passes == 7 and found.moved == 0
  share = counts / counts.sum()
  report = found.report()
  assert report['entropy_nats'] == pytest.approx(-np.sum(share * np.log(share)))
  assert report['inertia'] == pytest.approx(inertia / 5, rel=1e-4)
  assert (report['vectors'], report['usage']) == (2_500, 1.0)


def test_chunks_do_not_matter_and_runs_are_the_same(stored):
  _, file = stored
  # Far away: some of these have nothing near them, so that draws matter too.
  start = np.random.default_rng(3).normal(size=(9, 5)) * 10.0
  first, again, other = (
      _run(file, start, chunk) for chunk in (300, 300, kmeans.CHUNK))
  assert first.moved > 0
  np.testing.assert_array_equal(first.centroids, again.centroids)
  np.testing.assert_allclose(other.centroids, first.centroids, atol=1e-4)
  np.testing.assert_array_equal(other.counts, first.counts)


def test_an_empty_cluster_moves_to_where_vectors_are_far(stored):
  x, file = stored
  mean, std = kmeans.moments(file)
  whitened = (x - mean) / std
  start = np.concatenate([whitened[:4], np.full((5, 5), 1e3)])
  stuck = _numpy_lloyd(whitened, whitened[:4], 30)[2]
  found = _run(file, start, iters=30)
  assert found.moved >= 5 and (found.counts > 0).all()
  assert found.inertia < 0.7 * stuck
  # A draw by squared distance: the first moves end far from their old centre.
  once = _run(file, start, iters=1)
  distance = np.square(whitened[:, None] - start[:4]).sum(-1).min(1)
  moved = [np.flatnonzero(np.isclose(whitened, c, atol=1e-4).all(1))
           for c in once.centroids[4:]]
  assert all(len(m) for m in moved)
  assert distance[np.concatenate(moved)].mean() > 1.3 * distance.mean()


def test_it_ends_when_little_is_gained(stored):
  x, file = stored
  mean, std = kmeans.moments(file)
  start = ((x - mean) / std)[::280]
  full, short = (_run(file, start, iters=100, tolerance=t)
                 for t in (0.0, 0.01))
  assert short.passes < full.passes < 100
  assert short.inertia < 1.05 * full.inertia


def test_a_fit_from_nothing_finds_the_lumps(stored):
  _, file = stored
  lines = []
  found = kmeans.fit(file, 9, sample=500, say=lines.append)
  again = kmeans.fit(file, 9, sample=500)
  np.testing.assert_array_equal(found.centroids, again.centroids)
  assert found.report()['usage'] == 1.0 and len(lines) == found.passes
  # Lumps have deviation 1 in some unit; their centres 4: about 1 in 17 is left.
  assert found.report()['inertia'] < 0.2
  other = kmeans.fit(file, 9, seed=1, sample=500)
  assert not np.array_equal(found.centroids, other.centroids)


def test_more_centroids_than_vectors_and_a_dimension_that_never_moves():
  with kmeans.VectorFile() as file:
    x = np.eye(5, dtype=np.float32)
    x[:, 4] = 7.0
    file.append(x)
    found = _run(file, np.zeros((9, 5)))
  assert found.centroids.shape == (9, 5)
  report = found.report()
  assert report['inertia'] < 1e-6 and report['usage'] == pytest.approx(5 / 9)
  assert found.std[4] == np.float32(1e-6)


def test_memory_is_a_few_chunks_whatever_the_number_of_vectors():
  """30 MB of vectors pass through 6 MB; no block outlives its turn."""
  dim, block, blocks = 5, 50_000, 31
  alive = []
  rng = np.random.default_rng(0)
  gc.collect()
  before = sum(x.nbytes for x in jax.live_arrays())  # other tests' arrays
  with kmeans.VectorFile() as file:
    tracemalloc.start()
    for _ in range(blocks):
      made = rng.normal(size=(block, dim)).astype(np.float32)
      alive.append(weakref.ref(made))
      file.append(made)
      del made
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    _run(file, rng.normal(size=(9, dim)), kmeans.CHUNK, iters=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = sum(x.nbytes for x in jax.live_arrays()) - before
  assert len(file) * dim * 4 > 30e6
  assert peak < 6e6
  assert held < 6e6


def test_nothing_stays_on_the_disk(tmp_path):
  with kmeans.VectorFile(str(tmp_path)) as file:
    file.append(np.ones((10, 3)))
    assert not os.listdir(tmp_path)
  assert not os.listdir(tmp_path)


def test_refusals(tmp_path):
  with kmeans.VectorFile(str(tmp_path)) as file:
    with pytest.raises(errors.UserError, match='NaN or infinite.*diverged'):
      file.append(np.full((2, 3), np.nan))
    file.append(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r'\(2, 4\); expected \[n, 3\]'):
      file.append(np.ones((2, 4)))
    with pytest.raises(errors.UserError, match=r'need 40000.*GB left'):
      file.check_space(10**13, 1)
  with pytest.raises(errors.UserError, match='no vectors can be kept in'):
    kmeans.VectorFile(str(tmp_path / 'none'))
