"""How much percussion is heard."""

import numpy as np

_LOW_HZ = 2_000.0
_FFT, _HOP = 1024, 256


def onsets(audio: np.ndarray, sample_rate_hz: int) -> float:
  """Mean onset strength of the percussive part above 2 kHz of [N] samples."""
  import librosa  # pylint: disable=g-import-not-at-top
  sizes = np.abs(librosa.stft(np.asarray(audio, np.float32), n_fft=_FFT,
                              hop_length=_HOP))
  _, percussive = librosa.decompose.hpss(sizes, margin=(1.0, 2.0))
  high = librosa.fft_frequencies(sr=sample_rate_hz, n_fft=_FFT) >= _LOW_HZ
  rises = np.diff(np.log1p(100 * percussive[high]), axis=1)
  return float(np.maximum(rises, 0).mean())
