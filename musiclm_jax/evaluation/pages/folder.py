"""What there is to show in a folder: evaluations, training runs, sounds."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation.pages import measured
from musiclm_jax.evaluation.pages import runs

DEPTH = 4  # folders below the one that was named
MOST_FILES = 50_000  # that are looked at
_LEFT_OUT = frozenset({'checkpoints', 'tensorboard', 'hosts'})  # of runs
_CAPTIONS = 'captions.csv'


@dataclasses.dataclass(frozen=True)
class SoundSet:
  """The sounds of one folder.

  Attributes:
    name: of the folder.
    files: {id: path}.
    captions: {id: text}, of the captions.csv in it.
  """

  name: str
  files: dict[str, pathlib.Path]
  captions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Folder:
  """A folder's contents, each in the order of names.

  Attributes:
    directory: the folder.
    evaluations: of JSON files.
    runs: of folders with metrics.csv.
    sounds: of folders with audio files that no evaluation shows.
    skipped: (file, why) of JSON and CSV files that are not shown.
    notes: lines on what was not looked at.
  """

  directory: pathlib.Path
  evaluations: tuple[measured.Evaluation, ...]
  runs: tuple[runs.Run, ...]
  sounds: tuple[SoundSet, ...]
  skipped: tuple[tuple[str, str], ...]
  notes: tuple[str, ...]

  @property
  def label(self) -> str:
    """What the page calls it."""
    return self.directory.resolve().name or str(self.directory)


def read(directory: str | os.PathLike, what: str = 'the folder') -> Folder:
  """Everything to show below a folder.

  Args:
    directory: the folder.
    what: how messages call it.

  Raises:
    UserError: it is no folder, or there is nothing to show.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise errors.UserError(
        f'{what} {directory} is not a folder; name one with what `musiclm '
        f'evaluate NAME --json FILE` wrote.')
  found, trained, sounds, skipped = [], [], [], []
  files, notes = _files(directory)
  for folder, names in files.items():
    told = pathlib.PurePath(os.path.relpath(folder, directory))
    is_run = runs.METRICS in names
    if is_run:
      _try(lambda: trained.append(runs.read(folder, _shown(told, directory))),
           told / runs.METRICS, skipped)
    for name in names:
      if name.endswith('.json') and not (is_run and name == runs.RECORD):
        path, shown = folder / name, told / name
        _try(lambda: found.append(measured.read(
            path, shown.with_suffix('').as_posix())), shown, skipped)
    audio = [n for n in names if n.lower().endswith(clip_sets.SUFFIXES)]
    if audio:
      sounds.append((folder, _shown(told, directory), audio,
                     _CAPTIONS in names))
  heard = {os.path.realpath(p) for e in found for i in e.items
           for p in i.sounds.values()}
  sets = [_sound_set(*s, heard, skipped) for s in sounds]
  sets = [s for s in sets if s.files]
  if not (found or trained or sets):
    why = ''
    if skipped:
      are = 'file that is' if len(skipped) == 1 else 'files that are'
      name, reason = skipped[0]
      why = (f' ({len(skipped)} {are} something else, such as {name}: '
             f'{reason.rstrip(".")})')
    raise errors.UserError(
        f'{what} {directory} has nothing to show: no JSON of an evaluation, no '
        f'{runs.METRICS} of a training, no audio files{why}.')
  return Folder(directory, tuple(found), tuple(trained), tuple(sets),
                tuple(skipped), tuple(notes))


def _files(directory):
  """({folder: names of its files}, notes)."""
  found, count, notes = {}, 0, []
  for place, folders, names in os.walk(directory):
    folder = pathlib.Path(place)
    depth = len(folder.relative_to(directory).parts)
    folders[:] = sorted(f for f in folders
                        if f not in _LEFT_OUT and not f.startswith('.'))
    if depth == DEPTH and folders:
      notes.append(f'Folders below {folder.relative_to(directory)} were not '
                   f'looked into: at most {DEPTH} levels are.')
      folders[:] = []
    names = sorted(n for n in names if not n.startswith('.'))
    if count + len(names) > MOST_FILES:
      names = names[:MOST_FILES - count]
      notes.append(f'There are more files: {MOST_FILES:,} were looked at.')
      folders[:] = []
    count += len(names)
    found[folder] = names
    if count >= MOST_FILES:
      break
  return found, notes


def _try(read_it, shown, skipped):
  """Reads one thing, or writes down why it cannot be shown."""
  try:
    read_it()
  except errors.UserError as error:
    skipped.append((shown.as_posix(), str(error)))


def _shown(told, directory):
  name = told.as_posix()
  return name if name != '.' else directory.resolve().name or '.'


def _sound_set(folder, name, audio, with_captions, heard, skipped):
  """The files of a folder that no evaluation shows already."""
  files = {pathlib.PurePath(n).stem: folder / n for n in audio
           if os.path.realpath(folder / n) not in heard}
  captions = {}
  if with_captions and files:
    try:
      rows = clip_sets.read_captions(folder / _CAPTIONS)
      captions = {key: row.get('caption') or '' for key, row in rows.items()}
    except errors.UserError as error:
      skipped.append((f'{name}/{_CAPTIONS}', str(error)))
  return SoundSet(name, files, captions)
