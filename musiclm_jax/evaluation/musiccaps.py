"""The captions protocol on MusicCaps (Agostinelli et al. 2023, section 7).

DIR holds the CSV of the data set, `musiccaps-public.csv`, and what could be had
of its audio, by the names that data/clips.py knows, such as <ytid>.wav: ten
seconds each, or whole, of which the ten seconds are cut. Videos vanish, so --out
gets an availability manifest of all rows (available.csv), and the table
says how many of them it is of. A published figure is of another selection.

  all        every row
  eval       the 2,858 rows of AudioSet's evaluation split
  balanced   the 1,000 rows that are balanced over genres

`retrieved` looks up among the rows of AudioSet's training split, none of which
is in `eval` or `balanced`; it is left out of `all`.

  musiclm evaluate musiccaps --data DIR --out OUT [--subset balanced]
"""

from __future__ import annotations

import csv
import dataclasses
import io
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.data import clips as excerpts
from musiclm_jax.data.musiccaps import table
from musiclm_jax.evaluation import captions as captions_lib
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import runnable

EVALUATION = {
    'help': 'the same on MusicCaps, with what of its audio there is',
    'components': ['codec', 'mulan', 'semantic', 'coarse'],
    'packages': ['sklearn'],
    'corpus': False,
    'clips': 6000,
    'clips_help': 'captions at most',
    'most_clips': 6000,
    'groups': ['drawing', 'measures'],
    'arguments': {
        '--data': {'required': True, 'metavar': 'DIR',
                   'help': 'musiccaps-public.csv and the clips'},
        '--subset': {'choices': ['all', 'eval', 'balanced'], 'default': 'all',
                     'help': 'of the rows (default: all)'},
    },
}


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate musiccaps`."""
  options = asked.options
  options.source = options.data
  rows, available = load(options.data)
  source = chosen(rows, available, options.subset, options.clips)
  out = pathlib.Path(options.out)
  out.mkdir(parents=True, exist_ok=True)
  files.write_text(out / 'available.csv', manifest(rows, available))
  return captions_lib.draw_and_measure(asked, source)


def load(directory: str | pathlib.Path) -> tuple[
    dict[str, table.Row], dict[str, clip_sets.Clip]]:
  """({ytid: row} of the CSV, {ytid: clip} of those with audio).

  Raises:
    UserError: no folder, not one CSV in it, or not one of MusicCaps.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise errors.UserError(f'--data {directory} is not a folder.')
  tables = sorted(directory.glob('*.csv'))
  if len(tables) != 1:
    raise errors.UserError(
        f'--data {directory} has {len(tables)} CSVs; expected one, '
        f'musiccaps-public.csv.')
  rows = table.read(tables[0])
  try:
    files = {pathlib.Path(c.where): c for c in clip_sets.from_folder(
        directory, option='--data').clips}
  except errors.UserError as error:
    raise errors.UserError(
        f'{directory} has none of the clips of {tables[0].name}, such as '
        f'{next(iter(rows), "<ytid>")}.wav ({error})') from error
  found = excerpts.match(files, {n: row.excerpt for n, row in rows.items()})
  return rows, {
      name: dataclasses.replace(files[place.path], sound=place.read)
      for name, place in found.places.items()}


def chosen(rows: dict[str, table.Row],
           available: dict[str, clip_sets.Clip], subset: str,
           count: int) -> captions_lib.Source:
  """The rows of a subset that have audio, with what to look up beside them."""
  wanted = [name for name, row in rows.items() if _in(row, subset)]
  usable = [name for name in wanted if name in available]
  if not usable:
    raise errors.UserError(
        f'none of the {len(wanted)} clips of --subset {subset} is there.')
  clip = lambda name: clip_sets.Clip(
      name, name, available[name].sound, rows[name].caption,
      rows[name].fields, available[name].where, available[name].sample_rate_hz)
  clips = clip_sets.ClipSet('MusicCaps', map(clip, captions_lib.sampled(
      usable, count)))
  training = [n for n, row in rows.items()
              if n in available and not _in(row, 'eval')]
  notes = [f'MusicCaps, {subset}: {len(clips)} of {len(wanted)} clips, of '
           f'{len(available)} that are there of {len(rows)}']
  if len(rows) != table.NUM_ROWS:
    notes.append(f'the CSV has {len(rows)} rows, the published one '
                 f'{table.NUM_ROWS}')
  pool = None
  if subset != 'all' and training:
    pool = clip_sets.ClipSet('MusicCaps, training', map(clip, training))
  return captions_lib.Source('MusicCaps', clips, clips, pool=pool,
                             notes=tuple(notes))


def _in(row, subset):
  return (subset == 'all' or
          (row.is_balanced if subset == 'balanced' else row.is_eval))


def manifest(rows: dict[str, table.Row],
             available: dict[str, clip_sets.Clip]) -> str:
  """A CSV: every row, whether it is there, at which rate, in which subsets."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['ytid', 'available', 'sample_rate_hz', 'balanced', 'eval'])
  for name, row in rows.items():
    clip = available.get(name)
    writer.writerow([
        name, int(clip is not None), clip.sample_rate_hz if clip else '',
        int(_in(row, 'balanced')), int(_in(row, 'eval'))])
  return text.getvalue()
