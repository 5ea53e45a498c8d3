"""Discriminators of spectra whose bins are channels (ours).

  audio [B, N] -> frames of w samples, hop w / 4 -> spectra, magnitudes
    compressed, phases kept -> [B, T, 2 * bins] real and imaginary parts
    -> maps of three frames, ever farther apart -> logits [B, T]
  for each window w and each band of its bins

SoundStream's discriminators slide small kernels over a picture or over a wave:
few channels at many places. Here a frame's bins stand side by side, and each
layer is one product as wide as its channels; nothing is computed more often
than once a frame. There is no wave discriminator: what waves show is in the
phases. Features are the activations before the logits, for feature matching.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.codecs.framecodec import spectra

SHOWN = ('complex', 'magnitudes')
_TAPS = 3  # frames that a layer sees
_LEAK = 0.2
_POWER = 0.3  # |X|^0.3, as the losses
_SCALE = 8.0  # brings compressed spectra of music to a size near 1
_TINY = 1e-10  # of squared magnitudes; powers have no gradient at 0


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
  """Which discriminators, and how wide.

  Attributes:
    windows: lengths of the windows, in samples; a discriminator each.
    bands: parts of the bins, from low to high, that are judged apart.
    width: channels of every layer of a band.
    dilations: frames from tap to tap, of each layer behind the first.
    fourier: 'fft' or 'product', as of the codec.
    shown: 'complex', spectra with their phases, or 'magnitudes' alone.
  """

  windows: tuple = (512, 1024, 2048)
  bands: int = 1
  width: int = 256
  dilations: tuple = (1, 2, 4)
  fourier: str = 'fft'
  shown: str = 'complex'

  def __post_init__(self):
    if self.shown not in SHOWN:
      raise errors.choice('shown', self.shown, SHOWN)
    for name in ('windows', 'dilations'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for window in self.windows:
      if window % 4 or (window // 2) % self.bands:
        raise ValueError(
            f'windows are {self.windows} and bands {self.bands}; expected '
            f'multiples of 4, whose halves {self.bands} bands divide.')

  def build(self) -> 'Discriminators':
    """The module; see codecs/adversary.py."""
    return Discriminators(self)


class Layer(nn.Module):
  """Maps each frame and one on either side: [B, T, C] -> [B, T, features].

  As one product of a matrix: the neighbours stand beside the frame.

  Attributes:
    features: channels that come out.
    dilation: frames from one tap to the next; zeros stand before and behind.
  """

  features: int
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, count, width = x.shape
    around = self.dilation * (_TAPS - 1) // 2
    x = jnp.pad(x, ((0, 0), (around, around), (0, 0)))
    x = jnp.concatenate(
        [x[:, i * self.dilation:i * self.dilation + count]
         for i in range(_TAPS)], axis=-1)
    x = nn.Dense(self.features, name='map')(x.reshape(-1, _TAPS * width))
    return x.reshape(batch, count, self.features)


class Band(nn.Module):
  """[B, T, C] parts of spectra -> logits [B, T], list of features."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    config, features = self.config, []
    x = nn.leaky_relu(Layer(config.width, name='first')(x), _LEAK)
    features.append(x)
    for i, dilation in enumerate(config.dilations):
      x = nn.LayerNorm(name=f'norm_{i}')(x)
      x = nn.leaky_relu(
          Layer(config.width, dilation, name=f'layer_{i}')(x), _LEAK)
      features.append(x)
    return Layer(1, name='logits')(x)[..., 0], features


class Discriminators(nn.Module):
  """All of them: [B, N] -> list of logits, list of lists of features."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(
      self, audio: jax.Array) -> tuple[list[jax.Array], list[list[jax.Array]]]:
    config, logits, features = self.config, [], []
    for window in config.windows:
      bands = jnp.split(
          compressed(audio, window, config.fourier, config.shown),
          config.bands, axis=-2)
      for i, band in enumerate(bands):
        band = band.reshape(band.shape[:2] + (-1,))
        found = Band(config, name=f'window_{window}_band_{i}')(band)
        logits.append(found[0])
        features.append(found[1])
    return logits, features


def compressed(audio: jax.Array, window: int, fourier: str = 'fft',
               shown: str = 'complex') -> jax.Array:
  """[B, N] -> [B, T, window / 2, 2], the top bin dropped, magnitudes^0.3.

  With their phases, or [B, T, window / 2, 1] without.

  The ends are zero-padded by half a window, as those of the losses are.
  """
  half = window // 2
  audio = jnp.pad(audio, ((0, 0), (half, half)))
  real, imaginary = spectra.spectrum(
      audio_lib.frame(audio, window, window // 4), fourier)
  power = real**2 + imaginary**2 + _TINY
  if shown == 'magnitudes':
    return _SCALE * audio_lib.compress(power, _POWER / 2)[..., :-1, None]
  shrink = _SCALE * audio_lib.compress(power, (_POWER - 1.0) / 2)
  parts = jnp.stack([real * shrink, imaginary * shrink], axis=-1)
  return parts[..., :-1, :]
