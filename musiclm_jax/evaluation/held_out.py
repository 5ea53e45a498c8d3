"""The music a bundle is judged on: clips of a corpus's held-out split.

Without --corpus a small folk_gm is made once and kept in the user's cache. A
tune's split is a hash of its melody, the same for every corpus that folk_gm
makes, so no bundle trained on folk_gm has heard the test tunes.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import pathlib
from typing import Any
import zlib

import numpy as np

from musiclm_jax import errors
from musiclm_jax import process
from musiclm_jax import records

# ours: 24 clips of ten families, and enough training music for the baselines.
_DEFAULT_HOURS = 1.6
_DEFAULT_SHARES = dict(train=0.7, test=0.3)
_DEFAULT_NAME = 'folk_gm_quick_1'
_POOL_CLIPS = 200
MIN_CLIPS = 2
SPLITS = ('test', 'validation')  # held out, the first one that there is


@dataclasses.dataclass(frozen=True)
class Clips:
  """Audio and what is known of it.

  Attributes:
    audio: [n, N] float32, zeros past a track's end.
    seconds: [n] int, whole seconds of real audio in each row.
    ids: [n] track names.
    captions: [n] strings, '' where there is none.
    families: [n] instrument families, '' where unknown.
  """

  audio: np.ndarray
  seconds: np.ndarray
  ids: tuple
  captions: tuple
  families: tuple

  def __len__(self):
    return len(self.ids)

  def first(self, seconds: int, rate: int) -> np.ndarray:
    """The first `seconds` of each clip, [n, seconds * rate]."""
    return self.audio[:, :seconds * rate]


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """What one evaluation uses.

  Attributes:
    corpus: its name.
    split: the split of `clips` and `pool`.
    clips: 30 s each, families in turn; what the ladder is about.
    pool: 10 s of many tracks, for retrieval.
    train: 10 s clips of the training split, for baselines and judges; None
      where the corpus has no such split.
  """

  corpus: str
  split: str
  clips: Clips
  pool: Clips
  train: Clips | None


def check_train_clips(count: int) -> None:
  """UserError unless a classifier can learn from so many clips."""
  if count < MIN_CLIPS:
    raise errors.UserError(
        f'--train-clips is {count}; expected at least {MIN_CLIPS}.')


def load(
    directory: str | pathlib.Path, count: int, clip_seconds: int,
    train_count: int, rate: int) -> HeldOut:
  """Chooses the clips, the same ones each time.

  Args:
    directory: a corpus.
    count: clips to judge.
    clip_seconds: their length.
    train_count: training clips of 10 s.
    rate: samples a second that the bundle works at.

  Raises:
    UserError: another rate, or fewer than two tracks to judge.
  """
  corpus, name = open_corpus(directory, rate)
  split = corpus.split(name)
  tracks = _tracks(split)
  if len(tracks) < MIN_CLIPS:
    raise errors.UserError(
        f'the {name} split of {directory} has {len(tracks)} tracks of a second '
        f'or more; expected at least {MIN_CLIPS}.')
  train = None
  if 'train' in corpus.splits:
    training = corpus.split('train')
    heard = _tracks(training)
    crops = -(-train_count // max(len(heard), 1))
    chosen = [(t, i) for i in range(crops) for t in heard][:train_count]
    if len(chosen) >= MIN_CLIPS:
      train = _read(training, chosen, 10, crops)
  return HeldOut(
      corpus=corpus.name, split=name,
      clips=_read(split, [(t, 0) for t in tracks[:count]], clip_seconds, 1),
      pool=_read(split, [(t, 0) for t in tracks[:_POOL_CLIPS]], 10, 1),
      train=train)


def open_corpus(
    directory: str | pathlib.Path, rate: int,
    option: str = '--corpus') -> tuple[records.Corpus, str]:
  """A corpus and the name of its held-out split.

  Args:
    directory: where it is.
    rate: samples a second that the bundle works at.
    option: what the user gave the directory by.

  Raises:
    UserError: no corpus, another rate, or nothing held out.
  """
  corpus = corpus_at(directory, rate)
  name = next((s for s in SPLITS if s in corpus.splits), None)
  if name is None:
    raise errors.UserError(
        f'the corpus {directory} has no test or validation split, only '
        f'{", ".join(corpus.splits)}; choose another {option}.')
  return corpus, name


def corpus_at(directory: str | pathlib.Path, rate: int) -> records.Corpus:
  """The corpus in `directory`; UserError unless it has `rate` Hz."""
  corpus = records.Corpus(directory)
  if corpus.sample_rate_hz != rate:
    raise errors.UserError(
        f'the corpus {directory} has {corpus.sample_rate_hz} Hz, the bundle '
        f'{rate} Hz; make the corpus again at {rate} Hz.')
  return corpus


def in_turn(things: Iterable[Any], group: Callable[[Any], str]) -> list[Any]:
  """One of each group after the other.

  Within a group the order is by a hash of the name, so that it does not follow
  the tune books.

  Args:
    things: have an `id`.
    group: thing -> string.
  """
  queues = {}
  for thing in things:
    queues.setdefault(group(thing), []).append(thing)
  for queue in queues.values():
    queue.sort(key=lambda t: (zlib.crc32(t.id.encode()), t.id))
  return [queues[name][turn]
          for turn in range(max(map(len, queues.values()), default=0))
          for name in sorted(queues) if turn < len(queues[name])]


def is_hummed(track: records.Track) -> bool:
  """Whether a track is a hummed version of a tune."""
  return track.meta.get('arrangement') == 'hummed'


def _tracks(split):
  """Tracks of a second or more that are not hummed, families in turn."""
  return in_turn(
      (t for t in split
       if t.num_samples >= split.sample_rate_hz and not is_hummed(t)),
      lambda t: t.meta.get('family', ''))


def default_corpus(say: Callable[[str], None]) -> pathlib.Path:
  """The directory of the small folk_gm; made if it is not there."""
  try:
    directory = process.cache_folder() / _DEFAULT_NAME
  except RuntimeError as error:
    raise errors.UserError(
        'there is no home folder to keep an evaluation corpus in; give '
        '--corpus, or name a folder in XDG_CACHE_HOME.') from error
  if not (directory / 'manifest.json').is_file():
    from musiclm_jax.data import folk_gm  # pylint: disable=g-import-not-at-top
    say(f'making the evaluation corpus, once: {directory}')
    directory.parent.mkdir(parents=True, exist_ok=True)
    folk_gm.build(directory, hours=_DEFAULT_HOURS, shares=_DEFAULT_SHARES)
  return directory


def _read(split, chosen, seconds, crops):
  """`Clips` of (track, which of `crops` places) pairs, on whole seconds."""
  rate = split.sample_rate_hz
  audio = np.zeros((len(chosen), seconds * rate), np.float32)
  lengths = []
  for row, (track, place) in enumerate(chosen):
    whole = track.num_samples // rate
    start = max(0, whole - seconds) * (place + 1) // (crops + 1)
    lengths.append(min(seconds, whole - start))
    samples = lengths[-1] * rate
    audio[row, :samples] = split.read(track, start * rate, samples)
  meta = [t.meta for t, _ in chosen]
  return Clips(
      audio=audio, seconds=np.array(lengths),
      ids=tuple(t.id for t, _ in chosen),
      captions=tuple((m.get('captions') or [''])[0] for m in meta),
      families=tuple(m.get('family', '') for m in meta))
