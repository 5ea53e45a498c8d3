"""SoundStream's generator (Zeghidour et al., arXiv:2107.03312).

  audio [B, N] -> Encoder -> latents [B, T, D] -> RVQ -> codes [B, T, Q]
  codes -> sum of entries [B, T, D] -> Decoder -> audio [B, T * hop]
  hop = 480 samples at 24 kHz: T = ceil(N / 480), 50 frames a second

All convolutions are causal, activations are ELU, nothing is normalised (paper).
The residual units are half as wide inside, and D = 256: with these the counts
of the paper's Table I come out (ours; the text prints neither). The codebooks
are not parameters: they learn by moving averages (nn/quantize.py).
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from musiclm_jax import specs
from musiclm_jax.codecs import generator
from musiclm_jax.nn import conv

# Without normalisation the sizes at the start are ours to set: units begin near
# the identity, and the output near the level of music.
_BRANCH_SCALE = 0.3
_OUTPUT_SCALE = 0.1


@dataclasses.dataclass(frozen=True)
class SoundStreamConfig:
  """The shape of the codec; the token grid is its `spec`.

  Attributes:
    spec: rates, strides and codebooks.
    encoder_channels: width of the encoder at the full rate; doubles per block.
    decoder_channels: width of the decoder at the full rate.
    latent_dim: D, what is quantised.
    kernel_size: of the first, last and dilated convolutions.
    latent_kernel_size: of the encoder's last convolution.
    dilations: of the residual units of each block.
    compress: residual units are this many times narrower inside.
  """

  spec: specs.CodecSpec = specs.CodecSpec()
  encoder_channels: int = 32  # paper
  decoder_channels: int = 32  # paper
  latent_dim: int = 256  # ours, from Table I
  kernel_size: int = 7  # paper
  latent_kernel_size: int = 3  # paper
  dilations: tuple = (1, 3, 9)  # paper
  compress: int = 2  # ours, from Fig. 3 and Table I

  def __post_init__(self):
    object.__setattr__(self, 'dilations', tuple(self.dilations))
    for name in ('encoder_channels', 'decoder_channels'):
      if getattr(self, name) % self.compress:
        raise ValueError(
            f'{name} is {getattr(self, name)}; expected a multiple of '
            f'compress, {self.compress}.')

  @property
  def kind(self) -> str:
    """The architecture's name; see codecs/registry.py."""
    return 'soundstream'

  @property
  def period_frames(self) -> int:
    return 1

  @property
  def encoder_lookahead(self) -> int:
    return 0

  @property
  def decoder_lookahead(self) -> int:
    return 0

  def build(self) -> 'SoundStream':
    """The module: `encode` and `decode`."""
    return SoundStream(self)

  @property
  def unit_reach(self) -> int:
    """Steps back that the residual units of one block look, together."""
    return sum((self.kernel_size - 1) * d for d in self.dilations)

  @property
  def encoder_context_frames(self) -> int:
    """Frames before a frame that its latent depends on.

    16 for the default: 7,449 samples, 0.31 s.
    """
    samples, rate = self.kernel_size - 1, 1
    for stride in self.spec.strides:
      samples += rate * (self.unit_reach + stride)
      rate *= stride
    samples += rate * (self.latent_kernel_size - 1)
    return math.ceil(samples / rate)

  @property
  def decoder_context_frames(self) -> int:
    """Frames before a frame that its samples depend on: 20 for the default."""
    frames, rate = self.kernel_size - 1.0, 1
    for stride in reversed(self.spec.strides):
      frames += 1.0 / rate
      rate *= stride
      frames += self.unit_reach / rate
    frames += (self.kernel_size - 1) / rate
    return math.ceil(frames)


@jax.custom_jvp
def elu(x: jax.Array) -> jax.Array:
  """ELU by exp: within 1e-7 of the one by expm1, in half its time on CPUs."""
  return jnp.where(x > 0, x, jnp.exp(jnp.minimum(x, 0.0)) - 1.0)


@elu.defjvp
def _elu_jvp(primals, tangents):
  y = elu(*primals)
  return y, jnp.where(y > 0, 1.0, y + 1.0) * tangents[0]


class ResidualUnit(nn.Module):
  """x + conv1(ELU(conv7(ELU(x)))), narrower inside: [B, T, C] -> same."""

  config: SoundStreamConfig
  dilation: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    y = conv.CausalConv(width // self.config.compress,
                        self.config.kernel_size, self.dilation)(elu(x))
    return x + conv.CausalConv(
        width, 1, init_scale=_BRANCH_SCALE)(elu(y))


class Encoder(nn.Module):
  """[B, T * hop] audio -> [B, T, D] latents."""

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, audio: jax.Array) -> jax.Array:
    config = self.config
    width = config.encoder_channels
    x = conv.CausalConv(width, config.kernel_size)(audio[..., None])
    for stride in config.spec.strides:
      for dilation in config.dilations:
        x = ResidualUnit(config, dilation)(x)
      width *= 2
      x = conv.CausalConvStrided(width, stride)(elu(x))
    return conv.CausalConv(
        config.latent_dim, config.latent_kernel_size)(elu(x))


class Decoder(nn.Module):
  """[B, T, D] latents -> [B, T * hop] audio; the encoder mirrored."""

  config: SoundStreamConfig

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    config = self.config
    width = config.decoder_channels * 2**len(config.spec.strides)
    x = conv.CausalConv(width, config.kernel_size)(latents)
    for stride in reversed(config.spec.strides):
      width //= 2
      x = conv.CausalConvTransposed(width, stride)(elu(x))
      for dilation in config.dilations:
        x = ResidualUnit(config, dilation)(x)
    x = conv.CausalConv(
        1, config.kernel_size, init_scale=_OUTPUT_SCALE)(elu(x))
    return x[..., 0]


class SoundStream(generator.Generator):
  """The generator without its quantizer."""

  encoder_class = Encoder
  decoder_class = Decoder
