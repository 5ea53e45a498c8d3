"""K-means and residual k-means against NumPy and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import lloyd
from musiclm_jax.nn import quantize


def _clusters(num_clusters, per_cluster, dim, seed=0, spread=0.01):
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(num_clusters, dim)) * 5.0
  noise = rng.normal(size=(num_clusters, per_cluster, dim)) * spread
  return centres, (centres[:, None] + noise).reshape(-1, dim)


def test_nearest_is_brute_force():
  rng = np.random.default_rng(0)
  x, c = rng.normal(size=(3, 50, 7)), rng.normal(size=(20, 7))
  expected = np.argmin(
      np.square(x[..., None, :] - c).sum(-1), axis=-1)
  np.testing.assert_array_equal(lloyd.nearest(x, c), expected)


def test_kmeans_finds_separated_clusters_from_any_start():
  centres, vectors = _clusters(20, 30, 4)
  for seed in range(3):
    found = lloyd.kmeans(jax.random.key(seed), vectors, 40, 25)
    gap = np.linalg.norm(centres[:, None] - np.asarray(found), axis=-1)
    assert gap.min(axis=1).max() < 0.1, seed


def test_kmeans_is_a_fixed_point_of_lloyd():
  rng = np.random.default_rng(1)
  vectors = rng.normal(size=(300, 2)).astype(np.float32)
  found = np.asarray(lloyd.kmeans(jax.random.key(0), vectors, 8, 200))
  ids = np.argmin(np.square(vectors[:, None] - found).sum(-1), axis=1)
  means = np.stack([vectors[ids == i].mean(0) for i in range(8)])
  np.testing.assert_allclose(found, means, atol=1e-4)


def test_kmeans_uses_every_centroid_and_is_deterministic():
  rng = np.random.default_rng(2)
  vectors = np.concatenate([  # a heavy lump that would starve the others
      np.zeros((500, 3)), rng.normal(size=(100, 3))]).astype(np.float32)
  found = lloyd.kmeans(jax.random.key(0), vectors, 64, 30)
  ids = np.asarray(lloyd.nearest(vectors, found))
  assert len(np.unique(ids)) >= 60
  again = lloyd.kmeans(jax.random.key(0), vectors, 64, 30)
  np.testing.assert_array_equal(found, again)


def test_kmeans_chunks_do_not_matter(monkeypatch):
  rng = np.random.default_rng(3)
  vectors = jnp.asarray(rng.normal(size=(1000, 4)), jnp.float32)
  centroids = vectors[:16]
  whole = lloyd._assign(vectors, centroids)
  monkeypatch.setattr(lloyd, '_CHUNK', 96)
  for a, b in zip(whole, lloyd._assign(vectors, centroids)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_kmeans_with_fewer_vectors_than_centroids():
  vectors = np.eye(3, dtype=np.float32)
  found = np.asarray(lloyd.kmeans(jax.random.key(0), vectors, 5, 3))
  assert found.shape == (5, 3)
  gap = np.square(vectors[:, None] - found).sum(-1).min(axis=1)
  np.testing.assert_allclose(gap, 0.0, atol=1e-6)


def test_kmeans_refuses_no_vectors():
  with pytest.raises(ValueError, match=r'expected \[N, D\]'):
    lloyd.kmeans(jax.random.key(0), np.zeros((0, 3)), 4)


def test_residual_kmeans_error_falls_with_every_level():
  rng = np.random.default_rng(4)
  vectors = rng.normal(size=(600, 6)).astype(np.float32)
  codebooks = lloyd.residual_kmeans(
      jax.random.key(0), vectors, 4, 16, 15)
  assert codebooks.shape == (4, 16, 6)
  codes = quantize.rvq_encode(vectors, codebooks)
  errors = [
      np.square(vectors - quantize.rvq_decode(codes[:, :q], codebooks)).mean()
      for q in range(1, 5)]
  assert np.all(np.diff([np.square(vectors).mean()] + errors) < -0.05)
