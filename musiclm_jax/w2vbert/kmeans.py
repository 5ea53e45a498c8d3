"""The semantic vocabulary: standardised features, clustered.

Each dimension is brought to mean 0 and deviation 1 over the corpus before the
k-means (AudioLM, section 3.1); mean, deviation and centroids are one thing and
are stored together.
"""

import dataclasses

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import quantize

_EPS = 1e-6


@dataclasses.dataclass(frozen=True)
class KMeansConfig:
  """How many features the clusters are fitted to, and how.

  Attributes:
    num_vectors: features to draw from the corpus (all, if it has fewer).
    crop_seconds: they come from crops of this length, the context in which the
      model was trained; one random crop of a track after the other.
    batch_size: crops to compute at once.
    iters: Lloyd iterations.
    seed: of the draws and the k-means.
  """

  num_vectors: int = 200_000  # ours
  crop_seconds: int = 30  # ours
  batch_size: int = 4
  iters: int = 20  # ours
  seed: int = 0


def fit(extract, split, num_clusters, config):
  """Clusters the features of a corpus.

  Args:
    extract: ([B, N] audio, [B] samples) -> [B, T, D] features.
    split: `records.Split` of the training tracks.
    num_clusters: K.
    config: `KMeansConfig`.

  Returns:
    ({'mean': [D], 'std': [D], 'centroids': [K, D]}, report): the report holds
    the vectors seen, usage (share of ids in use), entropy in nats, and inertia
    (mean squared distance over mean squared length; 1 tells nothing apart).
  """
  vectors = collect(extract, split, config)
  mean = vectors.mean(0, dtype=np.float64).astype(np.float32)
  std = np.maximum(vectors.std(0, dtype=np.float64), _EPS).astype(np.float32)
  vectors = (vectors - mean) / std
  centroids = np.asarray(quantize.kmeans(
      jax.random.PRNGKey(config.seed), vectors, num_clusters, config.iters))
  return (dict(mean=mean, std=std, centroids=centroids),
          report(vectors, centroids))


def collect(extract, split, config):
  """[num_vectors, D] features from crops all over `split`; deterministic."""
  rng = np.random.default_rng([config.seed, len(split)])
  crop = config.crop_seconds * split.sample_rate_hz
  kept, wanted = [], config.num_vectors
  jobs = _crops(split, crop, rng)
  while wanted > 0:
    batch = [job for _, job in zip(range(config.batch_size), jobs)]
    if not batch:
      break
    audio = np.stack([split.read(t, start, crop) for t, start in batch])
    samples = np.array([
        min(crop, t.num_samples - start) for t, start in batch])
    features = np.asarray(extract(audio, samples))
    for row, count in zip(features, samples):
      frames = -(-int(count) * features.shape[1] // crop)
      kept.append(row[:min(frames, wanted)])
      wanted -= len(kept[-1])
  if not kept:
    raise errors.UserError(
        f'{split.directory} holds no audio to fit the k-means on.')
  return np.concatenate(kept)


def _crops(split, crop, rng):
  """Every crop of every track, each once, shuffled: (track, start)."""
  jobs = [(track, start) for track in split
          for start in range(0, max(1, track.num_samples), crop)]
  for i in rng.permutation(len(jobs)):
    yield jobs[i]


def report(vectors, centroids):
  """How well the clusters are used; see `fit`."""
  ids = np.concatenate([
      np.asarray(quantize.nearest(part, centroids))
      for part in np.array_split(vectors, -(-len(vectors) // 8192))])
  share = np.bincount(ids, minlength=len(centroids)) / len(ids)
  used = share[share > 0]
  inertia = np.mean(np.sum(np.square(vectors - centroids[ids]), -1))
  return dict(
      vectors=len(vectors), clusters=len(centroids),
      usage=float(len(used) / len(centroids)),
      entropy_nats=float(-np.sum(used * np.log(used))),
      inertia=float(inertia / max(np.mean(np.sum(vectors**2, -1)), _EPS)))
