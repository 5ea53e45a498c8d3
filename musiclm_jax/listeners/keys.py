"""The key that is heard, by our profiles on librosa's chroma, or by Essentia."""

import importlib.util

import numpy as np

JUDGES = ('librosa', 'essentia')
_ESSENTIA_RATE_HZ = 44_100


def installed() -> tuple[str, ...]:
  """Those of `JUDGES` that are there; librosa always is."""
  return tuple(name for name in JUDGES if importlib.util.find_spec(name))


def chroma(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """[12] mean weights of the pitch classes, C first, of [N] samples.

  By constant-Q bands, chosen on validation recordings of folk_gm.
  """
  import librosa  # pylint: disable=g-import-not-at-top
  return librosa.feature.chroma_cqt(
      y=np.asarray(audio, np.float32), sr=sample_rate_hz, tuning=0.0,
      norm=None).mean(1)


def essentia_name(audio: np.ndarray, sample_rate_hz: int) -> str:
  """What Essentia's KeyExtractor names [N] samples, such as 'Bb minor'.

  Its own chroma, and profiles made from electronic dance music by its authors:
  neither is ours.
  """
  import essentia  # pylint: disable=g-import-not-at-top
  import soxr  # pylint: disable=g-import-not-at-top
  essentia.log.infoActive = essentia.log.warningActive = False
  from essentia import standard  # pylint: disable=g-import-not-at-top
  audio = soxr.resample(
      np.asarray(audio, np.float32), sample_rate_hz, _ESSENTIA_RATE_HZ)
  tonic, mode, _ = standard.KeyExtractor(profileType='edma')(audio)
  return f'{tonic} {mode}'
