"""Sets of clips from anywhere: a folder of audio files, or a corpus's split.

  folder of WAVs [+ CSV of captions] ──┐
  a corpus on disk, one of its splits ─┴─> ClipSet ──> (Clip, audio), one by one

A clip of one set belongs to the clip of another set that has the same id: what
was generated, and the recording whose caption it was generated from. What cannot
be used is listed with its reason, and is in no mean: `ClipSet.refused`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import csv
import dataclasses
import pathlib

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import records

SUFFIXES = ('.wav', '.flac', '.ogg', '.opus', '.mp3', '.aiff', '.aif')
SILENCE = 1e-4  # ours: largest sample of a clip that nobody hears, -80 dB
_ID_COLUMNS = ('id', 'file', 'file_name', 'filename', 'ytid')
_CAPTION, _TRACK = 'caption', 'track'


class Refused(errors.UserError):
  """A clip that is in no mean.

  Attributes:
    reason: 'unreadable', 'channels', 'rate', 'empty', 'nan' or 'silent'.
  """

  def __init__(self, reason: str, line: str):
    super().__init__(line)
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Clip:
  """One clip, not yet read.

  Attributes:
    id: its name in the set, which pairs it with other sets' clips.
    track: the recording that it was cut from; intervals resample tracks.
    sound: rate in Hz -> [N] float32.
    caption: '' where there is none.
    facts: what else is known: columns of the CSV, or a corpus's metadata.
    where: the file, or the corpus's track, for messages.
    sample_rate_hz: that it is stored at, 0 where nobody has looked.
  """

  id: str
  track: str
  sound: Callable[[int], np.ndarray]
  caption: str = ''
  facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
  where: str = ''
  sample_rate_hz: int = 0


class ClipSet:
  """Clips in a fixed order, read when they are asked for.

  Attributes:
    name: what tables call it.
    clips: all that are listed, usable or not.
    refused: {id: (reason, line)} of those found unusable so far.
  """

  def __init__(self, name: str, clips: Iterable[Clip],
               refused: Mapping[str, tuple[str, str]] | None = None):
    self.name, self.clips = name, tuple(clips)
    self.refused = dict(refused or {})
    self._by_id = {clip.id: clip for clip in self.clips}

  def __len__(self) -> int:
    return len(self.clips)

  def __contains__(self, name: str) -> bool:
    return name in self._by_id and name not in self.refused

  @property
  def ids(self) -> tuple[str, ...]:
    """Of the clips that are not refused so far."""
    return tuple(c.id for c in self.clips if c.id not in self.refused)

  def clip(self, name: str) -> Clip:
    return self._by_id[name]

  def only(self, ids: Iterable[str]) -> ClipSet:
    """The clips of these ids, in their order here."""
    wanted = set(ids)
    return ClipSet(self.name, [c for c in self.clips if c.id in wanted],
                   {k: v for k, v in self.refused.items() if k in wanted})

  def read(self, name: str, rate_hz: int) -> np.ndarray:
    """[N] float32 of one clip at `rate_hz`.

    Raises:
      Refused: it is not usable; `refused` has it from then on.
    """
    if name in self.refused:
      raise Refused(*self.refused[name])
    clip = self._by_id[name]
    try:
      return _checked(clip, clip.sound(rate_hz))
    except (Refused, audio_stream.Unusable) as error:
      self.refused[name] = (error.reason, str(error))
      raise Refused(error.reason, str(error)) from error

  def each(self, rate_hz: int) -> Iterator[tuple[Clip, np.ndarray]]:
    """(clip, [N] float32 at `rate_hz`) of every usable clip, in order."""
    for clip in self.clips:
      try:
        yield clip, self.read(clip.id, rate_hz)
      except Refused:
        continue

  def counted(self) -> dict[str, int]:
    """{reason: clips refused so far}."""
    return dict(Counter(reason for reason, _ in self.refused.values()))


def _checked(clip, audio):
  if not len(audio):
    raise Refused('empty', f'{clip.where or clip.id} has no samples.')
  if not np.all(np.isfinite(audio)):
    raise Refused('nan', f'{clip.where or clip.id} has NaN or infinite samples.')
  if np.abs(audio).max() < SILENCE:
    raise Refused('silent', f'{clip.where or clip.id} is silent.')
  return np.asarray(audio, np.float32)


def pairs(one: ClipSet, other: ClipSet) -> tuple[str, ...]:
  """Ids that both have and neither has refused, in the order of the first."""
  return tuple(name for name in one.ids if name in other)


def from_folder(
    directory: str | pathlib.Path, captions: str | pathlib.Path | None = None,
    option: str = 'the folder', name: str = '', named: bool = True) -> ClipSet:
  """The audio files of a folder and of those in it.

  An id is the file's path in the folder without its suffix. Files of another
  sample rate than most are refused: resampled, they would lack the highs that
  the others have, and be judged by that.

  Args:
    directory: the folder.
    captions: a CSV with the header `id,caption` and any further columns, which
      become facts; `track` names the recording that a clip was cut from. Ids may
      have the suffix.
    option: what messages call the folder.
    name: of the set; the folder's without one.
    named: whether the CSV must name one of the files at least.

  Raises:
    UserError: no folder, no audio files in it, two files of one id, or a CSV
      that names none of them.
  """
  directory = pathlib.Path(directory)
  if not directory.is_dir():
    raise errors.UserError(f'{option} {directory} is not a folder.')
  paths = sorted(p for p in directory.rglob('*')
                 if p.suffix.lower() in SUFFIXES and p.is_file())
  if not paths:
    raise errors.UserError(
        f'{option} {directory} has no audio files ({", ".join(SUFFIXES)}).')
  rows = read_captions(captions) if captions is not None else {}
  clips, seen = [], {}
  for path in paths:
    clip_id = path.relative_to(directory).with_suffix('').as_posix()
    if clip_id in seen:
      raise errors.UserError(
          f'{seen[clip_id]} and {path} have one id, {clip_id}; ids are paths '
          f'without suffix, so rename one.')
    seen[clip_id] = path
    row = rows.get(clip_id, {})
    clips.append(Clip(
        clip_id, row.get(_TRACK) or clip_id, _Reader(path),
        caption=row.get(_CAPTION, ''), facts=row, where=str(path),
        sample_rate_hz=_rate_of(path)))
  if named and rows and not any(c.id in rows for c in clips):
    raise errors.UserError(
        f'none of the {len(rows)} ids in {captions} is a file of {directory}; '
        f'ids there are such as {clips[0].id!r}.')
  return ClipSet(name or directory.name, clips, _of_other_rates(clips))


@dataclasses.dataclass(frozen=True)
class _Reader:
  """Reads one file; a class so that worker processes can be sent it."""

  path: pathlib.Path

  def __call__(self, rate_hz):
    return audio_lib.read(self.path, rate_hz)


def _rate_of(path):
  import soundfile  # pylint: disable=g-import-not-at-top
  try:
    return soundfile.info(str(path)).samplerate
  except (RuntimeError, OSError):
    return 0  # `read` says what is wrong with it


def _of_other_rates(clips):
  rates = Counter(c.sample_rate_hz for c in clips if c.sample_rate_hz)
  if len(rates) < 2:
    return {}
  usual = max(rates, key=lambda rate: (rates[rate], rate))
  return {c.id: ('rate', f'{c.where} has {c.sample_rate_hz} Hz, most of the '
                 f'folder {usual} Hz.')
          for c in clips if c.sample_rate_hz not in (0, usual)}


def read_captions(path: str | pathlib.Path) -> dict[str, dict[str, str]]:
  """{id: row} of a CSV with captions; MusicCaps's own columns are read as well.

  Raises:
    UserError: no file, no column of ids or `caption`, or an id twice.
  """
  errors.check_input(path, 'CSV')
  with errors.of_files(path), open(
      path, newline='', encoding='utf-8-sig') as file:
    reader = csv.DictReader(file)
    try:
      rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
      raise errors.UserError(f'{path} is not a CSV in UTF-8 ({error}).'
                             ) from error
  columns = reader.fieldnames or []
  key = next((c for c in _ID_COLUMNS if c in columns), None)
  if key is None or _CAPTION not in columns:
    raise errors.UserError(
        f'{path} has the columns {", ".join(map(str, columns)) or "none"}; '
        f'expected caption, and one of {", ".join(_ID_COLUMNS)}.')
  named = [(_plain(row[key] or ''), row) for row in rows]
  twice = [n for n, count in Counter(n for n, _ in named).items() if count > 1]
  if twice:
    raise errors.UserError(
        f'{path} has {len(twice)} ids more than once, such as {twice[0]!r}.')
  return {n: {k: v or '' for k, v in row.items() if k} for n, row in named}


def _plain(name):
  """An id without an audio file's suffix."""
  path = pathlib.PurePosixPath(name.strip())
  return (path.with_suffix('').as_posix()
          if path.suffix.lower() in SUFFIXES else path.as_posix())


def from_split(
    split: records.Split, seconds: int, tracks: Sequence[records.Track],
    place: float = 0.5, name: str = '') -> ClipSet:
  """One clip of each track, of a corpus whose tracks are `tracks`.

  Args:
    split: the corpus's split.
    seconds: length of a clip; a shorter track is taken whole.
    tracks: those to take.
    place: where the clip begins, 0 at the track's beginning, 1 as late as a
      whole clip allows. On a whole second.
    name: of the set.
  """
  clips = []
  for track in tracks:
    whole = track.num_samples // split.sample_rate_hz
    start = int(max(0, whole - seconds) * place)
    length = min(seconds, max(whole - start, 1))
    captions = track.captions
    clips.append(Clip(
        track.id, track.meta.get('tune') or track.id,
        _TrackReader(split, track, start, length),
        caption=captions[0] if captions else '',
        facts=dict(track.meta, start_seconds=start, seconds=length),
        where=f'{split.directory.name}/{track.id}',
        sample_rate_hz=split.sample_rate_hz))
  return ClipSet(name or split.directory.name, clips)


@dataclasses.dataclass(frozen=True)
class _TrackReader:
  """Reads a clip of one track."""

  split: records.Split
  track: records.Track
  start: int
  seconds: int

  def __call__(self, rate_hz):
    rate = self.split.sample_rate_hz
    return resampled(self.split.read(
        self.track, self.start * rate, self.seconds * rate), rate, rate_hz)


def of_arrays(
    name: str, like: Iterable[Clip], audio: Iterable[np.ndarray],
    rate_hz: int) -> ClipSet:
  """A set of [N] arrays at `rate_hz`, with the ids and facts of other clips."""
  return ClipSet(name, [
      dataclasses.replace(clip, sound=_Array(sound, rate_hz), where='',
                          sample_rate_hz=rate_hz)
      for clip, sound in zip(like, audio)])


@dataclasses.dataclass(frozen=True)
class _Array:
  """Audio that is in memory."""

  audio: np.ndarray
  rate: int

  def __call__(self, rate_hz):
    return resampled(self.audio, self.rate, rate_hz)


def resampled(audio: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
  """[N] float32 at another rate, by soxr as everything that is read."""
  if from_hz == to_hz:
    return np.asarray(audio, np.float32)
  import soxr  # pylint: disable=g-import-not-at-top
  return soxr.resample(np.asarray(audio, np.float32), from_hz, to_hz)
