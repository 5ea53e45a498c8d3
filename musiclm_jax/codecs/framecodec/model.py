"""A codec that does all of its work at the frame rate (ours).

  audio [B, N] -> spectra of overlapping frames -> ConvNeXt blocks -> latents
    [B, T, D] -> RVQ -> codes [B, T, Q]
  codes -> sum of entries -> ConvNeXt blocks -> log-magnitudes and phases
    -> inverse transform, frames overlapped and added -> audio [B, T * hop]
  hop = 480 samples at 24 kHz: T = ceil(N / 480), 50 frames a second

SoundStream's first and last layers have few channels at 24 kHz, which CPUs and
TPUs do worst. Here nothing is computed more often than 50 times a second, and
in products as wide as a matrix unit. The head is that of Vocos
(arXiv:2306.00814), the blocks are those of ConvNeXt (arXiv:2201.03545).

A frame's window is several hops long, so somebody must wait for its end: the
encoder (`encoder_lookahead`), or the decoder, which gives out a hop when all
frames that reach it are there (`decoder_lookahead`). An encoder that waits for
nothing has codes that depend on the past alone, so that a recording that ends
can be gone on from; that is the default. The blocks are causal, and each layer
keeps its own past when a signal comes chunk by chunk (nn/streams.py).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import specs
from musiclm_jax.codecs import generator
from musiclm_jax.codecs.framecodec import spectra
from musiclm_jax.nn import conv
from musiclm_jax.nn import streams

_QUIET = -5.0  # log-magnitudes at the start: softer than music
_LARGEST = 30.0  # of a predicted magnitude (Vocos clips too)


@dataclasses.dataclass(frozen=True)
class FrameCodecConfig:
  """The shape of the codec; the token grid is its `spec`.

  Attributes:
    spec: rates and codebooks; of its strides only the product counts.
    window_frames: length of the window, in hops.
    num_mels: bands of the log-mels beside the spectrum at the input.
    parts: short windows of a frame, whose log-mels stand there too.
    shown: what the encoder sees of the spectrum, 'magnitudes' or 'complex', with
      its phases: for a codec whose aim is the waveform.
    encoder_dim: width of the encoder's blocks.
    encoder_blocks: their number.
    decoder_dim: width of the decoder's blocks.
    decoder_blocks: their number.
    expansion: blocks are this many times wider inside.
    kernel_size: frames that a block sees.
    latent_dim: D, what is quantised.
    encoder_lookahead: hops behind its own that a frame's window begins to reach
      into, 0 to window_frames - 1.
    decoder_lookahead: frames behind its own that a hop of audio waits for, 0 to
      window_frames - 1. With window_frames - 1 for both together, a frame is
      decoded to the very samples that it was made of.
    fourier: 'fft', or 'product' with a matrix in full precision, which
      preflight finds slower on TPUs too (gin/pods/README.md).
  """

  spec: specs.CodecSpec = specs.CodecSpec()
  window_frames: int = 4
  num_mels: int = 80
  parts: int = 7
  shown: str = 'magnitudes'
  encoder_dim: int = 192
  encoder_blocks: int = 4
  decoder_dim: int = 256
  decoder_blocks: int = 6
  expansion: int = 3
  kernel_size: int = 7
  latent_dim: int = 64
  encoder_lookahead: int = 0
  decoder_lookahead: int = 3
  fourier: str = 'fft'

  def __post_init__(self):
    for name in ('encoder_lookahead', 'decoder_lookahead'):
      if not 0 <= getattr(self, name) < self.window_frames:
        raise ValueError(
            f'{name} is {getattr(self, name)}; expected 0 to '
            f'{self.window_frames - 1}, one less than window_frames.')
    if self.window_samples % (2 * (self.parts + 1)):
      raise ValueError(
          f'parts is {self.parts}; expected one less than a divisor of half of '
          f'the window, {self.window_samples // 2} samples.')
    if self.window_frames < 3:
      raise ValueError(
          f'window_frames is {self.window_frames}; expected 3 or more: of fewer '
          f'squared windows the sum is not constant.')
    for name, known in (('fourier', ('fft', 'product')),
                        ('shown', ('magnitudes', 'complex'))):
      if getattr(self, name) not in known:
        raise ValueError(f'{name} is {getattr(self, name)!r}; expected '
                         f'{known[0]!r} or {known[1]!r}.')

  @property
  def kind(self) -> str:
    """The architecture's name; see codecs/registry.py."""
    return 'framecodec'

  @property
  def window_samples(self) -> int:
    return self.window_frames * self.spec.hop_samples

  @property
  def num_bins(self) -> int:
    return self.window_samples // 2 + 1

  @property
  def period_frames(self) -> int:
    """Frames after which the decoder's clock begins anew."""
    return self.window_frames

  @property
  def encoder_context_frames(self) -> int:
    """Frames before a frame that its latent depends on: 27 for the default."""
    return (self.encoder_blocks * (self.kernel_size - 1) +
            self.window_frames - 1 - self.encoder_lookahead)

  @property
  def decoder_context_frames(self) -> int:
    """Frames before a frame that its samples depend on: 36 for the default."""
    return (self.decoder_blocks * (self.kernel_size - 1) +
            self.window_frames - 1 - self.decoder_lookahead)

  def build(self) -> 'FrameCodec':
    """The module: `encode` and `decode`."""
    return FrameCodec(self)


class Block(nn.Module):
  """ConvNeXt in time, causal: [B, T, C] -> the same.

  Attributes:
    expansion: width inside over C.
    kernel_size: frames seen.
    scale: of the branch at the start (ConvNeXt's layer scale).
  """

  expansion: int
  kernel_size: int
  scale: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    y = conv.CausalConvDepthwise(self.kernel_size, name='depthwise')(x)
    # As one matrix: XLA:CPU multiplies 2-D arrays faster.
    y = nn.LayerNorm(name='norm')(y.reshape(-1, width))
    y = nn.gelu(nn.Dense(self.expansion * width, name='up')(y))
    y = nn.Dense(width, name='down')(y)
    y *= self.param('scale', nn.initializers.constant(self.scale), (width,))
    return x + y.reshape(x.shape)


class Blocks(nn.Module):
  """A map to `width` and blocks: [B, T, C] -> [B, T, width].

  Nothing is normalised before or behind them, unlike in Vocos: loudness, the
  largest part of every frame, would set the size of all that is finer.
  """

  width: int
  count: int
  expansion: int
  kernel_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    flat = nn.Dense(self.width, name='embed')(x.reshape(-1, x.shape[-1]))
    x = flat.reshape(x.shape[:-1] + (self.width,))
    for i in range(self.count):
      x = Block(self.expansion, self.kernel_size, 1.0 / self.count,
                name=f'block_{i}')(x)
    return x


class Encoder(nn.Module):
  """[B, T * hop] audio -> [B, T, D] latents."""

  config: FrameCodecConfig

  @nn.compact
  def __call__(self, audio: jax.Array) -> jax.Array:
    config, ahead = self.config, self.config.encoder_lookahead
    whole = not streams.active(self)
    if whole:  # what the last frames wait for is silence
      audio = jnp.pad(audio, ((0, 0), (0, ahead * config.spec.hop_samples)))
    frames = streams.Frames(
        config.window_samples, config.spec.hop_samples, name='frames')(audio)
    turns = None
    if config.shown == 'complex':
      turns = _turned(self, config, frames.shape, late=ahead)
    x = spectra.features(frames, config.num_mels, config.parts,
                         config.spec.sample_rate_hz, config.fourier, turns)
    x = Blocks(config.encoder_dim, config.encoder_blocks, config.expansion,
               config.kernel_size, name='blocks')(x)
    x = nn.Dense(config.latent_dim, name='latents')(x)
    return x[:, ahead:] if whole else x


class Decoder(nn.Module):
  """[B, T, D] latents -> [B, T * hop] audio.

  In a stream the audio comes `decoder_lookahead` hops late: the first hops are
  of what was before the start. What the end of the whole waits for is its last
  latent, again and again.
  """

  config: FrameCodecConfig

  @nn.compact
  def __call__(self, latents: jax.Array) -> jax.Array:
    config, ahead = self.config, self.config.decoder_lookahead
    whole = not streams.active(self)
    if whole:
      latents = jnp.pad(latents, ((0, 0), (0, ahead), (0, 0)), mode='edge')
    x = Blocks(config.decoder_dim, config.decoder_blocks, config.expansion,
               config.kernel_size, name='blocks')(latents)
    frames = Head(config, name='head')(x)
    audio = streams.OverlapAdd(config.spec.hop_samples, name='overlap')(frames)
    return audio[:, ahead * config.spec.hop_samples if whole else 0:]


class Head(nn.Module):
  """[B, T, C] -> [B, T, window] frames, windowed, ready to be added up.

  A phase that stands still is that of the bin's own frequency: it is counted
  from the start of the signal, not of the frame. Bin k goes round k times in a
  window, k / window_frames times in a hop, so that after `window_frames` hops
  the count begins anew. Without this the frames of a held tone would have to
  be told each what the one before was, and only multiples of the frame rate
  could be held.
  """

  config: FrameCodecConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config = self.config
    flat = x.reshape(-1, x.shape[-1])
    magnitude = nn.Dense(
        config.num_bins, name='magnitude',
        bias_init=nn.initializers.constant(_QUIET))(flat)
    phase = nn.Dense(config.num_bins, name='phase')(flat)
    phase += _turned(self, config, x.shape).reshape(flat.shape[0], -1)
    magnitude = jnp.minimum(jnp.exp(magnitude), _LARGEST)
    real, imaginary = spectra.polar(magnitude, phase)
    frames = spectra.frames(
        real, imaginary, config.window_frames, config.fourier)
    return frames.reshape(x.shape[:-1] + (config.window_samples,))


def _turned(module, config, shape, late=0):
  """[B, T, bins] radians that each bin has turned since the signal's start.

  Less whole turns. The encoder counts the frames of its latents as the head
  does, so that a phase means the same to both.

  Args:
    module: the layer that counts, whose stream keeps the clock.
    config: `FrameCodecConfig`.
    shape: (B, T, ...) of its frames.
    late: frames before that of the first latent.
  """
  period = config.window_frames
  turns = np.arange(period)[:, None] * np.arange(config.num_bins)
  turns = jnp.asarray(2 * np.pi * (turns % period) / period, jnp.float32)
  count = streams.clock(module, *shape[:2], period)
  return turns[(count - late) % period]


class FrameCodec(generator.Generator):
  """The codec without its quantizer."""

  encoder_class = Encoder
  decoder_class = Decoder
