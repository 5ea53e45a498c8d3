"""Audio in and out: read, check, resample, write; log-mel front ends.

Files are handled with soundfile and soxr on the host. `resample` and `log_mel`
are jax and run inside the models, so that a tokenizer takes the system's 24 kHz
and makes the rate it needs on the device.
"""

import dataclasses
import functools
import math
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import audio_stream
from musiclm_jax import files

Signal = jax.Array | np.ndarray


def read(path: str | pathlib.Path, sample_rate_hz: int) -> np.ndarray:
  """Reads a WAV, FLAC, OGG, Opus, AIFF or MP3 file as mono at `sample_rate_hz`.

  Args:
    path: the file. Stereo is averaged to mono.
    sample_rate_hz: the rate to resample to (soxr, high quality).

  Returns:
    [N] float32, nominally within -1..1.

  Raises:
    UserError: missing, not audio, empty, truncated, more than two channels, or
      NaN samples; the message names the file and what is wrong with it.
  """
  with audio_stream.Source(path, sample_rate_hz) as source:
    return np.concatenate(list(source.blocks(sample_rate_hz)))


def limit_peak(audio: ArrayLike, peak: float = 0.99) -> np.ndarray:
  """Scales `audio` down, never up, so that no sample exceeds `peak`."""
  audio = np.asarray(audio, np.float32)
  largest = float(np.max(np.abs(audio), initial=0.0))
  return audio * (peak / largest) if largest > peak else audio


def write(path: str | pathlib.Path, audio: ArrayLike, sample_rate_hz: int,
          metadata: dict[str, str] | None = None) -> None:
  """Writes 16-bit WAV or FLAC, by extension, under a temporary name first.

  Args:
    path: ends in .wav or .flac; its folder must exist.
    audio: [N] float; limited to a peak of 0.99, never clipped.
    sample_rate_hz: the rate of `audio`.
    metadata: strings for the file's tags, among title, artist, comment,
      software.

  Raises:
    UserError: unknown extension or missing folder.
  """
  import soundfile  # pylint: disable=g-import-not-at-top
  path = pathlib.Path(path)
  check_output(path)
  audio = limit_peak(audio)
  if not np.all(np.isfinite(audio)):
    raise ValueError('refusing to write audio with NaN or infinite samples.')
  with files.whole(path) as temporary, audio_stream.writing(temporary):
    with soundfile.SoundFile(
        os.fsencode(temporary), 'w', sample_rate_hz, 1, subtype='PCM_16') as file:
      for key, value in (metadata or {}).items():
        setattr(file, key, files.encodable(str(value)))
      file.write(audio_stream.to_int16(audio))


def check_output(path: str | pathlib.Path) -> None:
  """Raises UserError where `write` to `path` could not succeed."""
  files.check_output(path, ('.wav', '.flac'))


@dataclasses.dataclass(frozen=True)
class MelSpec:
  """A log-mel front end.

  Frames are centred on multiples of the hop, so that N samples give exactly
  ceil(N / hop) frames and every front end stays aligned with the codec.
  """

  sample_rate_hz: int = 16_000
  num_mels: int = 64
  window_samples: int = 400  # 25 ms
  hop_samples: int = 160  # 10 ms
  fft_size: int = 512
  low_hz: float = 60.0
  high_hz: float = 7_600.0
  floor: float = 1e-5

  def num_frames(self, num_samples: int) -> int:
    """Frames of so many samples: ceil(N / hop)."""
    return -(-num_samples // self.hop_samples)


@functools.cache
def mel_matrix(sample_rate_hz: int, fft_size: int, num_mels: int, low_hz: float,
               high_hz: float) -> np.ndarray:
  """[fft_size / 2 + 1, num_mels] float32 triangular filters (HTK scale)."""
  import librosa  # pylint: disable=g-import-not-at-top
  return librosa.filters.mel(
      sr=sample_rate_hz, n_fft=fft_size, n_mels=num_mels, fmin=low_hz,
      fmax=high_hz, htk=True, norm=None).T.astype(np.float32)


def frame(signal: Signal, size: int, hop: int) -> jax.Array:
  """[..., N] -> [..., (N - size) // hop + 1, size] overlapping frames.

  Where `hop` divides `size` the frames are stacked slices, whose gradient is
  slices again; a gather's gradient is a scatter, slow on every backend.
  """
  count = (signal.shape[-1] - size) // hop + 1
  if count < 1:
    raise ValueError(
        f'signal of {signal.shape[-1]} samples is shorter than a frame of '
        f'{size}.')
  unit = math.gcd(size, hop)
  per_hop, per_size = hop // unit, size // unit
  blocks = (count - 1) * per_hop + per_size
  grid = signal[..., :blocks * unit].reshape(
      signal.shape[:-1] + (blocks, unit))
  span = (count - 1) * per_hop + 1
  parts = [grid[..., k:k + span:per_hop, :] for k in range(per_size)]
  return jnp.concatenate(parts, axis=-1)


def compress(magnitude: Signal, power: float) -> jax.Array:
  """magnitude^power, of more than 0.

  By a logarithm and an exponential, which XLA:CPU computes for several numbers
  at once; its power, and the one in the gradient, take six times as long.
  """
  return jnp.exp(power * jnp.log(magnitude))


def stft_magnitude(signal: Signal, window_samples: int, hop_samples: int,
                   fft_size: int) -> jax.Array:
  """[..., N] -> [..., T, fft_size / 2 + 1] magnitudes, Hann, no padding."""
  window = jnp.asarray(np.hanning(window_samples + 1)[:-1], signal.dtype)
  frames = frame(signal, window_samples, hop_samples) * window
  spectrum = jnp.fft.rfft(frames, fft_size)
  # sqrt has no gradient at 0: silence would send NaN into the encoder.
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.sqrt(jnp.maximum(power, 1e-12))


def log_mel(signal: Signal, spec: MelSpec) -> jax.Array:
  """Log-mel energies.

  Args:
    signal: [B, N] float32 at `spec.sample_rate_hz`.
    spec: a MelSpec.

  Returns:
    [B, ceil(N / hop), num_mels] float32, natural log of the magnitudes.
  """
  num_frames = spec.num_frames(signal.shape[-1])
  left = (spec.window_samples - spec.hop_samples) // 2
  total = (num_frames - 1) * spec.hop_samples + spec.window_samples
  right = total - left - signal.shape[-1]
  signal = jnp.pad(signal, ((0, 0), (left, max(right, 0))))[:, :total]
  magnitude = stft_magnitude(
      signal, spec.window_samples, spec.hop_samples, spec.fft_size)
  mels = magnitude @ mel_matrix(
      spec.sample_rate_hz, spec.fft_size, spec.num_mels, spec.low_hz,
      spec.high_hz)
  return jnp.log(jnp.maximum(mels, spec.floor))


@functools.cache
def _resample_kernel(up, down):
  """The windowed-sinc low-pass of scipy.signal.resample_poly, times `up`."""
  from scipy import signal  # pylint: disable=g-import-not-at-top
  larger = max(up, down)
  taps = signal.firwin(
      2 * 10 * larger + 1, 1.0 / larger, window=('kaiser', 5.0))
  return (taps * up).astype(np.float32)


def resample(signal: Signal, from_hz: int, to_hz: int) -> jax.Array:
  """Polyphase resampling on the device; equals scipy.signal.resample_poly.

  Args:
    signal: [B, N] float32 at `from_hz`.
    from_hz: rate of `signal`.
    to_hz: wanted rate.

  Returns:
    [B, ceil(N * to_hz / from_hz)] float32.
  """
  if from_hz == to_hz:
    return signal
  divisor = math.gcd(from_hz, to_hz)
  up, down = to_hz // divisor, from_hz // divisor
  matrix, left = _resample_matrix(up, down)
  size = len(matrix)
  hop = size // 2
  num_samples = signal.shape[-1]
  num_out = -(-num_samples * up // down)
  num_blocks = -(-num_samples // hop)
  right = (num_blocks - 1) * hop + size - left - num_samples
  blocks = frame(jnp.pad(signal, ((0, 0), (left, right))), size, hop)
  out = blocks @ jnp.asarray(matrix, signal.dtype)
  return out.reshape(out.shape[0], -1)[:, :num_out]


@functools.cache
def _resample_matrix(up, down, min_hop=96):
  """The polyphase filter as a matrix product over overlapping blocks.

  A strided, dilated one-channel convolution runs at a hundredth of the speed of
  a matrix product on XLA:CPU, so a block of `hop` samples (with its neighbours)
  gives its `hop * up / down` output samples at once.

  Returns:
    ([2 * hop, hop * up / down] float32, samples a block begins before its hop).
  """
  taps = _resample_kernel(up, down)
  half = len(taps) // 2
  left = half // up
  hop = down * -(-max(min_hop, 2 * left + 1) // down)
  sample = np.arange(2 * hop)[:, None] - left
  out = np.arange(hop // down * up)[None]
  index = down * out - up * sample + half
  inside = (index >= 0) & (index < len(taps))
  matrix = np.where(inside, taps[np.clip(index, 0, len(taps) - 1)], 0.0)
  return matrix.astype(np.float32), left
