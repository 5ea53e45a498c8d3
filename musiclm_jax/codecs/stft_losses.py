"""Distances of spectra at several windows, with and without their phases.

  for each window, hop a quarter, X of the recording and Y of its copy
    L1 of log-mels, and of |X|^0.3 over its mean           `MagnitudeConfig`
    L1 of |X|^0.3 e^(i phase), over the mean of |X|^0.3    `ComplexConfig`
    how far phases turn from frame to frame and from bin
      to bin, X against Y                                  `PhaseConfig`

The first one alone is for a codec whose codes carry magnitudes: phases are
free, bits spent on them are lost to timbre, and the decoder finds phases for
which overlapping frames agree (ours). The others are for a codec whose aim is
the waveform. None depends on the batch size or on the length of the crops.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib


class _OverWindows:
  """A distance that is the mean of `at` over `windows`."""

  def __post_init__(self):
    object.__setattr__(self, 'windows', tuple(self.windows))

  def distance(self, real: jax.Array, fake: jax.Array,
               sample_rate_hz: int) -> jax.Array:
    """Scalar distance of two [B, N] waveforms, mean over windows."""
    return sum(self.at(real, fake, window, sample_rate_hz)
               for window in self.windows) / len(self.windows)


@dataclasses.dataclass(frozen=True)
class MagnitudeConfig(_OverWindows):
  """Distance of magnitudes at several windows.

  Attributes:
    windows: lengths of the windows, in samples.
    num_mels: bands at a window of 1,024 and above; shorter ones have as many
      fewer, so that no band is without a bin.
    floor: smallest band under the logarithm; a full-scale sine has 1.
    log_weight: factor on the L1 of log-mels.
    power_weight: factor on the L1 of |X|^power, over its mean.
    power: compression of magnitudes.
  """

  windows: tuple = (256, 512, 1024, 2048)
  num_mels: int = 80
  floor: float = 1e-4
  log_weight: float = 1.0
  power_weight: float = 1.0
  power: float = 0.3

  def at(self, real: jax.Array, fake: jax.Array, window: int,
         sample_rate_hz: int) -> jax.Array:
    """The distance at one window."""
    power, other = _power(real, window), _power(fake, window)
    total = 0.0
    if self.log_weight:
      bands = self.bands(window)
      filters = audio_lib.mel_matrix(
          sample_rate_hz, window, bands, 0.0, sample_rate_hz / 2)
      mels = [jnp.log(jnp.sqrt(p + _TINY) @ filters + self.floor)
              for p in (power, other)]
      total += self.log_weight * jnp.mean(jnp.abs(mels[0] - mels[1]))
    if self.power_weight:
      small = [audio_lib.compress(p + _TINY, self.power / 2)
               for p in (power, other)]
      total += self.power_weight * jnp.mean(
          jnp.abs(small[0] - small[1])) / jnp.mean(small[0])
    return total

  def bands(self, window: int) -> int:
    """Mel bands at a window."""
    return min(self.num_mels, self.num_mels * window // 1024)


@dataclasses.dataclass(frozen=True)
class ComplexConfig(_OverWindows):
  """Distance of spectra with their phases, magnitudes compressed.

  Attributes:
    windows: lengths of the windows, in samples.
    power: compression of magnitudes.
  """

  windows: tuple = (256, 512, 1024, 2048)
  power: float = 0.3

  def at(self, real: jax.Array, fake: jax.Array, window: int,
         unused_sample_rate_hz: int | None = None) -> jax.Array:
    """The distance at one window: L1 of real parts plus that of imaginary ones.

    Over the mean of |X|^power: 4 / pi where `fake` is silent, and more where
    its magnitudes are right and its phases chance.
    """
    (ours, size), (theirs, _) = (
        self._compressed(x, window) for x in (real, fake))
    apart = sum(jnp.abs(a - b) for a, b in zip(ours, theirs))
    return jnp.mean(apart) / jnp.mean(size)

  def _compressed(self, signal, window):
    """(real and imaginary parts, magnitudes) of |X|^power e^(i phase)."""
    parts = _spectrum(signal, window)
    power = sum(map(jnp.square, parts)) + _TINY
    shrink = audio_lib.compress(power, (self.power - 1.0) / 2)
    return [x * shrink for x in parts], audio_lib.compress(
        power, self.power / 2)


@dataclasses.dataclass(frozen=True)
class PhaseConfig(_OverWindows):
  """Distance of phases by how they turn, in radians, 0 to pi.

  From frame to frame at one bin that is the instantaneous frequency; from bin
  to bin in one frame, the group delay. Neither cares where a phase began. A
  difference counts the short way round (anti-wrapped), and as much as the
  recording has energy there, so that silence does not count. Random turns have
  pi / 2, and so has what is silent where the recording is not.

  Attributes:
    windows: lengths of the windows, in samples.
    frequency_weight: factor on the part of instantaneous frequencies.
    delay_weight: factor on that of group delays.
  """

  windows: tuple = (512, 1024, 2048)
  frequency_weight: float = 1.0
  delay_weight: float = 1.0

  def at(self, real: jax.Array, fake: jax.Array, window: int,
         unused_sample_rate_hz: int | None = None) -> jax.Array:
    """The distance at one window, parts weighted and added."""
    ours, theirs = (_spectrum(x, window) for x in (real, fake))
    total = 0.0
    for axis, weight in ((1, self.frequency_weight), (2, self.delay_weight)):
      if weight:
        total += weight * _turned(ours, theirs, axis)
    return total


def _turned(ours, theirs, axis):
  """How differently phases turn along an axis, mean weighted by energies.

  The phase of X[t + 1] X*[t] is how far X turns; that of its product with the
  other's conjugate is the difference, and is never more than half a turn.
  """
  turns = _times_conjugate(*_neighbours(ours, axis))
  energy = jnp.sqrt(sum(map(jnp.square, turns)))
  units, live = zip(*(_unit(x) for x in _neighbours(theirs, axis)))
  real, imaginary = _times_conjugate(turns, _times_conjugate(*units))
  # Where either is 0 there is no phase, and its gradient would be NaN: what is
  # missing counts as chance.
  live = live[0] & live[1] & (energy > _TINY)
  angle = jnp.abs(jnp.arctan2(
      jnp.where(live, imaginary, 0.0), jnp.where(live, real, 1.0)))
  angle = jnp.where(live, angle, np.pi / 2)
  return jnp.mean(angle * energy) / (jnp.mean(energy) + _TINY)


def _neighbours(spectrum, axis):
  """Each bin's next one along an axis, and itself."""
  length = spectrum[0].shape[axis]
  cut = lambda first: [jax.lax.slice_in_dim(
      x, first, first + length - 1, axis=axis) for x in spectrum]
  return cut(1), cut(0)


def _times_conjugate(a, b):
  """a b* of pairs (real, imaginary)."""
  return a[0] * b[0] + a[1] * b[1], a[1] * b[0] - a[0] * b[1]


def _unit(x):
  """(x / |x|, whether x is more than silence)."""
  power = sum(map(jnp.square, x))
  scale = jax.lax.rsqrt(power + _TINY)
  return [part * scale for part in x], power > _TINY


# Of squared magnitudes: 100 dB below a full-scale sine. Roots and powers have no
# gradient at 0, which silence is.
_TINY = 1e-10


def _power(signal, window):
  """[B, N] -> [B, T, window / 2 + 1] squared magnitudes, ends zero-padded."""
  return sum(map(jnp.square, _spectrum(signal, window)))


def _spectrum(signal, window):
  """(real, imaginary) parts [B, T, window / 2 + 1]; a full-scale sine has 1."""
  half = window // 2
  signal = jnp.pad(signal, ((0, 0), (half, half)))
  shape = np.hanning(window + 1)[:-1].astype(np.float32) * (4.0 / window)
  frames = audio_lib.frame(signal, window, window // 4) * shape
  spectrum = jnp.fft.rfft(frames)
  return spectrum.real, spectrum.imag
