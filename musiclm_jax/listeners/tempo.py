"""Beats a minute, by librosa and, where it is installed, by Essentia.

They have nothing in common but the question: librosa takes the period that the
autocorrelation of onset strength favours, with a prior around 120; Essentia's
RhythmExtractor2013 (Degara's) follows beats in the spectrum's changes.
"""

from collections.abc import Callable
import importlib.util

import numpy as np

JUDGES = ('librosa', 'essentia')
_ESSENTIA_RATE_HZ = 44_100  # all that RhythmExtractor2013 hears


def installed() -> tuple[str, ...]:
  """Those of `JUDGES` that are there; librosa always is."""
  return tuple(name for name in JUDGES if importlib.util.find_spec(name))


def judge(name: str) -> Callable[[np.ndarray, int], float]:
  """([N] float32, rate in Hz) -> beats a minute, by one of `JUDGES`."""
  return {'librosa': _librosa, 'essentia': _essentia}[name]


def _librosa(audio, rate):
  import librosa  # pylint: disable=g-import-not-at-top
  strength = librosa.onset.onset_strength(y=audio, sr=rate)
  return float(librosa.feature.tempo(onset_envelope=strength, sr=rate)[0])


def _essentia(audio, rate):
  import essentia  # pylint: disable=g-import-not-at-top
  import soxr  # pylint: disable=g-import-not-at-top
  # It prints of its buffers otherwise.
  essentia.log.infoActive = essentia.log.warningActive = False
  from essentia import standard  # pylint: disable=g-import-not-at-top
  audio = soxr.resample(np.asarray(audio, np.float32), rate, _ESSENTIA_RATE_HZ)
  return float(standard.RhythmExtractor2013(method='degara')(audio)[0])
