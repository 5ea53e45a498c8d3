"""A sample while it is made: a file to download, and one to hear at once.

What is heard while it is made is a WAV whose header tells the full length from
the beginning. It differs from the file only in loud music: the file is made
softer as a whole where a peak is above 0.99, but while a WAV grows its later
peaks are not known, so they are clipped in it.
"""

from collections.abc import Mapping
import pathlib
import struct
from typing import Any

import numpy as np

from musiclm_jax import audio_stream

_PEAK = 0.99
HEADER_BYTES = 44


def wav_header(num_samples: int, rate: int) -> bytes:
  """The first 44 bytes of a mono 16-bit WAV file."""
  size = 2 * num_samples
  return struct.pack(
      '<4sI4s4sIHHIIHH4sI', b'RIFF', 36 + size, b'WAVE', b'fmt ', 16, 1, 1,
      rate, 2 * rate, 2, 16, b'data', size)


class Sound:
  """Takes audio as `systems.musiclm.model.Model.make` gives it.

  Attributes:
    path: of the file, there once it is finished.
    heard: path of the WAV that grows.
  """

  def __init__(self, folder: pathlib.Path, number: int, extension: str,
               num_samples: int, rate: int):
    """A sound; a context manager that writes nothing before it is entered.

    Args:
      folder: where its files go.
      number: of the sample, from 0; files count from 1.
      extension: '.wav' or '.flac'.
      num_samples: that will come.
      rate: in Hz.
    """
    self.path = folder / f'sample-{number + 1}{extension}'
    self.heard = folder / f'sample-{number + 1}.heard.wav'
    self._sink = audio_stream.Sink(self.path, rate)
    self._header = wav_header(num_samples, rate)
    self._file: Any = None

  def __enter__(self) -> 'Sound':
    self._sink.__enter__()
    self._file = open(self.heard, 'wb', buffering=0)
    self._file.write(self._header)
    return self

  def __exit__(self, *error: Any) -> None:
    self._file.close()
    self._sink.__exit__(*error)

  def write(self, samples: np.ndarray) -> None:
    """Adds [n] float samples."""
    self._sink.write(samples)
    clipped = np.clip(np.asarray(samples, np.float32), -_PEAK, _PEAK)
    self._file.write(audio_stream.to_int16(clipped).tobytes())

  def read(self) -> np.ndarray:
    """[N] float32: what was written so far, as it came."""
    return self._sink.read()

  def finish(self, path: pathlib.Path, tags: Mapping[str, str]) -> None:
    """Puts the file in place, with its tags."""
    self._sink.finish(path, tags)
