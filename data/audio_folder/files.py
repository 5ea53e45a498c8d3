"""What lies in a folder: sound, sound that nothing here decodes, the rest."""

import collections
import dataclasses
import os
import pathlib

from musiclm_jax import audio_stream

SOUND = ('.wav', '.wave', '.w64', '.rf64', '.flac', '.ogg', '.oga', '.opus',
         '.mp3', '.aiff', '.aif', '.aifc', '.caf', '.au',
         *audio_stream.CODED_SUFFIXES)
# Sound by their names, of formats that the decoder does not know.
OTHER_SOUND = ('.ape', '.wv', '.mpc', '.amr', '.ac3', '.dts', '.dsf', '.dff',
               '.tta', '.alac', '.ra')
HIDDEN, LINKED, BROKEN, CLOSED, NO_SOUND = (
    'hidden', 'linked twice', 'broken link', 'folder that cannot be opened',
    'no sound by its name')


@dataclasses.dataclass
class Found:
  """The files of a folder, in the order of their names.

  Attributes:
    sound: paths of files to decode.
    other_sound: paths of recordings in formats that are not decoded.
    passed_over: how many files and folders were not looked at, by reason.
  """

  sound: list
  other_sound: list
  passed_over: collections.Counter


def find(folder):
  """What lies in a folder and those below it, as `Found`.

  Links are followed, but nothing is taken twice because of one: a link to what
  is there anyway is passed over, and so is a folder that leads back to itself.
  What begins with a dot is hidden, and its owner's.

  Args:
    folder: that exists.
  """
  folder = pathlib.Path(folder)
  found = Found([], [], collections.Counter())
  seen, links = set(), collections.deque()
  _walk(folder, found, seen, links)
  while links:  # after all that is there without them
    _follow(links.popleft(), found, seen, links)
  for files in (found.sound, found.other_sound):
    files.sort(key=lambda path: path.relative_to(folder).as_posix())
  return found


def _walk(folder, found, seen, links):
  """Adds what lies in and below a folder; links are put off."""
  seen.add(_identity(folder))
  try:
    with os.scandir(folder) as entries:
      entries = sorted(entries, key=lambda entry: entry.name)
  except OSError:
    found.passed_over[CLOSED] += 1
    return
  for entry in entries:
    path = folder / entry.name
    if entry.name.startswith('.'):
      found.passed_over[HIDDEN] += 1
    elif entry.is_symlink():
      links.append(path)
    elif entry.is_dir():
      _walk(path, found, seen, links)
    else:
      _add(path, found, seen)


def _follow(link, found, seen, links):
  """Adds what a link leads to, unless it was there before."""
  try:
    twice = _identity(link) in seen
  except OSError:
    found.passed_over[BROKEN] += 1
    return
  if twice:
    found.passed_over[LINKED] += 1
  elif link.is_dir():
    _walk(link, found, seen, links)
  else:
    _add(link, found, seen)


def _add(path, found, seen):
  suffix = path.suffix.lower()
  if suffix in SOUND and path.is_file():
    seen.add(_identity(path))
    found.sound.append(path)
  elif suffix in OTHER_SOUND and path.is_file():
    found.other_sound.append(path)
  else:
    found.passed_over[NO_SOUND] += 1


def _identity(path):
  status = os.stat(path)
  return status.st_dev, status.st_ino
