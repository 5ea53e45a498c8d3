"""Clips of a corpus through a codec, and what their codes cost to predict."""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import streams
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import modelability

SECONDS = 5  # of a clip
# ours: 83 minutes that the decoder sees about three times, and 320 s to judge.
TRAIN_CLIPS, HELD_CLIPS = 1_000, 64
_BATCH = 4
_SEEDS = dict(train=5_003, held=7_001)


def check(place: str | pathlib.Path, rate: int) -> tuple[records.Corpus, str]:
  """The corpus and its held-out split; UserError unless it can be used.

  Args:
    place: a corpus with a train and a test or validation split.
    rate: samples a second that the codec works at.

  Returns:
    (records.Corpus, name of the held-out split).
  """
  try:
    corpus, name = held_out.open_corpus(place, rate, '--data')
  except errors.UserError as error:
    raise errors.UserError(f'--modelability: {error}') from error
  if 'train' not in corpus.splits:
    raise errors.UserError(
        f'--modelability trains on codes, and {place} has no train split, only '
        f'{", ".join(corpus.splits)}; choose another --data.')
  return corpus, name


def measure(
    codec: Any, place: str | pathlib.Path, config: modelability.Config,
    say: report.Say | None = None, train_clips: int = TRAIN_CLIPS,
    held_clips: int = HELD_CLIPS) -> modelability.Result:
  """Encodes clips of both splits, trains on the one, asks for the other.

  Args:
    codec: has `spec` and `encode`.
    place: as of `check`.
    config: a modelability.Config.
    say: None or a function of a line of progress.
    train_clips: clips that the decoder learns from.
    held_clips: clips that it is asked for.

  Returns:
    A modelability.Result.
  """
  say = say or (lambda line: None)
  spec, config = codec.spec, config.of(codec.spec)
  corpus, name = check(place, spec.sample_rate_hz)
  codes, tracks = {}, ()
  for part, split, count in (('train', 'train', train_clips),
                             ('held', name, held_clips)):
    say(f'modelability: codes of {count} clips of {split}')
    codes[part], tracks = _codes(
        codec, corpus.split(split), count, _SEEDS[part], config.levels)
  return of_codes(codes['train'], codes['held'], tracks, spec, config, say)


def of_codes(
    train: np.ndarray, held: np.ndarray, tracks: Sequence[str],
    spec: specs.CodecSpec, config: modelability.Config,
    say: report.Say | None = None) -> modelability.Result:
  """Trains on [n, T, Q] codes and asks for others, of which `tracks` are."""
  return dataclasses.replace(
      modelability.measure(train, held, spec.codebook_size, spec.frame_rate_hz,
                           config, say), tracks=tuple(tracks))


def encoded(codec: Any, audio: np.ndarray, levels: int) -> np.ndarray:
  """[n, N] -> [n, T, levels] codes."""
  return streams.by_batch(
      lambda part: np.asarray(codec.encode(part))[..., :levels], audio, _BATCH)


def _codes(codec, split, count, seed, levels):
  """([count, T, levels] codes of crops, [count] tracks).

  Any second is as likely as another.
  """
  rate = codec.spec.sample_rate_hz
  crops = records.Crops(split, SECONDS * rate, _BATCH, seed)
  parts, tracks = [], []
  for step in range(-(-count // _BATCH)):
    batch = crops.batch(step)
    parts.append(encoded(codec, batch['audio'], levels))
    tracks += [split[int(i)].id for i in batch['track']]
  return np.concatenate(parts)[:count], tracks[:count]


def section(
    label: str, result: modelability.Result, config: modelability.Config,
    prefix: str = '') -> report.Told:
  """(report.Section, figures) of a `modelability.Result`."""
  per_second = result.per_second
  value = float(per_second.mean())
  tracks = result.tracks or [str(i) for i in range(len(per_second))]
  low, high = intervals.of_mean(per_second, tracks)
  bits = 1.0 / np.log(2.0)
  name = f'{prefix}modelability'
  figures = {
      f'{name}_nats_per_second': value,
      f'{name}_nats_per_second_low': float(low),
      f'{name}_nats_per_second_high': float(high),
      f'{name}_bits_per_second': value * bits,
      f'{name}_unigram_nats_per_second': result.unigram_per_second,
      f'{name}_levels': len(result.unigram), f'{name}_steps': config.steps}
  for level, (nats, unigram) in enumerate(
      zip(result.by_level, result.unigram), 1):
    figures[f'{name}_nats_level{level}'] = float(nats)
    figures[f'{name}_unigram_level{level}'] = float(unigram)
  shown = lambda values: ' '.join(f'{v:.2f}' for v in values)
  lines = (
      report.Line('nats a second', f'{value:.0f}', f'{low:.0f} to {high:.0f}',
                  f'unigram {result.unigram_per_second:.0f}'),
      report.Line('bits a second', f'{value * bits:.0f}', '',
                  f'unigram {result.unigram_per_second * bits:.0f}'),
      report.Line('nats a token', f'{result.by_level.mean():.2f}',
                  shown(result.by_level), 'by level'),
      report.Line('unigram', f'{result.unigram.mean():.2f}',
                  shown(result.unigram), 'by level'))
  return report.Section(
      f'{label}: modelability of {len(result.unigram)} levels, '
      f'{config.steps} steps, {len(per_second)} clips of {SECONDS} s',
      lines), figures
