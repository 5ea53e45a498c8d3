"""Frames of samples to spectra and back, as sums that fit each other.

  frame x [N] -> Hann window w -> X = DFT(w x) 4 / N      a full-scale sine: 1
  X -> N / 4 DFT^-1(X) w / (3/8 N / hop)                  overlapped, added: x

The squares of windows that begin every `hop` samples add up to 3/8 N / hop where
N is three hops or more.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib

_COMPRESSION = 0.3  # ours: |X|^0.3, near to loudness
_FLOOR = 1e-4  # of magnitudes: 80 dB below a full-scale sine
# About the mean and the deviation of music, so that every input of the encoder
# has a size near 1: a layer that must find a part in a thousand learns slowly.
_MEAN_POWER, _SCALE_POWER = 0.1, 8.0
_MEAN_LOG, _SCALE_LOG = -5.0, 2.0


def features(samples: jax.Array, num_mels: int, parts: int, sample_rate_hz: int,
             method: str = 'fft', turns: jax.Array | None = None) -> jax.Array:
  """What the encoder is shown of each frame: magnitudes, and phases if asked.

  Args:
    samples: [B, T, N].
    num_mels: bands of the log-mels.
    parts: short windows that the frame is cut into, overlapping by half, with
      log-mels of their own: they say when in the frame something begins; 0:
      none.
    sample_rate_hz: of the samples.
    method: as of `spectrum`.
    turns: [B, T, N / 2 + 1] radians, how far each bin's own frequency has turned
      since the signal began; None: no phases.

  Returns:
    [B, T, F]: N / 2 + 1 compressed magnitudes, `num_mels` log-mels, and the
    log-mels of the short windows. With `turns` the magnitudes are the sizes of
    complex numbers, whose real and imaginary parts stand in their place; a tone
    at a bin's own frequency stands still.
  """
  real, imaginary = spectrum(samples, method)
  magnitude = _size(real, imaginary)
  if turns is None:
    power = audio_lib.compress(magnitude, _COMPRESSION)
    shown = [(power - _MEAN_POWER) * _SCALE_POWER]
  else:
    sine, cosine = sine_cosine(turns)
    scale = audio_lib.compress(magnitude, _COMPRESSION - 1.0) * _SCALE_POWER
    shown = [(real * cosine + imaginary * sine) * scale,
             (imaginary * cosine - real * sine) * scale]
  shown += [_log_mel(magnitude, num_mels, sample_rate_hz) * _SCALE_LOG]
  if parts:
    blocks = samples.reshape(samples.shape[:-1] + (parts + 1, -1))
    short = jnp.concatenate([blocks[..., :-1, :], blocks[..., 1:, :]], -1)
    bands = max(1, short.shape[-1] // 16)
    mels = _log_mel(_size(*spectrum(short, method)), bands, sample_rate_hz)
    shown.append(mels.reshape(mels.shape[:-2] + (-1,)))
  return jnp.concatenate(shown, axis=-1)


def _size(real, imaginary):
  return jnp.sqrt(real**2 + imaginary**2 + (0.1 * _FLOOR)**2)


def _log_mel(magnitude, num_mels, sample_rate_hz):
  """[..., bins] -> [..., num_mels], about 0."""
  filters = audio_lib.mel_matrix(
      sample_rate_hz, 2 * (magnitude.shape[-1] - 1), num_mels, 0.0,
      sample_rate_hz / 2)
  return jnp.log(magnitude @ filters + _FLOOR) - _MEAN_LOG


def spectrum(samples: jax.Array,
             method: str = 'fft') -> tuple[jax.Array, jax.Array]:
  """Spectra of frames under a Hann window.

  Args:
    samples: [..., N].
    method: 'fft', or 'product' for a product with a matrix in full precision.

  Returns:
    (real, imaginary), each [..., N / 2 + 1].
  """
  size = samples.shape[-1]
  if method == 'product':
    matrix = _forward_matrix(size)
    both = jnp.matmul(samples, matrix, precision=jax.lax.Precision.HIGHEST)
    return both[..., :size // 2 + 1], both[..., size // 2 + 1:]
  found = jnp.fft.rfft(samples * (_hann(size) * (4.0 / size)))
  return found.real, found.imag


def frames(real: jax.Array, imaginary: jax.Array, overlap: int,
           method: str = 'fft') -> jax.Array:
  """The frames of predicted spectra, ready to be overlapped and added.

  Args:
    real: [..., N / 2 + 1].
    imaginary: the same.
    overlap: N / hop, 3 or more.
    method: as of `spectrum`.

  Returns:
    [..., N].
  """
  size = 2 * (real.shape[-1] - 1)
  if method == 'product':
    both = jnp.concatenate([real, imaginary], axis=-1)
    return jnp.matmul(both, _inverse_matrix(size, overlap),
                      precision=jax.lax.Precision.HIGHEST)
  made = jnp.fft.irfft(jax.lax.complex(real, imaginary), size)
  return made * (_hann(size) * _level(size, overlap))


def polar(magnitude: jax.Array,
          phase: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(real, imaginary) parts of magnitude e^(i phase)."""
  sine, cosine = sine_cosine(phase)
  return magnitude * cosine, magnitude * sine


@jax.custom_jvp
def sine_cosine(angle: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Both of [...] float32 radians, within 2e-7 for angles up to 10,000.

  XLA:CPU computes its own one number at a time; this takes a tenth of the time.
  An angle is some quarter turns and a rest of at most an eighth of one turn,
  whose series are short.
  """
  turns = jnp.round(angle * (2.0 / np.pi))
  rest = angle
  for part in _QUARTER:
    rest = rest - turns * part
  # Angles too large for their quarter turns to be exact: wrong, but no more
  # than 1. NaN stays.
  rest = jnp.clip(rest, -0.8, 0.8)
  square = rest * rest
  sine = rest + rest * square * jnp.polyval(_SINE, square)
  cosine = 1.0 - 0.5 * square + square * square * jnp.polyval(_COSINE, square)
  quarter = turns.astype(jnp.int32)
  odd = quarter & 1 == 1
  sine, cosine = jnp.where(odd, cosine, sine), jnp.where(odd, sine, cosine)
  return (jnp.where(quarter & 2 == 0, sine, -sine),
          jnp.where((quarter + 1) & 2 == 0, cosine, -cosine))


@sine_cosine.defjvp
def _sine_cosine_jvp(primals, tangents):
  sine, cosine = sine_cosine(*primals)
  return (sine, cosine), (cosine * tangents[0], -sine * tangents[0])


def _quarter_turn():
  """pi / 2 in parts of 8 bits: up to 60,000 of each are exact in float32."""
  parts, left = [], np.pi / 2
  for _ in range(3):
    unit = 2.0**(np.floor(np.log2(left)) - 7)
    parts.append(float(np.floor(left / unit) * unit))
    left -= parts[-1]
  return *parts, float(left)


def _short_series(function):
  """Three coefficients of a function of r^2, for r up to pi / 4.

  From its values at Chebyshev's points: no other three are much better.
  """
  chebyshev = np.cos(np.pi * np.array([1, 3, 5]) / 6)
  points = (np.pi / 4)**2 * (0.5 + 0.5 * chebyshev)
  return np.polyfit(points, function(np.sqrt(points)), 2).astype(np.float32)


_QUARTER = _quarter_turn()
_SINE = _short_series(lambda r: (np.sin(r) - r) / r**3)
_COSINE = _short_series(lambda r: (np.cos(r) - 1.0 + r**2 / 2) / r**4)


def _level(size, overlap):
  """What a windowed inverse transform is multiplied with."""
  return size / 4.0 / (0.375 * overlap)


def _hann(size):
  """[N] float32, periodic."""
  return np.hanning(size + 1)[:-1].astype(np.float32)


@functools.lru_cache(maxsize=4)
def _forward_matrix(size):
  """[N, N + 2] float32: window, transform and scale as one product."""
  found = np.fft.rfft(np.diag(np.hanning(size + 1)[:-1] * (4.0 / size)))
  return np.concatenate([found.real, found.imag], -1).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _inverse_matrix(size, overlap):
  """[N + 2, N] float32, the way back."""
  unit = np.eye(size // 2 + 1)
  rows = np.concatenate([np.fft.irfft(unit, size), np.fft.irfft(1j * unit, size)])
  window = np.hanning(size + 1)[:-1]
  return (rows * window * _level(size, overlap)).astype(np.float32)
