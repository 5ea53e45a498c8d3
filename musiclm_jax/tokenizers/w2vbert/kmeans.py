"""The semantic vocabulary: standardised features, clustered.

  crops of a corpus ──> features, once ──> a file on disk ──> k-means over it

Each dimension is brought to mean 0 and deviation 1 over the corpus before the
k-means (AudioLM, section 3.1); mean, deviation and centroids are one thing and
are stored together. Millions of features never lie in memory: nn/kmeans.py.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import records
from musiclm_jax.nn import kmeans

_LEAST_STD = 1e-4  # ours; a block ends in a LayerNorm: features are about 1


@dataclasses.dataclass(frozen=True)
class KMeansConfig:
  """How many features the clusters are fitted to, and how.

  Attributes:
    num_vectors: features to draw from the corpus (all, if it has fewer).
    crop_seconds: they come from crops of this length, the context in which the
      model was trained; one random crop of a track after the other.
    batch_size: crops to compute at once.
    iters: Lloyd iterations, at most.
    tolerance: they end when the inertia falls by less than this share.
    init_vectors: features that the first centroids are found among.
    seed: of the draws and the k-means.
    work_dir: where the features lie meanwhile, 4 bytes a number; '': the
      system's folder for temporary files (TMPDIR).
  """

  num_vectors: int = 200_000  # ours
  crop_seconds: int = 30  # ours
  batch_size: int = 4
  iters: int = 20  # ours
  tolerance: float = 1e-4  # ours
  init_vectors: int = 65_536  # ours
  seed: int = 0
  work_dir: str = ''

  def __post_init__(self):
    for name in ('num_vectors', 'crop_seconds', 'batch_size', 'init_vectors'):
      if getattr(self, name) < 1:
        raise errors.UserError(
            f'{name} of the k-means is {getattr(self, name)}; expected at '
            f'least 1.')


def fit(
    extract: Callable[[np.ndarray, np.ndarray], Any], split: records.Split,
    num_clusters: int, config: KMeansConfig,
    say: Callable[[str], Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Clusters the features of a corpus.

  Args:
    extract: ([B, N] audio, [B] samples) -> [B, T, D] features.
    split: `records.Split` of the training tracks.
    num_clusters: K.
    config: `KMeansConfig`.
    say: a function of a line of progress; None prints them.

  Returns:
    ({'mean': [D], 'std': [D], 'centroids': [K, D]}, report): the report is
    that of `nn.kmeans.Fitted`.

  Raises:
    UserError: no audio, no room for the features, or features that are NaN.
  """
  with kmeans.VectorFile(config.work_dir) as vectors:
    collect(extract, split, config, vectors, say)
    fitted = kmeans.fit(
        vectors, num_clusters, config.seed, config.iters, config.tolerance,
        config.init_vectors, progress.seldom(say))
  return (dict(mean=fitted.mean, std=fitted.std, centroids=fitted.centroids),
          fitted.report())


def check(fitted: Mapping[str, np.ndarray], report: Mapping[str, Any],
          least_codes: float) -> None:
  """UserError where the clusters tell next to nothing apart.

  Args:
    fitted: of `fit`; features that hardly move are refused however evenly their
      rounding errors fall into clusters.
    report: of `fit`.
    least_codes: ids in even use, exp(entropy), that are enough.
  """
  codes, moves = np.exp(report['entropy_nats']), float(np.max(fitted['std']))
  if moves < _LEAST_STD:
    what = f'no feature moves by more than {moves:.1g} over the corpus'
  elif codes < least_codes:
    what = (f'the k-means uses {codes:.1f} of {report["clusters"]} ids evenly; '
            f'expected at least {least_codes:g}')
  else:
    return
  raise errors.UserError(
      f'{what}: the semantic tokens would tell nothing. Export an earlier '
      f'checkpoint, train the model again (a lower learning rate), or choose '
      f'a corpus with more than silence and one sound.')


def collect(extract: Callable[[np.ndarray, np.ndarray], Any],
            split: records.Split, config: KMeansConfig,
            vectors: kmeans.VectorFile,
            say: Callable[[str], Any] | None = lambda line: None) -> None:
  """Appends up to `num_vectors` features of crops of `split` to `vectors`.

  The same features in the same order for any `batch_size`; every batch has as
  many rows, so that `extract` compiles once.
  """
  crop = config.crop_seconds * split.sample_rate_hz
  jobs = _crops(split, crop, config.seed)
  say = progress.seldom(say)
  for start in range(0, len(jobs), config.batch_size):
    batch = jobs[start:start + config.batch_size]
    rows = batch + batch[-1:] * (config.batch_size - len(batch))
    audio = np.stack([split.read(t, begin, crop) for t, begin in rows])
    samples = np.array([min(crop, t.num_samples - b) for t, b in rows])
    features = np.asarray(extract(audio, samples))
    frames = -(-samples * features.shape[1] // crop)
    if not start:
      per_sample = features.shape[1] / crop
      total = min(config.num_vectors, len(jobs) + int(per_sample * sum(
          min(crop, t.num_samples - b) for t, b in jobs)))
      vectors.check_space(total, features.shape[2])
    found = np.concatenate([
        row[:count] for row, count in zip(features, frames[:len(batch)])])
    vectors.append(found[:config.num_vectors - len(vectors)])
    say(f'k-means, features: {len(vectors):,} of {total:,}')
    if len(vectors) == config.num_vectors:
      return
  if not len(vectors):
    raise errors.UserError(
        f'{split.directory} holds no audio to fit the k-means on.')


def _crops(split, crop, seed):
  """Every crop of every track, each once, shuffled: (track, start)."""
  jobs = [(track, start) for track in split
          for start in range(0, track.num_samples, crop)]
  order = np.random.default_rng([seed, len(split)]).permutation(len(jobs))
  return [jobs[i] for i in order]
