"""MuLan's tokens: residual k-means over embeddings, and how well text meets audio.

MusicLM trains its stages on tokens of audio and prompts them with tokens of text,
so what matters is that both fall into the same cells. With little data the two
towers leave a gap: two settings, both ours, narrow it.
"""

import dataclasses

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax.mulan import embedder
from musiclm_jax.mulan import model as mulan_model
from musiclm_jax.mulan import sources
from musiclm_jax.nn import quantize

_CLIP_SECONDS = 30  # the semantic stage's crop: 21 windows


@dataclasses.dataclass(frozen=True)
class RvqConfig:
  """What the codebooks are fitted to.

  Attributes:
    num_clips: 30 s clips of the training split to embed, at most.
    include_text: fit to the embeddings of the training captions as well.
    align_means: add to every text embedding the difference of the two mean
      embeddings, so that both clouds share a centre.
    iters: Lloyd iterations per level.
    report_tracks: validation tracks in the report, at most.
    seed: of the draws and the k-means.
  """

  num_clips: int = 1000  # ours
  include_text: bool = True  # ours
  align_means: bool = True  # ours
  iters: int = 20  # ours
  report_tracks: int = 256
  seed: int = 0


def fit(config, params, corpus, rvq_config):
  """Fits the codebooks to a corpus.

  Args:
    config: `MulanConfig`.
    params: trained parameters.
    corpus: `records.Corpus`; its train split is fitted to, its validation split
      (or else the train split) reported on.
    rvq_config: `RvqConfig`.

  Returns:
    ({'codebooks': [Q, K, D], 'text_shift': [D]}, report).
  """
  joint = config.joint
  plain = embedder.JointEmbedder(
      config, params, np.zeros((1, 1, joint.embedding_dim), np.float32),
      np.zeros(joint.embedding_dim, np.float32))
  split = corpus.split('train')
  audio = clip_embeddings(plain, split, rvq_config)
  captions = sorted({c for t in split for c in t.captions})
  text = text_embeddings(plain, captions, corpus)
  fitted = fit_codebooks(audio, text, joint, rvq_config)
  trained = embedder.JointEmbedder(
      config, params, fitted['codebooks'], fitted['text_shift'])
  return fitted, dict(
      audio_vectors=len(audio), text_vectors=len(text),
      **quantize.level_report(audio, fitted['codebooks']),
      **gap_report(trained, corpus, rvq_config))


def fit_codebooks(audio, text, joint, rvq_config):
  """Residual k-means over embeddings of audio, and of text where wanted.

  Args:
    audio: [M, D] float32.
    text: [C, D] float32, C may be 0.
    joint: a JointSpec.
    rvq_config: `RvqConfig`.

  Returns:
    {'codebooks': [Q, K, D], 'text_shift': [D]}.
  """
  shift = np.zeros(joint.embedding_dim, np.float32)
  if rvq_config.align_means and len(text):
    shift = audio.mean(0) - text.mean(0)
  vectors = audio
  if rvq_config.include_text and len(text):
    vectors = np.concatenate([audio, embedder.shifted(text, shift)])
  codebooks = quantize.residual_kmeans(
      jax.random.PRNGKey(rvq_config.seed), vectors, joint.num_codebooks,
      joint.codebook_size, rvq_config.iters)
  return dict(codebooks=np.asarray(codebooks), text_shift=shift)


def clip_embeddings(joint, split, config):
  """[M, D] embeddings of clips of 10 to 30 s all over `split`.

  Of each 30 s clip: its windows, and the re-normalised means of its first 2, 3,
  ... 21 windows, as clips of 11, 12, ... 30 s have them.
  """
  rate = split.sample_rate_hz
  jobs = [(track, start) for track in split
          for start in range(0, max(1, track.num_samples - 9 * rate),
                             _CLIP_SECONDS * rate)]
  if not jobs:
    raise errors.UserError(
        f'{split.directory} holds no audio to fit the RVQ on.')
  order = np.random.default_rng([config.seed, len(jobs)]).permutation(len(jobs))
  kept = []
  for i in order[:config.num_clips]:
    track, start = jobs[i]
    samples = min(_CLIP_SECONDS * rate, track.num_samples - start)
    windows = joint.embed_audio_windows(
        split.read(track, start, samples)[None])[0]
    count = np.arange(1, len(windows) + 1)[:, None]
    means = np.asarray(mulan_model.unit(np.cumsum(windows, 0) / count))
    kept += [windows, means[1:]]
  return np.concatenate(kept)


def text_embeddings(joint, captions, corpus):
  """[C, D] embeddings of captions, through the features kept at the corpus."""
  text = joint.config.text
  if not captions:
    return np.zeros((0, joint.config.joint.embedding_dim), np.float32)
  if not text.frozen:
    return joint.embed_text(captions)
  table = sources.text_features(
      captions, corpus.directory / 'text_features', text.checkpoint,
      text.encoder.pooling)
  return joint.embed_text_features(np.stack([table[c] for c in captions]))


def gap_report(joint, corpus, config):
  """How M_A of a track and M_T of its caption agree, on validation tracks.

  Returns:
    tracks; equal_first_level, the share of tracks whose first M_A token is that
    of M_T, and equal_first_level_shuffled, with captions of other tracks;
    means_cosine between the mean embeddings; positive_cosine and
    shuffled_cosine of pairs; text_to_audio_top1 and top10 among `tracks`.
  """
  name = 'validation' if 'validation' in corpus.splits else 'train'
  tracks = [t for t in corpus.split(name) if t.captions]
  if not tracks:
    return {}
  stride = -(-len(tracks) // config.report_tracks)
  tracks = tracks[::stride]
  split = corpus.split(name)
  clip = _CLIP_SECONDS * split.sample_rate_hz
  audio = np.concatenate([
      joint.embed_audio(split.read(t, 0, min(clip, t.num_samples))[None])
      for t in tracks])
  text = joint.embed_text([t.captions[0] for t in tracks])
  audio_ids = joint.quantize(audio)[:, 0]
  text_ids = joint.quantize(text)[:, 0]
  scores = text @ audio.T
  rank = np.sum(scores >= np.diagonal(scores)[:, None], -1) - 1
  means = [x.mean(0) / np.linalg.norm(x.mean(0)) for x in (audio, text)]
  same = audio_ids[:, None] == text_ids[None]
  off = ~np.eye(len(tracks), dtype=bool)
  average = lambda x: float(np.mean(x)) if x.size else 0.0
  return dict(
      split=name, tracks=len(tracks),
      equal_first_level=average(np.diagonal(same)),
      equal_first_level_shuffled=average(same[off]),
      means_cosine=float(means[0] @ means[1]),
      positive_cosine=average(np.diagonal(scores)),
      shuffled_cosine=average(scores[off]),
      text_to_audio_top1=average(rank < 1),
      text_to_audio_top10=average(rank < 10))
