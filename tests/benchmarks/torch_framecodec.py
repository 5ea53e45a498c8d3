"""The codec at the frame rate in PyTorch: the other peer of `codec.py`.

The same architecture, losses and optimiser as musiclm_jax/codecs/framecodec, written
as a PyTorch user would write them for speed: linear layers over the last axis,
native depthwise convolutions and transforms, frames as views of the signal,
fused AdamW. Submodules bear the names of our parameters (`torch_codec.py`).
"""

# The very constants of our modules, private ones too.
# pylint: disable=protected-access

import math

import torch
from torch import nn
from torch.nn import functional as F
import torch_codec

from musiclm_jax import audio as audio_lib
from musiclm_jax.codecs import stft_losses
from musiclm_jax.codecs.framecodec import model as ours
from musiclm_jax.codecs.framecodec import spectra

load = torch_codec.load


class Dense(nn.Module):
  """[..., C] -> [..., D]."""

  def __init__(self, channels, features):
    super().__init__()
    self.kernel = nn.Parameter(
        torch.randn(features, channels) / math.sqrt(channels))
    self.bias = nn.Parameter(torch.zeros(features))

  def forward(self, x):
    return F.linear(x, self.kernel, self.bias)


class Norm(nn.Module):
  """Layer norm over the last axis."""

  def __init__(self, width):
    super().__init__()
    self.scale = nn.Parameter(torch.ones(width))
    self.bias = nn.Parameter(torch.zeros(width))

  def forward(self, x):
    return F.layer_norm(x, x.shape[-1:], self.scale, self.bias, 1e-6)


class Depthwise(nn.Module):
  """Each channel by itself, causal: [B, T, C]."""

  def __init__(self, width, size):
    super().__init__()
    self.kernel = nn.Parameter(torch.randn(width, size) / math.sqrt(size))
    self.bias = nn.Parameter(torch.zeros(width))

  def forward(self, x):
    x = F.pad(x.transpose(1, 2), (self.kernel.shape[1] - 1, 0))
    y = F.conv1d(x, self.kernel[:, None], self.bias, groups=len(self.kernel))
    return y.transpose(1, 2)


class Block(nn.Module):
  """ConvNeXt in time."""

  def __init__(self, config, width):
    super().__init__()
    self.depthwise = Depthwise(width, config.kernel_size)
    self.norm = Norm(width)
    self.up = Dense(width, config.expansion * width)
    self.down = Dense(config.expansion * width, width)
    self.scale = nn.Parameter(torch.ones(width))

  def forward(self, x):
    y = self.up(self.norm(self.depthwise(x)))
    return x + self.down(F.gelu(y, approximate='tanh')) * self.scale


class Blocks(nn.Module):
  """A map to `width`, and blocks."""

  def __init__(self, config, channels, width, count):
    super().__init__()
    self.embed = Dense(channels, width)
    self.count = count
    for i in range(count):
      setattr(self, f'block_{i}', Block(config, width))

  def forward(self, x):
    x = self.embed(x)
    for i in range(self.count):
      x = getattr(self, f'block_{i}')(x)
    return x


class Features(nn.Module):
  """Frames [B, T, N] -> what the encoder is shown of them."""

  def __init__(self, config):
    super().__init__()
    self.parts = config.parts
    short = 2 * config.window_samples // (config.parts + 1)
    self.sizes = {'whole': (config.window_samples, config.num_mels)}
    if self.parts:
      self.sizes['short'] = short, max(1, short // 16)
    rate = config.spec.sample_rate_hz
    for name, (size, bands) in self.sizes.items():
      self.register_buffer(f'{name}_mel', torch.tensor(audio_lib.mel_matrix(
          rate, size, bands, 0.0, rate / 2)))
      self.register_buffer(
          f'{name}_window', torch.hann_window(size) * (4.0 / size))

  @property
  def width(self):
    size, bands = self.sizes['whole']
    short = self.parts * self.sizes['short'][1] if self.parts else 0
    return size // 2 + 1 + bands + short

  def _magnitude(self, frames, name):
    found = torch.fft.rfft(frames * getattr(self, f'{name}_window'))
    power = found.real.square() + found.imag.square()
    return torch.sqrt(power + (0.1 * spectra._FLOOR)**2)

  def _log_mel(self, magnitude, name):
    mels = magnitude @ getattr(self, f'{name}_mel')
    return torch.log(mels + spectra._FLOOR) - spectra._MEAN_LOG

  @torch.no_grad()
  def forward(self, frames):

    magnitude = self._magnitude(frames, 'whole')
    power = magnitude**spectra._COMPRESSION
    shown = [(power - spectra._MEAN_POWER) * spectra._SCALE_POWER,
             self._log_mel(magnitude, 'whole') * spectra._SCALE_LOG]
    if self.parts:
      size = self.sizes['short'][0]
      short = frames.unfold(-1, size, size // 2)
      mels = self._log_mel(self._magnitude(short, 'short'), 'short')
      shown.append(mels.flatten(2))
    return torch.cat(shown, -1)


class Encoder(nn.Module):
  """[B, T * hop] -> [B, T, D]."""

  def __init__(self, config):
    super().__init__()
    self.config = config
    self.features = Features(config)
    self.blocks = Blocks(config, self.features.width, config.encoder_dim,
                         config.encoder_blocks)
    self.latents = Dense(config.encoder_dim, config.latent_dim)

  def forward(self, audio):
    size, hop = self.config.window_samples, self.config.spec.hop_samples
    ahead = self.config.encoder_lookahead * hop
    frames = F.pad(audio, (size - hop, ahead)).unfold(1, size, hop)
    x = self.latents(self.blocks(self.features(frames)))
    return x[:, self.config.encoder_lookahead:]


class Head(nn.Module):
  """[B, T, C] -> [B, T, window]."""

  def __init__(self, config):
    super().__init__()
    self.period = config.window_frames
    self.magnitude = Dense(config.decoder_dim, config.num_bins)
    self.phase = Dense(config.decoder_dim, config.num_bins)
    turns = torch.arange(self.period)[:, None] * torch.arange(config.num_bins)
    self.register_buffer(
        'turns', (turns % self.period) * (2 * math.pi / self.period))
    size = config.window_samples
    self.register_buffer('window', torch.hann_window(size) * (
        size / 4.0 / (0.375 * config.window_frames)))

  def forward(self, x):
    magnitude = torch.exp(self.magnitude(x)).clamp(max=ours._LARGEST)
    clock = torch.arange(x.shape[1]) % self.period
    spectrum = torch.polar(magnitude, self.phase(x) + self.turns[clock])
    return torch.fft.irfft(spectrum) * self.window


class Decoder(nn.Module):
  """[B, T, D] -> [B, T * hop]."""

  def __init__(self, config):
    super().__init__()
    self.config = config
    self.blocks = Blocks(config, config.latent_dim, config.decoder_dim,
                         config.decoder_blocks)
    self.head = Head(config)

  def forward(self, latents):
    hop, ahead = self.config.spec.hop_samples, self.config.decoder_lookahead
    last = latents[:, -1:].expand(-1, ahead, -1)
    frames = self.head(self.blocks(torch.cat([latents, last], 1)))
    batch, count, size = frames.shape
    back = size // hop - 1
    parts = F.pad(frames, (0, 0, back, 0)).view(
        batch, back + count, back + 1, hop)
    blocks = sum(parts[:, back - i:back - i + count, i]
                 for i in range(back + 1))
    return blocks[:, ahead:].flatten(1)


class Generator(nn.Module):
  """Encoder and decoder of a `FrameCodecConfig`."""

  def __init__(self, config):
    super().__init__()
    self.encoder, self.decoder = Encoder(config), Decoder(config)

  def encode(self, audio):
    """[B, T * hop] -> [B, T, D]."""
    return self.encoder(audio)

  def decode(self, latents):
    """[B, T, D] -> [B, T * hop]."""
    return self.decoder(latents)

  def forward(self, audio):
    return self.decode(self.encode(audio))


class Magnitudes(nn.Module):
  """The distance of a `MagnitudeConfig`."""

  def __init__(self, config, sample_rate_hz):
    super().__init__()
    self.config = config
    for window in config.windows:
      self.register_buffer(f'mel_{window}', torch.tensor(audio_lib.mel_matrix(
          sample_rate_hz, window, config.bands(window), 0.0,
          sample_rate_hz / 2).T.copy()))
      self.register_buffer(
          f'window_{window}', torch.hann_window(window) * (4.0 / window))

  def _parts(self, audio, window):
    """[B, N] -> log-mels and compressed magnitudes."""
    spectrum = torch.stft(
        F.pad(audio, (window // 2, window // 2)), window, window // 4,
        window=getattr(self, f'window_{window}'), center=False,
        return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    power = power + stft_losses._TINY
    mels = getattr(self, f'mel_{window}') @ torch.sqrt(power)
    return (torch.log(mels + self.config.floor),
            power**(self.config.power / 2))

  def forward(self, real, fake):
    total = 0.0
    for window in self.config.windows:
      with torch.no_grad():
        mels, small = self._parts(real, window)
      others = self._parts(fake, window)
      total = total + (
          self.config.log_weight * (mels - others[0]).abs().mean() +
          self.config.power_weight * (small - others[1]).abs().mean() /
          small.mean())
    return total / len(self.config.windows)


class Training:
  """The training step of a `CodecTrainable`, without its schedules."""

  def __init__(self, trainable, codebooks):
    self.weights, config = trainable.weights, trainable.optimizer
    self.clip_norm = config.clip_norm
    self.generator = Generator(trainable.model)
    self.quantizer = torch_codec.Quantizer(trainable.rvq, codebooks)
    self.spectral = Magnitudes(
        trainable.spectral, trainable.model.spec.sample_rate_hz)
    self.parameters = list(self.generator.parameters())
    groups = [dict(params=[p for p in self.parameters if p.ndim > 1],
                   weight_decay=config.weight_decay),
              dict(params=[p for p in self.parameters if p.ndim == 1],
                   weight_decay=0.0)]
    self.optimizer = torch.optim.AdamW(
        groups, config.learning_rate, (config.b1, config.b2), config.eps,
        fused=True)

  def load(self, state):
    """Our parameters."""
    load(self.generator, state.params)

  def step(self, audio, num_levels):
    """One update of both; returns what must equal our metrics."""
    latents = self.generator.encode(audio)
    vectors, commitment, codes, residuals = self.quantizer(
        latents.transpose(1, 2), num_levels)
    fake = self.generator.decode(vectors.transpose(1, 2))
    loss = (self.weights.spectral * self.spectral(audio, fake) +
            self.weights.commitment * commitment)
    gradients = torch.autograd.grad(loss, self.parameters)
    for parameter, gradient in zip(self.parameters, gradients):
      parameter.grad = gradient
    if self.clip_norm:
      nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
    self.optimizer.step()
    self.quantizer.update(codes, residuals)
    return dict(loss=loss.detach())
