"""Clips to judge a codec on: a corpus's test split, or a folder of files.

The choice depends on names and contents alone, so it is the same each time:
groups (a package, a family, a folder) in turn, within a group by a hash of the
name, the middle of each track unless that is silent.
"""

import dataclasses
import pathlib

import numpy as np

from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.evaluation import held_out

SECONDS = 8
# ours: where to look, as shares of a track, and what is too quiet to judge: the
# whole clip below -50 dBFS, or over half of its tenths of a second.
_PLACES = (0.5, 0.25, 0.75, 0.1, 0.9)
_SILENT_RMS = 10 ** (-50 / 20)


@dataclasses.dataclass(frozen=True)
class Clips:
  """What is judged.

  Attributes:
    name: of the corpus or folder.
    split: 'test', 'validation', or 'files' of a folder.
    audio: [n, N] float32.
    ids: [n] names of the tracks.
    groups: [n] package, family or folder of each; '' where there is none.
  """

  name: str
  split: str
  audio: np.ndarray
  ids: tuple
  groups: tuple

  def __len__(self):
    return len(self.ids)


@dataclasses.dataclass(frozen=True)
class _Track:
  """A recording somewhere; `read(start, num_samples)` gives audio."""

  id: str
  group: str
  num_samples: int
  read: object


def load(
    place: str | pathlib.Path, count: int, rate: int,
    seconds: int = SECONDS) -> Clips:
  """Clips of a corpus or a folder of audio files.

  Args:
    place: the directory.
    count: at most so many, one a track.
    rate: samples a second that the codec works at.
    seconds: length of a clip.

  Raises:
    UserError: no such directory, another rate, no test split, or fewer than
      two usable tracks.
  """
  place = files.expand(place)
  if not place.is_dir():
    raise errors.UserError(f'--data {place} is not a folder.')
  if (place / 'manifest.json').is_file():
    name, split, tracks = _of_corpus(place, rate)
  else:
    name, split, tracks = place.resolve().name, 'files', _of_folder(place, rate)
  chosen, audio = [], []
  for track in held_out.in_turn(tracks, lambda t: t.group):
    if len(chosen) == count:
      break
    clip = _audible(track, seconds * rate)
    if clip is not None:
      chosen.append(track)
      audio.append(clip)
  if len(chosen) < held_out.MIN_CLIPS:
    raise errors.UserError(
        f'--data {place} ({split}) has {len(chosen)} tracks with {seconds} s '
        f'of sound; expected at least {held_out.MIN_CLIPS}.')
  return Clips(name, split, np.stack(audio), tuple(t.id for t in chosen),
               tuple(t.group for t in chosen))


def _of_corpus(place, rate):
  """(name, split, tracks) of a corpus's held-out part."""
  corpus, name = held_out.open_corpus(place, rate, '--data')
  split = corpus.split(name)
  return corpus.name, name, [
      _Track(t.id, t.meta.get('package') or t.meta.get('family', ''),
             t.num_samples,
             lambda start, samples, t=t: split.read(t, start, samples))
      for t in split if not held_out.is_hummed(t)]


def _of_folder(place, rate):
  """Tracks of audio files; what cannot be read is passed over."""
  from musiclm_jax.data.audio_folder import files  # pylint: disable=g-import-not-at-top
  tracks = []
  for file in files.find(place).sound:
    try:
      with audio_stream.Source(file, rate) as source:
        length = int(source.seconds * rate)
    except errors.UserError:
      continue
    name = file.relative_to(place)
    tracks.append(_Track(
        name.as_posix(), name.parts[0] if len(name.parts) > 1 else '', length,
        lambda start, samples, file=file: _part(file, rate, start, samples)))
  if not tracks:
    raise errors.UserError(
        f'--data {place} is neither a corpus (no manifest.json) nor a folder '
        f'with readable {audio_stream.KINDS} files.')
  return tracks


def _part(file, rate, start, num_samples):
  """[<= num_samples] of a file, read as a stream."""
  parts, position = [], 0
  try:
    with audio_stream.Source(file, rate) as source:
      for block in source.blocks(rate):
        part = block[max(0, start - position):
                     max(0, start + num_samples - position)]
        parts.append(part)
        position += len(block)
        if position >= start + num_samples:
          break
  except errors.UserError:  # damaged further on
    pass
  return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _audible(track, size):
  """[size] of a track where there is something to hear, or None."""
  spare = track.num_samples - size
  if spare < 0:
    return None
  for place in _PLACES:
    clip = track.read(int(spare * place), size)
    if len(clip) == size and not _is_silent(clip):
      return clip
  return None


def _is_silent(clip):
  blocks = clip[:len(clip) // 80 * 80].reshape(80, -1)
  levels = np.sqrt(np.square(blocks).mean(axis=1))
  whole = np.sqrt(np.square(clip).mean())
  return whole < _SILENT_RMS or np.median(levels) < _SILENT_RMS
