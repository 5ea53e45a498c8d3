"""Which file of a folder is which excerpt of a video, by names as downloaders give.

  0123456789a.wav                     the excerpt, or the whole recording
  Y0123456789a.wav                    the same
  A title [0123456789a].opus          the same
  0123456789a_30.wav                  the excerpt, in seconds or milliseconds
  0123456789a_30000_40000.flac        the same
  [0123456789a]-[30-40].wav           the same

Of a recording that is longer than the excerpt, the excerpt is cut at its place
(`sounds.Sound`).
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import pathlib
import re

from musiclm_jax.data import sounds
from musiclm_jax.data.audio_folder import files as folder_files

_BRACKETED = re.compile(r'\[(?P<id>[^\[\]]+)\]-\[(?P<start>[\d.]+)-[\d.]+\]')
_TITLED = re.compile(r'.*\[(?P<id>[^\[\]]+)\]')
_NUMBER = re.compile(r'\d+(\.\d+)?')
_NEAR_SECONDS = 0.5  # ours: names round to whole seconds


@dataclasses.dataclass(frozen=True)
class Excerpt:
  """What is wanted of a video."""

  start_seconds: float
  seconds: float


@dataclasses.dataclass(frozen=True)
class Found:
  """What a folder has.

  Attributes:
    sounds: {id: its excerpt}.
    elsewhere: {id: a file that is named for another place of the video}.
    spare: files of a video that has one already.
    others: files of no video that was wanted.
  """

  sounds: dict[str, sounds.Sound]
  elsewhere: dict[str, pathlib.Path]
  spare: int
  others: int

  def reject(self, split: str, name: str) -> sounds.Reject:
    """Why an id has no sound."""
    if name in self.elsewhere:
      return sounds.Reject(split, name, 'another place', (
          f'{self.elsewhere[name].name} is named for another place of it'))
    return sounds.Reject(split, name, sounds.MISSING, 'no file has its name')


def find(folder: str | pathlib.Path, wanted: Mapping[str, Excerpt]) -> Found:
  """What a folder and those below it have of {video id: excerpt}."""
  found = folder_files.find(folder)
  return match([*found.sound, *found.other_sound], wanted)


def match(paths: Iterable[pathlib.Path], wanted: Mapping[str, Excerpt]) -> Found:
  """What files have of {video id: excerpt}; a name with the place goes first."""
  placed, plain, elsewhere = {}, {}, {}
  spare = others = 0
  for path in paths:
    name, start = _named(path.stem, wanted)
    if name is None:
      others += 1
      continue
    excerpt = wanted[name]
    if start is not None and not _same(start, excerpt.start_seconds):
      elsewhere.setdefault(name, path)
      continue
    table = plain if start is None else placed
    spare += name in plain or name in placed
    table.setdefault(name, sounds.Sound(
        path, start_seconds=excerpt.start_seconds, seconds=excerpt.seconds,
        is_excerpt=None if start is None else True))
  chosen = plain | placed
  return Found(chosen, {name: path for name, path in elsewhere.items()
                        if name not in chosen}, spare, others)


def _named(stem, wanted) -> tuple[str | None, float | None]:
  """(id, where its excerpt begins by the name); (None, None) of others."""
  for name, start in _readings(stem):
    for candidate in (name, name.removeprefix('Y')):
      if candidate in wanted:
        return candidate, start
  return None, None


def _readings(stem) -> Iterator[tuple[str, float | None]]:
  """(id, start) as which a name may be read; an id may itself have '_30' in it."""
  yield stem, None
  found = _BRACKETED.fullmatch(stem)
  if found:
    yield found['id'], float(found['start'])
  found = _TITLED.fullmatch(stem)
  if found:
    yield found['id'], None
  parts = re.split(r'([_-])', stem)
  for tail in (1, 2):  # start, or start and end
    name, numbers = parts[:-2 * tail], parts[len(parts) - 2 * tail + 1::2]
    if name and all(map(_NUMBER.fullmatch, numbers)):
      yield ''.join(name), float(numbers[0])


def _same(named, start):
  """Whether a place in a name, in seconds or milliseconds, is the one wanted."""
  return min(abs(named - start), abs(named / 1000 - start)) <= _NEAR_SECONDS
