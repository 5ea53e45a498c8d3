"""Roughness: how much the loudness of each band flutters.

  audio -> band envelopes, 375 a second -> modulation spectrum of half a second
        -> energy at 20 to 150 Hz over the square of the mean, in dB

A held tone whose frames do not fit each other beats at the frame rate and its
multiples: the ear hears that as rough (Zwicker and Fastl, Psychoacoustics, ch.
11; 20 to 150 Hz). Magnitudes over a long window do not show it. The measure
here is a plain share of energy, without their weights (ours).
"""

import numpy as np

from musiclm_jax import audio as audio_lib

_WINDOW, _HOP = 256, 64  # at 24 kHz: 11 ms, 375 envelopes a second
_BANDS = 24
_SEGMENT_SECONDS = 0.5
_LOW_HZ, _HIGH_HZ = 20.0, 150.0
_SILENCE = 1e-3  # of the loudest band of a clip: quieter ones do not count


def flutter_db(audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """Modulation energy at 20 to 150 Hz, relative to the steady part.

  A tone whose loudness swings by a share m of its mean has 20 log10(m) - 3.

  Args:
    audio: [B, N] float, at least half a second.
    sample_rate_hz: its rate.

  Returns:
    [B] float dB: mean over bands and half seconds, weighted by their energy.
  """
  audio = np.asarray(audio, np.float32)
  rate = sample_rate_hz / _HOP
  size = int(_SEGMENT_SECONDS * rate)
  if audio.ndim != 2 or audio.shape[1] < size * _HOP + _WINDOW:
    raise ValueError(
        f'audio has shape {audio.shape}; expected [B, N] of at least '
        f'{(size * _HOP + _WINDOW) / sample_rate_hz:.2f} s.')
  envelopes = _envelopes(audio, sample_rate_hz)
  count = envelopes.shape[1] // size
  parts = envelopes[:, :count * size].reshape(
      len(audio), count, size, _BANDS)
  window = np.hanning(size + 1)[:-1, None]
  means = (parts * window).sum(2, keepdims=True) / window.sum()
  spectrum = np.abs(np.fft.rfft((parts - means) * window, axis=2))**2
  hz = np.fft.rfftfreq(size, 1 / rate)
  inside = (hz >= _LOW_HZ) & (hz <= _HIGH_HZ)
  # Of both sides of the spectrum; a window spreads a line over its own energy.
  energy = 2 * spectrum[:, :, inside].sum(2) / size / (window**2).sum()
  steady = means[:, :, 0]**2
  loudest = steady.max(axis=(1, 2), keepdims=True)
  weight = np.where(steady > _SILENCE * loudest, steady, 0.0)
  share = (weight * energy / np.maximum(steady, 1e-20)).sum((1, 2))
  return 10 * np.log10(share / np.maximum(weight.sum((1, 2)), 1e-20) + 1e-12)


def added_db(
    real: np.ndarray, copy: np.ndarray, sample_rate_hz: int) -> np.ndarray:
  """[B] dB by which a copy flutters more than the recording; 0: as much."""
  return flutter_db(copy, sample_rate_hz) - flutter_db(real, sample_rate_hz)


def _envelopes(audio, sample_rate_hz):
  """[B, N] -> [B, T, bands] magnitudes."""
  frames = np.lib.stride_tricks.sliding_window_view(
      audio, _WINDOW, axis=1)[:, ::_HOP]
  spectrum = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1], axis=2))
  filters = audio_lib.mel_matrix(
      sample_rate_hz, _WINDOW, _BANDS, 50.0, sample_rate_hz / 2)
  return np.sqrt(spectrum**2 @ filters)
