"""Losses of a codec whose codes carry magnitudes: what the spectra look like.

  for each window    |X|, hop of a quarter
    L1 of log-mels, and L1 of |X|^0.3 over its mean      `MagnitudeConfig`

Phases are free: bits spent on them are lost to timbre, and the decoder finds
phases for which overlapping frames agree (ours).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib


@dataclasses.dataclass(frozen=True)
class MagnitudeConfig:
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

  def __post_init__(self):
    object.__setattr__(self, 'windows', tuple(self.windows))

  def distance(self, real, fake, sample_rate_hz):
    """Scalar distance of two [B, N] waveforms, mean over windows."""
    return sum(self.at(real, fake, window, sample_rate_hz)
               for window in self.windows) / len(self.windows)

  def at(self, real, fake, window, sample_rate_hz):
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

  def bands(self, window):
    """Mel bands at a window."""
    return min(self.num_mels, self.num_mels * window // 1024)


# Of squared magnitudes: 100 dB below a full-scale sine. Roots and powers have no
# gradient at 0, which silence is.
_TINY = 1e-10


def _power(signal, window):
  """[B, N] -> [B, T, window / 2 + 1] squared magnitudes, ends zero-padded."""
  half = window // 2
  signal = jnp.pad(signal, ((0, 0), (half, half)))
  shape = np.hanning(window + 1)[:-1].astype(np.float32) * (4.0 / window)
  frames = audio_lib.frame(signal, window, window // 4) * shape
  spectrum = jnp.fft.rfft(frames)
  return jnp.square(spectrum.real) + jnp.square(spectrum.imag)
