"""What a builder hands on: tracks with their sound undecoded, and what is not one.

  a data set's files --walk--> Track ──decoded──> pieces of 24 kHz mono
                          └──> Reject <──unusable──┘

Both ways of writing a data set, corpora.py (ours, without TensorFlow) and
features.py (TFDS's), go over what a walk yields and decode it here.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import hashlib
import math
import pathlib
import tempfile
import zipfile

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import audio_stream
from musiclm_jax import specs

SAMPLE_RATE_HZ = specs.AudioSpec().sample_rate_hz
MISSING = 'missing'
MAX_SECONDS = 300.0  # ours: longer tracks become several, of equal length
_SILENCE = 1e-4  # a peak below -80 dBFS
# ours: a file this much longer than its excerpt is the whole recording. Cutters
# leave a frame or a second too much.
_SLACK_SECONDS = 1.5
_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Sound:
  """Where a track's samples are: all of a file, or an excerpt.

  Attributes:
    path: an audio file, or a zip file that has one.
    member: its name in the zip file; '' where `path` is the audio itself.
    start_seconds: where the excerpt begins in the whole recording.
    seconds: length of the excerpt; None for all of the file.
    is_excerpt: whether the file holds the excerpt alone; None: it does where it
      is hardly longer.
    sha1: of the file, where the data set tells it; '' where not.
  """

  path: pathlib.Path
  member: str = ''
  start_seconds: float = 0.0
  seconds: float | None = None
  is_excerpt: bool | None = None
  sha1: str = ''

  def read(self, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """[N] float32, N > 0, at a rate; mono.

    Raises:
      audio_stream.Unusable: it cannot be had; with the reason.
    """
    with self._file() as file:
      if self.sha1 and _sha1(file) != self.sha1:
        raise audio_stream.Unusable(
            'checksum', f'{self.name} is not what the data set has (SHA-1); '
            f'download it again.')
      with audio_stream.Source(file, sample_rate_hz) as source:
        first, count = self._span(source.seconds, sample_rate_hz)
        blocks = _cut(source.blocks(sample_rate_hz), first, count)
        audio = np.concatenate([np.zeros(0, np.float32), *blocks])
    if not len(audio):
      raise audio_stream.Unusable(
          'cut off', f'{self.name} ends before {self.start_seconds:g} s.')
    return audio

  @property
  def name(self) -> str:
    """For messages and records."""
    return f'{self.path}/{self.member}' if self.member else str(self.path)

  def _span(self, seconds, rate):
    """(first sample, how many or None)."""
    if self.seconds is None:
      return 0, None
    alone = self.is_excerpt
    if alone is None:
      alone = seconds <= self.seconds + _SLACK_SECONDS
    return (0 if alone else round(self.start_seconds * rate),
            round(self.seconds * rate))

  @contextlib.contextmanager
  def _file(self):
    """Gives the audio file's path."""
    if not self.member:
      yield self.path
      return
    with tempfile.TemporaryDirectory() as folder:
      copy = pathlib.Path(folder) / pathlib.PurePosixPath(self.member).name
      try:
        copy.write_bytes(opened(self.path).read(self.member))
      except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise audio_stream.Unusable(
            'unreadable', f'{self.name} cannot be unpacked ({error}).') from error
      yield copy


@dataclasses.dataclass(frozen=True)
class Track:
  """One recording of a data set.

  Attributes:
    split: 'train', 'validation' or 'test'.
    id: unique in the data set.
    sound: its audio.
    captions: sentences.
    aspects: short tags.
    licence: its own; '' where the data set has one for all.
    about: JSON values: whatever else is known.
  """

  split: str
  id: str
  sound: Sound
  captions: tuple[str, ...] = ()
  aspects: tuple[str, ...] = ()
  licence: str = ''
  about: Mapping[str, object] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reject:
  """A recording that is not in the corpus, and why."""

  split: str
  id: str
  reason: str
  detail: str = ''


@dataclasses.dataclass(frozen=True)
class Piece:
  """All of a track, or a part of a long one.

  Attributes:
    id: the track's, with '#000' and so on where there are several.
    audio: [N] int16.
    start_seconds: where it begins in the whole recording.
  """

  id: str
  audio: np.ndarray
  start_seconds: float


def decode(track: Track, min_seconds: float) -> list[Piece] | Reject:
  """A track's samples; or why it has none to use."""
  try:
    audio = track.sound.read()
  except audio_stream.Unusable as error:
    return Reject(track.split, track.id, error.reason, str(error))
  if len(audio) < min_seconds * SAMPLE_RATE_HZ:
    return Reject(track.split, track.id, 'too short', (
        f'{len(audio) / SAMPLE_RATE_HZ:.2f} s; at least {min_seconds:g} s'))
  if np.max(np.abs(audio)) < _SILENCE:
    return Reject(track.split, track.id, 'silent', 'no sample above -80 dBFS')
  samples = audio_stream.to_int16(audio_lib.limit_peak(audio, 1.0))
  return _pieces(track, samples)


def _pieces(track, samples):
  count = math.ceil(len(samples) / (MAX_SECONDS * SAMPLE_RATE_HZ))
  edges = [len(samples) * k // count for k in range(count + 1)]
  return [
      Piece(track.id if count == 1 else f'{track.id}#{k:03d}', samples[a:b],
            round(track.sound.start_seconds + a / SAMPLE_RATE_HZ, 3))
      for k, (a, b) in enumerate(zip(edges, edges[1:]))]


@functools.lru_cache(maxsize=4)
def opened(path: pathlib.Path) -> zipfile.ZipFile:
  """A zip file to read members of, in threads too; its index is read once."""
  return zipfile.ZipFile(path)


def _cut(blocks: Iterator[np.ndarray], first: int, count: int | None
         ) -> Iterator[np.ndarray]:
  """Yields `count` samples from `first`; what follows is not read."""
  stop, position = None if count is None else first + count, 0
  for block in blocks:
    yield block[max(0, first - position):
                None if stop is None else max(0, stop - position)]
    position += len(block)
    if stop is not None and position >= stop:
      return


def _sha1(path):
  digest = hashlib.sha1(usedforsecurity=False)
  with open(path, 'rb') as stream:
    for block in iter(lambda: stream.read(_COPY_BYTES), b''):
      digest.update(block)
  return digest.hexdigest()
