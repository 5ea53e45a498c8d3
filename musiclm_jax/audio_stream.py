"""Audio files block by block: what does not fit into memory, or need not.

`Source` reads WAV, FLAC, OGG, Opus, AIFF and MP3 (and M4A, AAC and WMA where
ffmpeg is at hand, audio_files/coded.py) and resamples as it goes;
`Sink` writes 16-bit WAV and FLAC. Both hold one block, whatever the length of
the file. Reading does without jax, so that a small process can do it.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib

import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import audio_files
from musiclm_jax import errors
from musiclm_jax import files

KINDS = 'WAV, FLAC, OGG, Opus, AIFF or MP3'
CODED_SUFFIXES = audio_files.CODED_SUFFIXES  # those that ffmpeg decodes
RATES_HZ = (4_000, 768_000)  # what recordings have, with room on either side
_TAGS = ('title', 'artist', 'album', 'genre')
_MAX_CHANNELS = 2
_FULL_SCALE = 0.985  # ours: the largest value of 8 bits is within it
_READ_SAMPLES = 65_536  # of one read, at the file's or the wanted rate


class Unusable(errors.UserError):
  """A file that is no sound to work with.

  Attributes:
    reason: 'unreadable', 'format' (a package is missing that decodes it),
      'channels', 'rate', 'empty' or 'nan'.
  """

  def __init__(self, reason: str, line: str):
    super().__init__(line)
    self.reason = reason


class Source:
  """The mono signal of a file at one rate, to the end that the header may miss.

    with Source('song.mp3', 24_000) as source:
      for block in source.blocks(120_000):
        ...

  Attributes:
    seconds: length; less comes of a file that was cut.
    clipped_share: of the samples that were read so far, how many stand still at
      full scale: what a wave looks like whose top was cut off. A codec rounds it
      again, so that of MP3 and the like little is seen of it.
  """

  def __init__(self, path: str | pathlib.Path, sample_rate_hz: int):
    """Opens a file.

    Args:
      path: the file. Stereo is averaged to mono.
      sample_rate_hz: the rate to resample to (soxr, high quality).

    Raises:
      UserError: missing, not audio (`Unusable`), more than two channels, or a
        rate that no recording has.
    """
    import soundfile  # pylint: disable=g-import-not-at-top
    self._path = pathlib.Path(path)
    self._rate = sample_rate_hz
    self._failures = (soundfile.LibsndfileError, RuntimeError)
    self._file, self._parts, self._open_part = None, [], None
    self._clipped = self._count = 0
    errors.check_input(path, 'audio file')
    try:
      self._parts = audio_files.parts(path)
      self.seconds = sum(
          self._open(part) for part in range(len(self._parts)))
    except BaseException as error:
      self._close()
      if isinstance(error, audio_files.NoDecoder):
        raise Unusable('format', str(error)) from error
      if isinstance(error, OSError) and error.errno in files.FULL:
        raise  # of what was decoded, not of the file
      if isinstance(error, (OSError, ValueError)) and not isinstance(
          error, errors.UserError):
        raise self._unreadable(error) from error
      raise

  def _open(self, part):
    """Opens a part of the file; returns its length in seconds."""
    import soundfile  # pylint: disable=g-import-not-at-top
    if self._open_part != part:
      if self._file is not None:
        self._file.close()
      self._file = self._open_part = None
      opened = self._parts[part]
      if not isinstance(opened, str):
        opened.seek(0)
      try:
        self._file = soundfile.SoundFile(
            # As bytes: a name need not be UTF-8.
            os.fsencode(opened) if isinstance(opened, str) else opened)
      except self._failures as error:
        raise self._unreadable(error) from error
      self._open_part = part
      self._check()
    return self._file.frames / self._file.samplerate

  def _check(self):
    if self._file.channels > _MAX_CHANNELS:
      raise Unusable(
          'channels', f'{self._path} has {self._file.channels} channels; '
          f'expected mono or stereo.')
    low, high = RATES_HZ
    if not low <= self._file.samplerate <= high:
      raise Unusable(
          'rate', f'{self._path} has {self._file.samplerate} samples a second '
          f'by its header; expected {low} to {high}.')

  def _close(self):
    if self._file is not None:
      self._file.close()
    for part in self._parts:
      if not isinstance(part, str):
        part.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    self._close()

  @property
  def tags(self) -> dict[str, str]:
    """{name: text} of those among title, artist, album and genre it has."""
    found = {name: getattr(self._file, name, '') for name in _TAGS}
    return {name: text for name, text in found.items() if text}

  @property
  def clipped_share(self) -> float:
    return self._clipped / max(1, self._count)

  def blocks(self, num_samples: int) -> Iterator[np.ndarray]:
    """Yields [num_samples] float32 blocks, the last one 1 to num_samples long.

    Raises:
      UserError: empty, damaged, or NaN samples; when the place is reached.
    """
    waiting, count = [], 0
    for part in self._resampled():
      waiting.append(part)
      count += len(part)
      if count >= num_samples:
        joined = np.concatenate(waiting)
        whole = count - count % num_samples
        yield from joined[:whole].reshape(-1, num_samples)
        waiting, count = [joined[whole:]], count - whole
    if count:
      yield np.concatenate(waiting)

  def _resampled(self):
    """Yields the signal at the wanted rate; at least one sample in all."""
    count = 0
    for part in range(len(self._parts)):
      self._open(part)
      for samples in self._part():
        count += len(samples)
        yield samples
    if not count:
      raise Unusable(
          'empty',
          f'{self._path} is empty: it holds no samples at {self._rate} Hz.')

  def _part(self):
    """Yields what is open at the wanted rate."""
    import soxr  # pylint: disable=g-import-not-at-top
    if self._file.samplerate == self._rate:
      yield from self._mono()
      return
    stream = soxr.ResampleStream(
        self._file.samplerate, self._rate, 1, dtype='float32', quality='HQ')
    for mono in self._mono():
      yield stream.resample_chunk(mono)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

  def _mono(self):
    """Yields [n] float32 of what is open, at its rate."""
    # Neither a block read nor the one that it becomes is larger than this.
    size = _READ_SAMPLES * min(1.0, self._file.samplerate / self._rate)
    while True:
      try:
        part = self._file.read(
            max(1, int(size)), dtype='float32', always_2d=True)
      except self._failures as error:
        raise self._unreadable(error) from error
      if not len(part):
        return
      if not np.all(np.isfinite(part)):
        raise Unusable('nan', f'{self._path} holds NaN or infinite samples.')
      self._count += part.size
      self._clipped += _count_clipped(part)
      yield np.ascontiguousarray(part.mean(axis=1), np.float32)

  def _unreadable(self, error):
    # What libsndfile says is for its authors: a tag without sound "does not
    # exist". --debug shows it.
    del error
    return Unusable(
        'unreadable', f'{self._path} is not readable audio: it is damaged, or '
        f'holds no sound in {KINDS}.')


def _count_clipped(part):
  """How many of [n, channels] samples stand still at full scale."""
  if max(part.max(), -part.min()) < _FULL_SCALE:
    return 0
  still = part[1:] == part[:-1]
  still &= np.abs(part[1:]) >= _FULL_SCALE
  return int(still.sum())


def to_int16(audio: ArrayLike) -> np.ndarray:
  """[N] float in -1..1 -> [N] int16, to the nearest; for WAV and FLAC alike.

  Libsndfile rounds floats for the one and cuts them off for the other.
  """
  return np.rint(np.asarray(audio) * np.float32(32767.0)).astype(np.int16)


@contextlib.contextmanager
def writing(path: str | pathlib.Path) -> Iterator[None]:
  """Where libsndfile says no more than "System error.", says what it was."""
  import soundfile  # pylint: disable=g-import-not-at-top
  try:
    yield
  except soundfile.LibsndfileError as error:
    try:
      with open(path, 'ab') as file:
        file.write(bytes(_READ_SAMPLES))
    except OSError as reason:
      reason.filename = str(path)
      raise reason from error
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path)) from error


class Sink:
  """Writes a mono file of unknown length; it appears when finished.

    with Sink('song.wav', 24_000) as sink:
      for block in ...:
        sink.write(block)
      sink.finish()

  As with `audio.write` a peak above 0.99 scales the whole sound down, so the
  samples wait in a temporary file until the peak is known.
  """

  def __init__(self, path: str | pathlib.Path, sample_rate_hz: int,
               peak: float = 0.99):
    """Prepares a file; UserError for its extension or a missing folder."""
    files.check_output(path, ('.wav', '.flac'))
    self._path = pathlib.Path(path)
    self._samples = files.temporary(self._path.with_suffix('.f32'))
    self._sound = files.temporary(self._path)
    self._rate, self._peak = sample_rate_hz, peak
    self._largest = 0.0
    self._file = None

  def __enter__(self):
    self._file = open(self._samples, 'w+b')
    return self

  def __exit__(self, *unused_error):
    try:
      self._file.close()  # which writes what is left, and may fail
    finally:
      self._samples.unlink(missing_ok=True)
      self._sound.unlink(missing_ok=True)

  def write(self, samples: ArrayLike) -> None:
    """Adds [n] float samples."""
    samples = np.ascontiguousarray(samples, np.float32)
    if not np.all(np.isfinite(samples)):
      raise ValueError('refusing to write audio with NaN or infinite samples.')
    self._largest = max(
        self._largest, float(np.max(np.abs(samples), initial=0.0)))
    self._file.write(samples.data)

  def read(self) -> np.ndarray:
    """[N] float32: what was written so far."""
    self._file.flush()
    return np.fromfile(self._samples, np.float32)

  def finish(self, path: str | pathlib.Path | None = None,
             metadata: dict[str, str] | None = None) -> None:
    """Puts the file in place.

    Args:
      path: another place than the one it was made with, of the same extension.
      metadata: tags as of `audio.write`.
    """
    import soundfile  # pylint: disable=g-import-not-at-top
    self._file.seek(0)
    scale = np.float32(min(1.0, self._peak / max(self._largest, 1e-9)))
    with writing(self._sound), soundfile.SoundFile(
        os.fsencode(self._sound), 'w', self._rate, 1,
        subtype='PCM_16') as sound:
      for key, value in (metadata or {}).items():
        setattr(sound, key, files.encodable(str(value)))
      while data := self._file.read(4 * _READ_SAMPLES):
        sound.write(to_int16(np.frombuffer(data, np.float32) * scale))
    self._sound.replace(path or self._path)
