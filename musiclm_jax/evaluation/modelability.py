"""How well can a codec's tokens be predicted, on any recordings?

  --corpus DIR    clips of its train split ──> a small decoder of a fixed size
                  and training ──> nats of clips of its held-out split
  --data FOLDER   likewise; every fifth file, in an order of its own, is held out

A codec that reconstructs well and cannot be predicted is no gain for the stages
above it. Nats a second compare codecs of any frame rate and codebooks, on the
same music and with the same options.

  musiclm evaluate modelability [--bundle DIR] [--corpus DIR | --data FOLDER]
                                [--clips 64] [--train-clips 1000] [--steps 300]
                                [--levels 4]
"""

import dataclasses
import pathlib
from typing import Any
import zlib

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import codec_modelability
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.metrics import modelability

EVALUATION = {
    'help': "how well can the codec's tokens be predicted?",
    'order': 3,
    'components': ['codec'],
    'clips': 64,
    'clips_help': 'held-out clips of 5 s',
    'corpus_help': 'music with a train split and a held-out one',
    'arguments': {
        '--data': {
            'metavar': 'FOLDER', 'help': 'any folder of audio files'},
        '--train-clips': {
            'type': 'int', 'default': 1000, 'metavar': 'N',
            'help': 'clips that the decoder learns from (default: %(default)s)'
        },
        '--steps': {
            'type': 'int', 'default': 300, 'metavar': 'N',
            'help': 'of its training (default: %(default)s)'},
        '--levels': {
            'type': 'int', 'default': 0, 'metavar': 'Q',
            'help': 'codebooks that it predicts (default: the coarse ones)'}},
}

_ONE_IN = 5  # ours: of a folder's files is held out
_SEED = 5_003


def of_folder(
    codec: Any, directory: str | pathlib.Path, config: modelability.Config,
    train_clips: int, held_clips: int, say: report.Say | None = None
) -> tuple[modelability.Result, clip_sets.ClipSet]:
  """As `codec_modelability.measure`, on a folder of audio files.

  Args:
    codec: has `spec` and `encode`.
    directory: the folder; no file is in both parts.
    config: a modelability.Config.
    train_clips: pieces of 5 s to learn from, at most.
    held_clips: pieces of other files, at most.
    say: takes a line of progress.

  Returns:
    (modelability.Result, the files as a ClipSet).

  Raises:
    UserError: fewer than two files with 5 s of sound.
  """
  say = say or (lambda line: None)
  spec, config = codec.spec, config.of(codec.spec)
  found = clip_sets.from_folder(directory, option=any_music.OPTION)
  say(f'modelability: codes of {len(found)} files')
  parts = _codes(codec, found, dict(train=train_clips, held=held_clips),
                 config.levels)
  for part, (codes, _) in parts.items():
    if not codes:
      raise errors.UserError(
          f'{any_music.OPTION} {directory} has no recording with '
          f'{codec_modelability.SECONDS} s of sound left for its {part} part; '
          f'expected at least {held_out.MIN_CLIPS} such.')
  train, held = (np.concatenate(codes)[:most] for (codes, _), most in zip(
      parts.values(), (train_clips, held_clips)))
  return codec_modelability.of_codes(
      train, held, parts['held'][1][:held_clips], spec, config, say), found


def _codes(codec, found, most, levels):
  """{part: ([[n, T, levels] codes], [tracks])}; no track is in both parts.

  Every `_ONE_IN`th track is held out, in an order that follows no album. Of a
  track as many pieces are taken, from all of it, as its part needs of each.
  """
  rate, rng = codec.spec.sample_rate_hz, np.random.default_rng(_SEED)
  size = codec_modelability.SECONDS * rate
  names = {clip.track for clip in found.clips}
  shares = dict(held=max(1, len(names) // _ONE_IN))
  shares['train'] = max(1, len(names) - shares['held'])
  parts, part_of = {part: ([], []) for part in most}, {}
  for clip in sorted(found.clips, key=lambda clip: (
      zlib.crc32(clip.track.encode()), clip.track)):
    try:
      audio = found.read(clip.id, rate)
    except clip_sets.Refused:
      continue
    pieces = audio[:len(audio) // size * size].reshape(-1, size)
    if not len(pieces):
      continue
    part = part_of.setdefault(
        clip.track, 'train' if len(part_of) % _ONE_IN else 'held')
    codes, tracks = parts[part]
    share = -(-most[part] // shares[part])
    if len(tracks) < most[part]:
      chosen = pieces[np.sort(rng.permutation(len(pieces))[:share])]
      codes.append(codec_modelability.encoded(codec, chosen, levels))
      tracks += [clip.track] * len(chosen)
  return parts


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate modelability`."""
  options, bundle = asked.options, asked.bundle
  any_music.check(options.corpus, options.data, None)
  held_out.check_train_clips(options.train_clips)
  codec, place = bundle.get('codec'), options.data or asked.corpus
  config = modelability.Config(
      levels=options.levels, steps=options.steps, seed=options.seed)
  sets = {}
  if options.data:
    result, sets['files'] = of_folder(
        codec, place, config, options.train_clips, options.clips, asked.say)
  else:
    result = codec_modelability.measure(
        codec, place, config, asked.say, options.train_clips, options.clips)
  section, figures = codec_modelability.section(
      pathlib.Path(place).name, result, config)
  asked.show(section)
  figures = {**figures, 'modelability_clips': float(len(result.nats))}
  return runnable.Outcome(
      figures, [section],
      dict(provenance=provenance.of(
          bundle, options.seed, sets, music=str(place),
          train_clips=options.train_clips,
          decoder=dataclasses.asdict(config.of(codec.spec)))),
      f'Modelability of {bundle.identity}',
      f'{len(result.nats)} clips of {place}, seed {options.seed}')
