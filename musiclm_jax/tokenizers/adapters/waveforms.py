"""Rates of foreign models on our grid, and long audio in pieces."""

from collections.abc import Iterator
import fractions
import pathlib

import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import errors
from musiclm_jax import specs

# Of the system, unless an adapter is told another.
RATE_HZ = specs.AudioSpec.sample_rate_hz


def check(audio: ArrayLike) -> np.ndarray:
  """`audio` as [B, N] float32, not empty."""
  audio = np.asarray(audio, np.float32)
  if audio.ndim != 2 or 0 in audio.shape:
    raise ValueError(
        f'audio has shape {audio.shape}; expected [B, N], not empty.')
  return audio


def resample(audio: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
  """[B, N] -> [B, ceil(N * to / from)], as `audio.resample` but on the host."""
  if from_hz == to_hz:
    return audio
  from scipy import signal  # pylint: disable=g-import-not-at-top
  ratio = fractions.Fraction(to_hz, from_hz)
  return signal.resample_poly(
      audio, ratio.numerator, ratio.denominator, axis=1).astype(np.float32)


def frame_rate(directory: str | pathlib.Path, sample_rate_hz: int,
               hop_samples: int | fractions.Fraction,
               audio_rate_hz: int = RATE_HZ) -> int:
  """Frames a second, a whole number that divides the system's sample rate.

  Raises:
    UserError: it is not; a token cache counts frames by whole seconds.
  """
  rate = fractions.Fraction(sample_rate_hz) / fractions.Fraction(hop_samples)
  if rate.denominator != 1 or audio_rate_hz % rate.numerator:
    raise errors.UserError(
        f'{directory} has {float(rate):g} frames a second ({sample_rate_hz} Hz '
        f'/ {float(hop_samples):g}); expected a whole number that divides '
        f'{audio_rate_hz} Hz, since tokens are cut by whole seconds: 25, 50 or 75 '
        f'for example.')
  return rate.numerator


def pieces(length: int, size: int, left: int, right: int
           ) -> Iterator[tuple[int, int, int, int]]:
  """How a long input is processed: (start, stop, first, last) of each piece.

  The piece reads start..stop and gives the results first..last, which cover
  0..length once; `left` and `right` are context whose results are dropped.

  >>> list(pieces(20, 10, 3, 1))
  [(0, 11, 0, 10), (7, 20, 10, 20)]
  >>> list(pieces(8, 10, 3, 1))
  [(0, 8, 0, 8)]
  """
  for first in range(0, length, size):
    last = min(first + size, length)
    yield max(0, first - left), min(last + right, length), first, last
