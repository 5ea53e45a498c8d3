"""Which file of a folder is which excerpt of a video, by names as downloaders give.

  0123456789a.wav                     the excerpt, or the whole recording
  Y0123456789a.wav                    the same
  A title [0123456789a].opus          the same
  0123456789a_30.wav                  the excerpt, in seconds or milliseconds
  0123456789a_30000_40000.flac        the same
  [0123456789a]-[30-40].wav           the same

Of a file that is longer than the excerpt and is not named with its place, the
excerpt is a part.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import pathlib
import re

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax.data import downloads
from musiclm_jax.data.audio_folder import files as folder_files
from musiclm_jax.data.audio_folder import items

_BRACKETED = re.compile(r'\[(?P<id>[^\[\]]+)\]-\[(?P<start>[\d.]+)-[\d.]+\]')
_TITLED = re.compile(r'.*\[(?P<id>[^\[\]]+)\]')
_NUMBER = re.compile(r'\d+(\.\d+)?')
_NEAR_SECONDS = 0.5  # ours: names round to whole seconds
# ours: a file this much longer than its excerpt is the whole recording. Cutters
# leave a frame or a second too much.
_SLACK_SECONDS = 1.5
_PROBE_HZ = 24_000  # any rate: a length in seconds is asked for


@dataclasses.dataclass(frozen=True)
class Excerpt:
  """What is wanted of a video."""

  start_seconds: float
  seconds: float


@dataclasses.dataclass(frozen=True)
class Place:
  """A file that has an excerpt.

  Attributes:
    path: of the file.
    excerpt: what is wanted of the video.
    is_excerpt: whether the file is known to hold the excerpt alone.
  """

  path: pathlib.Path
  excerpt: Excerpt
  is_excerpt: bool

  def span(self) -> tuple[float, float]:
    """(start, end) of the excerpt in the file, in seconds; looks at its length."""
    length = self.excerpt.seconds
    if self.is_excerpt or _seconds(self.path) <= length + _SLACK_SECONDS:
      return 0.0, length
    return self.excerpt.start_seconds, self.excerpt.start_seconds + length

  def read(self, sample_rate_hz: int) -> np.ndarray:
    """[N] float32 of the excerpt; `audio_stream.Unusable` where it has none."""
    start, end = (round(edge * sample_rate_hz) for edge in self.span())
    return audio_lib.read(self.path, sample_rate_hz)[start:end]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a folder has.

  Attributes:
    places: {id: the file that has it}.
    elsewhere: {id: a file that is named for another place of the video}.
    spare: files of a video that has one already.
    others: files of no video that was wanted.
  """

  places: dict[str, Place]
  elsewhere: dict[str, pathlib.Path]
  spare: int
  others: int

  def item(self, split: str, name: str, captions: Iterable[str] = (),
           aspects: Iterable[str] = (), **about: object
           ) -> items.Item | downloads.Reject:
    """A video's excerpt as a recording to read, or why there is none.

    Args:
      split: 'train', 'validation' or 'test'.
      name: the video's id.
      captions: sentences.
      aspects: short tags.
      **about: JSON values: whatever else is known.
    """
    if name in self.elsewhere:
      return downloads.Reject(split, name, 'another place', (
          f'{self.elsewhere[name].name} is named for another place of it'))
    if name not in self.places:
      return downloads.Reject(
          split, name, downloads.MISSING, 'no file has its name')
    place = self.places[name]
    start, end = place.span()
    return items.Item(
        name, str(place.path), captions=tuple(captions), aspects=tuple(aspects),
        split=split, start_seconds=start, end_seconds=end, about=dict(
            about, video_seconds=place.excerpt.start_seconds))


def find(folder: str | pathlib.Path, wanted: Mapping[str, Excerpt]) -> Found:
  """What a folder and those below it have of {video id: excerpt}.

  Raises:
    UserError: there is no such folder.
  """
  folder = files_lib.expand(folder)
  if not folder.is_dir():
    raise errors.UserError(f'--audio {folder} is not a folder.')
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
    table.setdefault(name, Place(path, excerpt, start is not None))
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


def _seconds(path):
  """A file's length; 0 where it cannot be read, as whoever reads it will say."""
  try:
    with audio_stream.Source(path, _PROBE_HZ) as source:
      return source.seconds
  except errors.UserError:
    return 0.0
