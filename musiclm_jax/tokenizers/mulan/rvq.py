"""MuLan's tokens: residual k-means, and how well text meets audio.

MusicLM trains its stages on tokens of audio and prompts them with tokens of
text, so what matters is that both fall into the same cells. With little data
the two towers leave a gap: three settings, all ours, narrow it.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.nn import lloyd
from musiclm_jax.nn import normalise
from musiclm_jax.nn import quantize
from musiclm_jax.tokenizers.mulan import embedder
from musiclm_jax.tokenizers.mulan import gap
from musiclm_jax.tokenizers.mulan import losses
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import sources

_CLIP_SECONDS = 30  # the semantic stage's crop: 21 windows


@dataclasses.dataclass(frozen=True)
class MulanRvqConfig:
  """What the codebooks are fitted to.

  Attributes:
    num_clips: 30 s clips of the training split to embed, at most.
    include_text: fit to the embeddings of the training captions as well.
    align_means: add to every text embedding the difference of the two mean
      embeddings, so that both clouds share a centre.
    text_map: ridge penalty of a linear map from text to audio embeddings,
      fitted on pairs, which takes the place of `align_means`; 0: no map.
    map_tracks: captioned tracks that it is fitted on, at most.
    iters: Lloyd iterations per level.
    min_usage: a first level that uses less of its codebook has collapsed and is
      refused; of the entries that so many vectors, spread evenly, would use. 0
      refuses nothing.
    report_tracks: validation tracks in the report, at most.
    seed: of the draws and the k-means.
  """

  num_clips: int = 1000  # ours
  include_text: bool = True  # ours
  align_means: bool = True  # ours
  text_map: float = 0.0  # ours
  map_tracks: int = 500  # ours
  iters: int = 20  # ours
  min_usage: float = 0.1  # ours
  report_tracks: int = 256
  seed: int = 0


def fit(
    config: mulan_model.MulanConfig, params: dict[str, Any],
    corpus: records.Corpus, rvq_config: MulanRvqConfig,
    averages: dict[str, Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Fits the codebooks to a corpus.

  Args:
    config: `MulanConfig`.
    params: trained parameters.
    corpus: `records.Corpus`; its train split is fitted to, its validation split
      (or else the train split) reported on.
    rvq_config: `MulanRvqConfig`.
    averages: of BatchNorm, if there is any.

  Returns:
    ({'codebooks': [Q, K, D], 'text_shift': [D]}, report).

  Raises:
    UserError: nothing to fit to, or a codebook that collapsed.
  """
  joint = config.joint
  plain = embedder.JointEmbedder(
      config, params, np.zeros((1, 1, joint.embedding_dim), np.float32),
      np.zeros(joint.embedding_dim, np.float32), averages)
  split = corpus.split('train')
  audio = clip_embeddings(plain, split, rvq_config)
  captions = sorted({c for t in split for c in t.captions})
  text = text_embeddings(plain, captions, corpus)
  pairs = None
  if rvq_config.text_map and captions:
    pairs = pair_embeddings(plain, split, corpus, rvq_config)
  fitted = fit_codebooks(audio, text, joint, rvq_config, pairs)
  trained = embedder.JointEmbedder(
      config, params, fitted['codebooks'], fitted['text_shift'], averages,
      fitted.get('text_map'))
  check_usage(trained.quantize(audio), joint.codebook_size,
              rvq_config.min_usage)
  return fitted, dict(
      audio_vectors=len(audio), text_vectors=len(text),
      audio_spread=float(losses.spread(audio)),
      **quantize.level_report(audio, fitted['codebooks']),
      **gap_report(trained, corpus, rvq_config))


def fit_codebooks(
    audio: np.ndarray, text: np.ndarray, joint: specs.JointSpec,
    rvq_config: MulanRvqConfig,
    pairs: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
  """Residual k-means over embeddings of audio, and of text where wanted.

  Args:
    audio: [M, D] float32.
    text: [C, D] float32, C may be 0.
    joint: a JointSpec.
    rvq_config: `MulanRvqConfig`.
    pairs: None or ([n, D] of recordings, [n, D] of their captions), which the
      linear map is fitted on.

  Returns:
    {'codebooks': [Q, K, D], 'text_shift': [D]} and, with pairs, 'text_map'
    [D, D].
  """
  found = dict(text_shift=np.zeros(joint.embedding_dim, np.float32))
  if pairs is not None:
    found = text_map(*pairs, rvq_config.text_map)
  elif rvq_config.align_means and len(text):
    found['text_shift'] = audio.mean(0) - text.mean(0)
  vectors = audio
  if rvq_config.include_text and len(text):
    vectors = np.concatenate([audio, embedder.moved(
        text, found['text_shift'], found.get('text_map'))])
  codebooks = lloyd.residual_kmeans(
      jax.random.PRNGKey(rvq_config.seed), vectors, joint.num_codebooks,
      joint.codebook_size, rvq_config.iters)
  return dict(found, codebooks=np.asarray(codebooks))


def text_map(audio: np.ndarray, text: np.ndarray,
             penalty: float) -> dict[str, np.ndarray]:
  """The ridge regression of recordings on their captions.

  Args:
    audio: [n, D].
    text: [n, D].
    penalty: added to the diagonal of the texts' products, but not to that of
      the constant.

  Returns:
    {'text_map': [D, D], 'text_shift': [D]}: text @ map + shift is nearest to
    audio by the sum of squares, with the penalty.
  """
  means = audio.mean(axis=0), text.mean(axis=0)
  known, wanted = text - means[1], audio - means[0]
  matrix = np.linalg.solve(
      known.T @ known + penalty * np.eye(known.shape[1]), known.T @ wanted)
  return dict(text_map=matrix.astype(np.float32),
              text_shift=(means[0] - means[1] @ matrix).astype(np.float32))


def pair_embeddings(joint: embedder.JointEmbedder, split: records.Split,
                    corpus: records.Corpus,
                    config: MulanRvqConfig) -> tuple[np.ndarray, np.ndarray]:
  """([n, D] of recordings, [n, D] of their captions), a row for each caption.

  Of each track the first 30 s.
  """
  tracks = [track for track in split if track.captions]
  tracks = tracks[::-(-len(tracks) // config.map_tracks)]
  audio, say = [], progress.seldom()
  clip = _CLIP_SECONDS * split.sample_rate_hz
  for number, track in enumerate(tracks, 1):
    heard = joint.embed_audio(
        split.read(track, 0, min(clip, track.num_samples))[None])
    audio.append(np.repeat(heard, len(track.captions), axis=0))
    say(f'text to audio, tracks: {number:,} of {len(tracks):,}')
  text = text_embeddings(
      joint, [c for track in tracks for c in track.captions], corpus)
  return np.concatenate(audio), text


def check_usage(codes: np.ndarray, size: int, least: float) -> None:
  """Refuses codebooks that have collapsed: better none than a useless one.

  k-means leaves an entry empty only where there are fewer distinct vectors than
  entries, so on the first level this is the mark of embeddings that are all the
  same. On later ones it is not: of a corpus of few clips nothing may be left.

  Args:
    codes: [M, Q] int of the vectors that the codebooks were fitted to.
    size: K.
    least: share of `quantize.usage`.

  Raises:
    UserError: the first level uses less.
  """
  first = np.asarray(codes)[:, :1]
  usage = float(quantize.usage(jax.numpy.asarray(first), size)[0])
  if usage < least:
    raise errors.UserError(
        f'the RVQ has collapsed: the {len(first)} vectors it was fitted to use '
        f'{len(np.unique(first))} of the {size} entries of level 1. The '
        f'embeddings are nearly all the same: the recordings are (silence?), '
        f'or training went wrong (see spread/audio in metrics.csv). Train '
        f'again, or export all the same with rvq.MulanRvqConfig.min_usage = 0.')


def clip_embeddings(joint: Any, split: records.Split,
                    config: MulanRvqConfig) -> np.ndarray:
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
  order, kept, say = order[:config.num_clips], [], progress.seldom()
  for i in order:
    track, start = jobs[i]
    samples = min(_CLIP_SECONDS * rate, track.num_samples - start)
    kept.append(clip_vectors(joint.embed_audio_windows(
        split.read(track, start, samples)[None])[0]))
    say(f'RVQ, clips: {len(kept):,} of {len(order):,}')
  return np.concatenate(kept)


def clip_vectors(windows: np.ndarray) -> np.ndarray:
  """[W, D] windows of a clip -> [2 W - 1, D]: they, and their running means."""
  count = np.arange(1, len(windows) + 1)[:, None]
  means = np.asarray(normalise.unit(np.cumsum(windows, 0) / count))
  return np.concatenate([windows, means[1:]])


def text_embeddings(joint: embedder.JointEmbedder, captions: Sequence[str],
                    corpus: records.Corpus) -> np.ndarray:
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


def gap_report(joint: embedder.JointEmbedder, corpus: records.Corpus,
               config: MulanRvqConfig) -> dict[str, Any]:
  """How M_A of a track and M_T of its caption agree, on validation tracks.

  Returns:
    {} without captions; else the split and number of tracks, what `gap.measure`
    says, and text_to_audio_top1 and top10 among the tracks.
  """
  name = 'validation' if 'validation' in corpus.splits else 'train'
  split = corpus.split(name)
  tracks = [t for t in split if t.captions]
  if not tracks:
    return {}
  tracks = tracks[::-(-len(tracks) // config.report_tracks)]
  clip = _CLIP_SECONDS * split.sample_rate_hz
  audio = np.concatenate([
      joint.embed_audio(split.read(t, 0, min(clip, t.num_samples))[None])
      for t in tracks])
  text = joint.embed_text([t.captions[0] for t in tracks])
  return dict(
      split=name, tracks=len(tracks), **gap.measure(joint, audio, text),
      **{f'text_to_audio_top{k}': float(losses.retrieval(text, audio, k))
         for k in (1, 10)})
