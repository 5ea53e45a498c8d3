"""SoundStream's discriminators: complex STFT and waves at three scales.

  audio [B, N] -> (logits, features) for each discriminator
  STFT: [B, T, 512, 2] real and imaginary parts -> 2-D residual units
        -> logits [B, T / 8]
  wave: audio at rate 1, 1/2, 1/4 -> grouped 1-D convolutions
        -> logits [B, N' / 256]

Features are the activations before the logits, for feature matching. Layer norm
per time step in the STFT discriminator is an option (ours: EnCodec's authors
found that their copy diverged without). The wave discriminators are MelGAN's.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax.nn import conv

# (width, growth, (time stride, frequency stride)) of each residual unit, the
# width as a multiple of the discriminator's channels (paper, Fig. 4).
_STFT_UNITS = (
    (1, 2, (1, 2)), (2, 2, (2, 2)), (4, 1, (1, 2)),
    (4, 2, (2, 2)), (8, 1, (1, 2)), (8, 2, (2, 2)))
_WAVE_STRIDE = 4  # paper
_LEAK = 0.2  # paper (wave)


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
  """Which discriminators, and how wide.

  Attributes:
    stft_channels: width of the STFT discriminator's first layer; 0: none.
    window_samples: of its transform.
    hop_samples: of its transform.
    layer_norm: normalise its activations per time step.
    wave_scales: number of wave discriminators, each at half the last one's
      rate; 0: none.
    wave_channels: width of their first layer; their widest is 64 times it.
  """

  stft_channels: int = 32  # paper
  window_samples: int = 1024  # paper
  hop_samples: int = 256  # paper
  layer_norm: bool = True  # ours
  wave_scales: int = 3  # paper
  wave_channels: int = 16  # paper

  def build(self) -> 'Discriminators':
    """The module; see codecs/adversary.py."""
    return Discriminators(self)


class StftUnit(nn.Module):
  """Residual unit of the STFT discriminator: [B, T, F, C] -> strided."""

  width: int
  growth: int
  strides: tuple
  layer_norm: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    features = self.width * self.growth
    kernel = tuple(s + 2 for s in self.strides)
    y = conv.Conv2d(self.width, (3, 3), name='inner')(_normalise(
        x, self.layer_norm, 'norm'))
    y = conv.Conv2d(features, kernel, self.strides, name='outer')(
        nn.leaky_relu(y, _LEAK))
    skip = conv.Conv2d(features, (1, 1), self.strides, name='skip')(x)
    return nn.leaky_relu(y + skip, _LEAK)


class StftDiscriminator(nn.Module):
  """[B, N] audio -> logits [B, T'], list of features."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(self, audio: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    config = self.config
    x = complex_stft(audio, config.window_samples, config.hop_samples)
    x = conv.Conv2d(config.stft_channels, (7, 7), name='first')(x)
    x = nn.leaky_relu(x, _LEAK)
    features = [x]
    for i, (width, growth, strides) in enumerate(_STFT_UNITS):
      x = StftUnit(width * config.stft_channels, growth, strides,
                   config.layer_norm, name=f'unit_{i}')(x)
      features.append(x)
    logits = conv.Conv2d(1, (1, x.shape[2]), padding='VALID', name='logits')(x)
    return logits[:, :, 0, 0], features


class WaveDiscriminator(nn.Module):
  """MelGAN's: [B, N] audio -> logits [B, N / 256], list of features."""

  channels: int

  @nn.compact
  def __call__(self, audio: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    x = jnp.pad(audio[..., None], ((0, 0), (7, 7), (0, 0)), mode='reflect')
    x = NormedConv(self.channels, 15, name='first')(x)
    features = [nn.leaky_relu(x, _LEAK)]
    width = self.channels
    for i in range(4):
      # Four input channels a group (paper), so 4, 16, 64 and 256 groups.
      groups = width // 4
      width = min(4 * width, 64 * self.channels)
      x = jnp.pad(features[-1], ((0, 0), (20, 20), (0, 0)))
      x = NormedConv(width, 41, _WAVE_STRIDE, groups, name=f'down_{i}')(x)
      features.append(nn.leaky_relu(x, _LEAK))
    x = jnp.pad(features[-1], ((0, 0), (2, 2), (0, 0)))
    x = NormedConv(width, 5, name='last')(x)
    features.append(nn.leaky_relu(x, _LEAK))
    x = jnp.pad(features[-1], ((0, 0), (1, 1), (0, 0)))
    return NormedConv(1, 3, name='logits')(x)[..., 0], features


class NormedConv(nn.Module):
  """Weight-normalised 1-D convolution without padding: [B, T, C] -> [B, T', D].

  The kernel is a direction per output channel and its length, learned apart.
  """

  features: int
  kernel_size: int
  stride: int = 1
  groups: int = 1

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    per_group = inputs.shape[-1] // self.groups
    fan_in = self.kernel_size * per_group
    direction = self.param(
        'direction', conv.kernel_init(fan_in),
        (self.kernel_size, per_group, self.features))
    length = self.param('length', nn.initializers.ones, (self.features,))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(0, 1)) + 1e-12)
    outputs = conv.grouped_conv(
        inputs, direction * (length / norm), self.stride, self.groups)
    return outputs + bias


class Discriminators(nn.Module):
  """All of them: [B, N] -> list of logits, list of lists of features."""

  config: DiscriminatorConfig

  @nn.compact
  def __call__(
      self, audio: jax.Array) -> tuple[list[jax.Array], list[list[jax.Array]]]:
    outputs = []
    if self.config.stft_channels:
      outputs.append(StftDiscriminator(self.config, name='stft')(audio))
    for scale in range(self.config.wave_scales):
      if scale:
        audio = halve(audio)
      outputs.append(WaveDiscriminator(
          self.config.wave_channels, name=f'wave_{scale}')(audio))
    logits, features = zip(*outputs)
    return list(logits), list(features)


def complex_stft(audio: jax.Array, window_samples: int,
                 hop_samples: int) -> jax.Array:
  """[B, N] -> [B, T, window / 2, 2], the top bin dropped.

  Divided by the window's root energy, so that white noise keeps its level.
  """
  window = np.hanning(window_samples + 1)[:-1].astype(np.float32)
  frames = audio_lib.frame(audio, window_samples, hop_samples) * window
  spectrum = jnp.fft.rfft(frames)[..., :-1] / np.sqrt(np.sum(window**2))
  return jnp.stack([spectrum.real, spectrum.imag], axis=-1)


def halve(audio: jax.Array) -> jax.Array:
  """[B, N] -> [B, N / 2]: average pool of 4, stride 2, zero padding 1.

  Padding is not counted in the average.
  """
  return nn.avg_pool(
      audio[..., None], (4,), (2,), ((1, 1),),
      count_include_pad=False)[..., 0]


def _normalise(x, wanted, name):
  """Layer norm over frequency and channels of each time step."""
  if not wanted:
    return x
  return nn.LayerNorm(
      reduction_axes=(-2, -1), feature_axes=-1, name=name)(x)
