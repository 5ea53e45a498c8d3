"""Draws a clip for each of many captions and measures all that can be measured.

SOURCE is one of

  a corpus          its held-out split: captions, recordings, facts; its train
                    split is what `retrieved` looks up
  a folder          of recordings, with --captions CSV or the one CSV in it
  a CSV             id,caption: no recordings, so that captions alone are judged

  OUT/drawn/        the clips, made once: run again, it goes on where it was
                    killed; --shard 0/4 to 3/4 draw side by side
  OUT/codec/ ...    the rows that keep the table honest, see evaluation/baselines.py

  musiclm evaluate captions CORPUS --out OUT [--clips 100] [--json FILE]

Nothing is tuned on the clips that are drawn here.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any
import zlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.evaluation import baselines
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation import drawing
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import protocol
from musiclm_jax.evaluation import runnable

EVALUATION = {
    'help': 'draw a clip for each caption, and the whole table of measures',
    'components': ['codec', 'mulan', 'semantic', 'coarse'],
    'packages': ['sklearn'],
    'corpus': False,
    'clips': 100,
    'clips_help': 'captions, of different recordings',
    'most_clips': 100000,
    'groups': ['drawing', 'measures'],
    'arguments': {
        'source': {'metavar': 'SOURCE',
                   'help': 'a corpus, a folder of recordings, or a CSV'},
        '--captions': {'metavar': 'CSV', 'help': 'of a folder of recordings'},
    },
}
SECONDS = (1, 30)


@dataclasses.dataclass(frozen=True)
class Source:
  """What is drawn for, and what there is to hold it against.

  Attributes:
    name: of it.
    asked: clips with captions, whose audio need not exist.
    recordings: the same clips where there is audio, or None.
    other: another clip of each recording, or None.
    pool: training recordings with captions, or None.
    notes: what a reader has to know.
  """

  name: str
  asked: clip_sets.ClipSet
  recordings: clip_sets.ClipSet | None = None
  other: clip_sets.ClipSet | None = None
  pool: clip_sets.ClipSet | None = None
  notes: tuple[str, ...] = ()


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate captions`."""
  options = asked.options
  source = find(options.source, options.captions, options.clips,
                options.seconds, asked.bundle.tokens.audio.sample_rate_hz)
  return draw_and_measure(asked, source)


def draw_and_measure(asked: runnable.Asked, source: Source
                     ) -> runnable.Outcome:
  """Draws what is missing in --out, and measures unless some is left to others.

  Args:
    asked: with the options of `captions`.
    source: what to draw for.
  """
  options, out = asked.options, pathlib.Path(asked.options.out)
  shard = drawing.Shard.read(options.shard) if options.shard else (
      drawing.Shard())
  files.check_folder(out, '--out')
  comparison.chosen(options.measures)  # an unknown name is said at once
  captions = {c.id: c.caption for c in source.asked.clips}
  missing = drawing.draw(
      asked.bundle, captions, out / 'drawn', options.seconds, options.seed,
      shard, asked.say)
  about = dict(source=str(options.source), seed=options.seed,
               captions=len(captions), seconds=options.seconds)
  if missing:
    asked.say(f'{len(missing)} clips are left to other shards; run again '
              f'without --shard once they are there')
    return runnable.Outcome(
        dict(captions_missing=float(len(missing))), [], about,
        f'Captions of {source.name}', 'drawn in part')
  rows = _rows(asked, source, out)
  return protocol.measured(
      asked, rows, source.recordings,
      f'{len(captions)} captions of {source.name}, {options.seconds} s each',
      f'{len(captions)} clips drawn by {asked.bundle.identity}, seed '
      f'{options.seed}', notes=source.notes, folder=out, about=about)


def _rows(asked, source, out):
  """The table's: what was drawn, and what keeps it honest."""
  bundle, seed = asked.bundle, asked.options.seed
  rate = bundle.tokens.audio.sample_rate_hz
  drawn = baselines.like(
      clip_sets.from_folder(out / 'drawn', name='drawn'), source.asked)
  rows = [comparison.Row('drawn', drawn, f'by {bundle.identity}')]
  real = source.recordings
  if real is None:
    return rows
  if source.other is not None:
    rows.append(comparison.Row(
        'other half', source.other, 'another clip of the same recordings: '
        'real music of that caption'))
  else:
    parts = comparison.halves(real)
    if parts is not None:
      rows.append(comparison.Row(
          'other half', parts[0], 'one half of the recordings beside the '
          'other', parts[1]))
  asked.say('the recordings through the codec')
  rows.append(comparison.Row(
      'codec', baselines.through_codec(bundle.tokenizer('codec'), real, out),
      'the recordings through the codec'))
  if source.pool is not None:
    asked.say(f'the nearest of {len(source.pool)} training captions')
    rows.append(comparison.Row('retrieved', baselines.retrieved(
        bundle.tokenizer('joint').embed_text, real, source.pool, rate, out),
                               'training recordings of the nearest captions'))
  rows.append(comparison.Row(
      'noise', baselines.noise(real, rate, out, seed), 'white noise'))
  return rows


def find(place: str, captions: str | None, count: int, seconds: int,
         rate: int) -> Source:
  """What SOURCE means.

  Args:
    place: a corpus, a folder or a CSV.
    captions: CSV of a folder, or None.
    count: clips at most.
    seconds: of each.
    rate: of the bundle.

  Raises:
    UserError: it is none of them, or has no captions.
  """
  if not SECONDS[0] <= seconds <= SECONDS[1]:
    raise errors.UserError(
        f'--seconds is {seconds}; expected {SECONDS[0]} to {SECONDS[1]}.')
  path = pathlib.Path(place)
  if (path / 'manifest.json').is_file():
    return _of_corpus(path, count, seconds, rate)
  if path.is_dir():
    return _of_folder(path, captions, count)
  if path.suffix.lower() == '.csv':
    return _of_table(path, count)
  raise errors.UserError(
      f'{place} is no corpus, folder of recordings or CSV of captions.')


def _of_corpus(path, count, seconds, rate):
  corpus, name = held_out.open_corpus(path, rate, 'SOURCE')
  split = corpus.split(name)
  usable = [t for t in split if not held_out.is_hummed(t) and
            t.num_samples >= seconds * rate]
  tracks = [t for t in held_out.in_turn(
      usable, lambda t: t.meta.get('family', '')) if t.captions]
  without = len(usable) - len(tracks)
  if not tracks:
    raise errors.UserError(
        f'the {name} split of {path} has no recordings of {seconds} s with '
        f'captions; choose another SOURCE or fewer --seconds.')
  cut = lambda place: clip_sets.from_split(
      split, seconds, tracks[:count], place, corpus.name)
  pool = None
  if 'train' in corpus.splits:
    training = corpus.split('train')
    pool = clip_sets.from_split(training, seconds, [
        t for t in training if t.captions and not held_out.is_hummed(t)])
  notes = [f'{corpus.name}, {name} split: {len(tracks[:count])} of '
           f'{len(tracks)} recordings']
  if without:
    notes.append(f'{without} recordings have no caption')
  # Two clips that share nothing, where the recording is long enough.
  long = all(t.num_samples >= 2 * seconds * rate for t in tracks[:count])
  first = cut(0.0)
  return Source(corpus.name, first, first, cut(1.0) if long else None, pool,
                tuple(notes))


def _of_folder(path, captions, count):
  if captions is None:
    tables = sorted(path.glob('*.csv'))
    if len(tables) != 1:
      raise errors.UserError(
          f'{path} has {len(tables)} CSVs; expected one with the columns id '
          f'and caption, or --captions.')
    captions = tables[0]
  everything = clip_sets.from_folder(path, captions, 'SOURCE')
  clips = protocol.check_captions(everything, str(path))
  listed = clip_sets.read_captions(captions)
  notes = []
  if len(clips) < len(everything):
    notes.append(f'{len(everything) - len(clips)} of {len(everything)} '
                 f'recordings have no caption')
  alone = sum(name not in clips for name in listed)
  if alone:
    notes.append(f'{alone} of {len(listed)} captions have no recording')
  some = clips.only(sampled(clips.ids, count))
  return Source(path.name, some, some, notes=tuple(notes))


def _of_table(path, count):
  rows = clip_sets.read_captions(path)
  clips = [clip_sets.Clip(name, name, _no_audio, row['caption'], row)
           for name, row in rows.items() if row['caption'].strip()]
  if not clips:
    raise errors.UserError(f'no row of {path} has a caption.')
  everything = clip_sets.ClipSet(path.stem, clips)
  notes = ['there are captions alone, and no recordings']
  if len(clips) < len(rows):
    notes.append(f'{len(rows) - len(clips)} of {len(rows)} rows have no '
                 f'caption')
  return Source(path.stem, everything.only(sampled(everything.ids, count)),
                notes=tuple(notes))


def sampled(ids: Any, count: int) -> list[str]:
  """`count` of the ids, the same ones each time, whatever their order."""
  return sorted(ids, key=lambda n: (zlib.crc32(n.encode()), n))[:count]


def _no_audio(unused_rate):
  raise clip_sets.Refused('unreadable', 'there is no recording.')
