"""Clips of one length to judge a bundle on: of a corpus, or of any folder.

  --corpus DIR   its test or validation split, families in turn
  --data FOLDER  its audio files, folders in turn [+ --captions CSV]

Clips that are silent, not readable or of another rate are passed over and listed
(clip_sets.ClipSet.refused); the next ones take their places.
"""

from collections.abc import Sequence
import dataclasses
import pathlib

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import held_out

# What `EVALUATION` of those that take any data has beside --corpus.
OPTION = '--data'


@dataclasses.dataclass(frozen=True)
class Music:
  """Clips, as arrays and as a set.

  Attributes:
    name: of the corpus or folder.
    split: of the corpus; 'files' of a folder.
    clips: held_out.Clips, all of the length that was asked for.
    set: the same as a ClipSet, with those that were refused.
  """

  name: str
  split: str
  clips: held_out.Clips
  set: clip_sets.ClipSet

  @property
  def tracks(self) -> tuple[str, ...]:
    """[n] the recording of each clip; intervals resample them."""
    return tuple(self.set.clip(name).track for name in self.clips.ids)


def of_corpus(
    directory: str | pathlib.Path, count: int, seconds: int, rate: int,
    split: str | None = None) -> Music:
  """The beginnings of `count` tracks of the held-out split, or of another.

  Raises:
    UserError: another rate, no such split, or fewer than two usable tracks.
  """
  if split is None:
    corpus, split = held_out.open_corpus(directory, rate)
  else:
    corpus = held_out.corpus_at(directory, rate)
  part = corpus.split(split)
  tracks = held_out.in_turn(
      (t for t in part
       if t.num_samples >= rate and not held_out.is_hummed(t)), _family)
  return _read(
      corpus.name, split, clip_sets.from_split(part, seconds, tracks, 0.0),
      count, seconds, rate)


def of_folder(
    directory: str | pathlib.Path, count: int, seconds: int, rate: int,
    captions: str | pathlib.Path | None = None) -> Music:
  """The middles of `count` audio files.

  Raises:
    UserError: no folder, or fewer than two usable files in it.
  """
  found = clip_sets.from_folder(directory, captions, OPTION)
  ordered = clip_sets.ClipSet(found.name, held_out.in_turn(
      found.clips, lambda clip: str(pathlib.PurePosixPath(clip.id).parent)),
                              found.refused)
  return _read(found.name, 'files', ordered, count, seconds, rate)


def load(corpus: str | pathlib.Path, data: str | pathlib.Path | None,
         captions: str | pathlib.Path | None, count: int, seconds: int,
         rate: int) -> Music:
  """Of a folder where there is one, else of a corpus."""
  if data is not None:
    return of_folder(data, count, seconds, rate, captions)
  return of_corpus(corpus, count, seconds, rate)


def check(corpus: str | None, data: str | None, captions: str | None) -> None:
  """UserError for options that do not go together."""
  if corpus and data:
    raise errors.UserError(
        f'--corpus {corpus} and --data {data} are two kinds of music; give one '
        f'of them.')
  if captions and not data:
    raise errors.UserError(
        '--captions belongs to --data; a corpus has its own captions.')


def _family(track: records.Track) -> str:
  return track.meta.get('family', '')


def _read(name, split, found, count, seconds, rate):
  """`Music` of the first `count` usable clips of a ClipSet."""
  chosen, audio, lengths = [], [], []
  for clip, sound in found.each(rate):
    start = max(0, len(sound) - seconds * rate) // 2
    sound = sound[start:start + seconds * rate]
    lengths.append(max(1, len(sound) // rate))
    audio.append(np.pad(sound, (0, seconds * rate - len(sound))))
    chosen.append(clip)
    if len(chosen) == count:
      break
  if len(chosen) < held_out.MIN_CLIPS:
    reasons = ', '.join(f'{n} {why}' for why, n in found.counted().items())
    raise errors.UserError(
        f'{name} ({split}) has {len(chosen)} usable clips'
        f'{f" ({reasons})" if reasons else ""}; expected at least '
        f'{held_out.MIN_CLIPS}.')
  clips = held_out.Clips(
      np.stack(audio), np.array(lengths), tuple(c.id for c in chosen),
      tuple(c.caption for c in chosen), _families(chosen))
  return Music(name, split, clips, clip_sets.ClipSet(
      name, [*clip_sets.of_arrays(name, chosen, audio, rate).clips, *(
          found.clip(refused) for refused in found.refused)], found.refused))


def _families(clips: Sequence[clip_sets.Clip]) -> tuple[str, ...]:
  return tuple(str(clip.facts.get('family', '')) for clip in clips)
