"""The pitch of the loudest voice: swift-f0 where it is installed, else pYIN."""

import functools
import importlib.util

import numpy as np

SWIFT, PYIN = 'swift-f0', 'librosa pYIN'
FRAME_SECONDS = 0.02
_LOW_HZ, _HIGH_HZ = 65.0, 1_500.0
_A4_HZ, _A4_MIDI = 440.0, 69.0


def tracker() -> str:
  """Which one this machine has; `SWIFT` is by far the faster one."""
  return SWIFT if importlib.util.find_spec('swift_f0') else PYIN


def contour(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """Pitch of [N] samples on a grid of frames of 20 ms.

  Args:
    audio: [N] float32.
    sample_rate_hz: of it.

  Returns:
    [T] float64, MIDI numbers with fractions; NaN where there is no pitch.
  """
  find = _swift if tracker() == SWIFT else _pyin
  seconds, hz, voiced = find(np.asarray(audio, np.float32), sample_rate_hz)
  grid = np.arange(0.0, len(audio) / sample_rate_hz, FRAME_SECONDS)
  nearest = np.abs(grid[:, None] - np.asarray(seconds)[None]).argmin(1)
  hz = np.where(voiced, hz, np.nan)[nearest]
  return 12.0 * np.log2(hz / _A4_HZ) + _A4_MIDI


def mean(audio: np.ndarray, sample_rate_hz: int) -> float:
  """Mean MIDI number of the frames with a pitch; NaN without any."""
  found = contour(audio, sample_rate_hz)
  found = found[np.isfinite(found)]
  return float(found.mean()) if len(found) else float('nan')


@functools.cache
def _detector():
  import swift_f0  # pylint: disable=g-import-not-at-top
  return swift_f0.SwiftF0()


def _swift(audio, rate):
  found = _detector().detect(audio, rate, fmin=_LOW_HZ, fmax=_HIGH_HZ)
  return found.timestamps, found.pitch_hz, found.confidence >= 0.5


def _pyin(audio, rate):
  import librosa  # pylint: disable=g-import-not-at-top
  hop = int(FRAME_SECONDS * rate)
  hz, voiced, _ = librosa.pyin(
      y=audio, sr=rate, fmin=_LOW_HZ, fmax=_HIGH_HZ, frame_length=2048,
      hop_length=hop, resolution=0.25)
  return np.arange(len(hz)) * hop / rate, hz, voiced
