"""Melody tokens: residual k-means over embeddings, and how steady they are."""

import dataclasses
from typing import Any

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import records
from musiclm_jax.nn import lloyd
from musiclm_jax.nn import quantize
from musiclm_jax.tokenizers.melody import embedder
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.melody import pairs

_CLIP_SAMPLES = 30 * 24_000  # the semantic stage's crop: 9 windows


@dataclasses.dataclass(frozen=True)
class MelodyRvqConfig:
  """What the codebooks are fitted to.

  Attributes:
    num_windows: windows of the training split to embed, at most.
    iters: Lloyd iterations per level.
    report_pairs: pairs of passages in the report.
    seed: of the draws and the k-means.
  """

  num_windows: int = 20_000  # ours
  iters: int = 20  # ours
  report_pairs: int = 128
  seed: int = 0


def fit(config: melody_model.MelodyConfig, params: dict[str, Any],
        corpus: records.Corpus | records.Mixture,
        rvq_config: MelodyRvqConfig) -> tuple[np.ndarray, dict[str, Any]]:
  """Fits the codebooks to a corpus.

  Args:
    config: `MelodyConfig`.
    params: trained parameters.
    corpus: `records.Corpus`; its train split is fitted to, its validation split
      (or else the train split) reported on.
    rvq_config: `MelodyRvqConfig`.

  Returns:
    ([Q, K, D] float32, report).
  """
  spec = config.melody
  plain = embedder.MelodyEmbedder(
      config, params, np.zeros((1, 1, spec.embedding_dim), np.float32))
  vectors = window_embeddings(plain, corpus.split('train'), rvq_config)
  codebooks = np.asarray(lloyd.residual_kmeans(
      jax.random.PRNGKey(rvq_config.seed), vectors, spec.num_codebooks,
      spec.codebook_size, rvq_config.iters))
  trained = embedder.MelodyEmbedder(config, params, codebooks)
  return codebooks, dict(
      vectors=len(vectors), **quantize.level_report(vectors, codebooks),
      **agreement(trained, corpus, rvq_config))


def window_embeddings(melody: embedder.MelodyEmbedder, split: records.Split,
                      config: MelodyRvqConfig) -> np.ndarray:
  """[M, D] embeddings of windows all over `split`, as a clip of 30 s has them.

  Tracks are taken in an order drawn by the seed until there are enough.
  """
  parts, total, say = [], 0, progress.seldom()
  order = np.random.default_rng([config.seed, len(split)]).permutation(
      len(split))
  for index in order:
    track = split[int(index)]
    for start in range(0, track.num_samples, _CLIP_SAMPLES):
      audio = split.read(track, start, min(
          _CLIP_SAMPLES, track.num_samples - start))
      if len(audio) < melody.config.window_samples and start:
        continue
      parts.append(melody.embed_windows(audio[None])[0])
      total += len(parts[-1])
      say(f'RVQ, windows: {total:,} of at most {config.num_windows:,}')
    if total >= config.num_windows:
      break
  if not parts:
    raise errors.UserError(
        f'{split.directory} holds no audio to fit the melody RVQ on.')
  return np.concatenate(parts)[:config.num_windows]


def agreement(melody: embedder.MelodyEmbedder,
              corpus: records.Corpus | records.Mixture,
              config: MelodyRvqConfig) -> dict[str, Any]:
  """How often the two crops of one passage share their first token.

  Returns:
    {} for a corpus without versions of tunes; else the `split`, `pairs`,
    equal_first_level, the same with crops of other passages (`_shuffled`), and
    the mean cosines of both.
  """
  source = [name for name in ('validation', 'train') if name in corpus.splits
            and len(set(pairs.clusters(
                pairs.versions(corpus.split(name))))) > 1]
  if not source:
    return {}
  batch = pairs.Pairs(
      corpus.split(source[0]), melody.spec.window_seconds,
      config.report_pairs, config.seed).batch(0)
  first, second = (melody.embed_windows(batch[name])[:, 0]
                   for name in ('first', 'second'))
  codes = melody.quantize(first)[:, 0], melody.quantize(second)[:, 0]
  # Of other tunes only: a neighbour in the batch may be the same one.
  other = batch['tune'][:, None] != batch['tune']
  same = codes[0][:, None] == codes[1]
  cosine = first @ second.T
  return dict(
      split=source[0], pairs=len(first),
      equal_first_level=float(np.diagonal(same).mean()),
      equal_first_level_shuffled=float(same[other].mean()),
      positive_cosine=float(np.diagonal(cosine).mean()),
      shuffled_cosine=float(cosine[other].mean()))
