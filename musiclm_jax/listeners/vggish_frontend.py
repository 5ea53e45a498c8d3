"""The log-mel examples that VGGish hears, in NumPy.

Hershey et al., "CNN Architectures for Large-Scale Audio Classification" (2017),
as the authors' AudioSet code computes them:

  [B, N] at 16 kHz -> magnitudes of 25 ms every 10 ms (Hann, FFT of 512)
                   -> 64 mel bands of 125..7500 Hz -> log(x + 0.01)
                   -> [B, E, 96, 64], examples of 0.96 s that do not overlap

The mel triangles are straight over mels, not over hertz as librosa's are, and
the lowest bin of the spectrum is in none of them.
"""

import functools

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES, HOP_SAMPLES = 400, 160
FFT_SIZE = 512
NUM_MELS = 64
LOW_HZ, HIGH_HZ = 125.0, 7_500.0
OFFSET = 0.01
EXAMPLE_FRAMES = 96


def log_mel(audio: npt.ArrayLike) -> np.ndarray:
  """[B, N] float at 16 kHz -> [B, T, 64] float32, T = (N - 400) // 160 + 1."""
  audio = np.asarray(audio, np.float64)
  if audio.ndim != 2 or audio.shape[1] < WINDOW_SAMPLES:
    raise ValueError(
        f'audio has shape {audio.shape}; expected [B, N], N of '
        f'{WINDOW_SAMPLES} or more.')
  frames = np.lib.stride_tricks.sliding_window_view(
      audio, WINDOW_SAMPLES, axis=1)[:, ::HOP_SAMPLES]
  # The periodic Hann window.
  window = 0.5 - 0.5 * np.cos(
      2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
  magnitudes = np.abs(np.fft.rfft(frames * window, FFT_SIZE))
  return np.log(magnitudes @ mel_matrix() + OFFSET).astype(np.float32)


def examples(audio: npt.ArrayLike) -> np.ndarray:
  """[B, N] float at 16 kHz -> [B, E, 96, 64] float32.

  What is left after the last whole example is dropped. A second has 98 frames,
  and so one example.
  """
  mels = log_mel(audio)
  count = mels.shape[1] // EXAMPLE_FRAMES
  if not count:
    raise ValueError(
        f'{np.shape(audio)[1]} samples give {mels.shape[1]} frames; an example '
        f'has {EXAMPLE_FRAMES}.')
  return mels[:, :count * EXAMPLE_FRAMES].reshape(
      len(mels), count, EXAMPLE_FRAMES, NUM_MELS)


@functools.cache
def mel_matrix() -> np.ndarray:
  """[257, 64] float64."""
  mel = lambda hz: 1_127 * np.log1p(np.asarray(hz) / 700)
  edges = np.linspace(mel(LOW_HZ), mel(HIGH_HZ), NUM_MELS + 2)
  bins = mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SIZE // 2 + 1))[:, None]
  low, middle, high = edges[:-2], edges[1:-1], edges[2:]
  weights = np.maximum(0, np.minimum(
      (bins - low) / (middle - low), (high - bins) / (high - middle)))
  weights[0] = 0
  return weights
