"""SoundStream and its training step in PyTorch: the peer of `codec.py`.

The same architecture, losses and optimisers as musiclm_jax/codecs/soundstream, written
as a PyTorch user would write them for speed: channels first, native (grouped)
convolutions, one forward pass of the discriminators for both sides' gradients,
fused Adam. Submodules bear the names of our parameters, so that `load` copies a
tree of ours and `codec.py` can check that both compute the same.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from musiclm_jax import audio as audio_lib
from musiclm_jax.codecs.soundstream import discriminators as ours

_LEAK = 0.2


def load(module, params):
  """Copies our tree `params` into `module`, by name."""
  with torch.no_grad():
    for name, value in params.items():
      target = getattr(module, name)
      if isinstance(value, dict):
        load(target, value)
      else:
        value = torch.tensor(np.array(value))
        if name in ('kernel', 'direction'):  # [taps..., in, out]
          order = list(range(value.ndim))
          value = value.permute(order[-1], order[-2], *order[:-2])
          if getattr(module, 'transposed', False):
            value = value.transpose(0, 1)
        target.copy_(value)


def _weights(module, *shape):
  fan_in = math.prod(shape[1:])
  module.kernel = nn.Parameter(torch.randn(shape) / math.sqrt(fan_in))
  module.bias = nn.Parameter(torch.zeros(shape[0]))


class CausalConv(nn.Module):
  """[B, C, T] -> [B, D, T]."""

  def __init__(self, channels, features, size, dilation=1):
    super().__init__()
    self.dilation, self.padding = dilation, (size - 1) * dilation
    _weights(self, features, channels, size)

  def forward(self, x):
    return F.conv1d(F.pad(x, (self.padding, 0)), self.kernel, self.bias,
                    dilation=self.dilation)


class CausalConvStrided(nn.Module):
  """[B, C, T] -> [B, D, T / S]."""

  def __init__(self, channels, features, stride):
    super().__init__()
    self.stride = stride
    _weights(self, features, channels, 2 * stride)

  def forward(self, x):
    return F.conv1d(F.pad(x, (self.stride, 0)), self.kernel, self.bias,
                    stride=self.stride)


class CausalConvTransposed(nn.Module):
  """[B, C, T] -> [B, D, T * S]."""

  transposed = True

  def __init__(self, channels, features, stride):
    super().__init__()
    self.stride = stride
    self.kernel = nn.Parameter(
        torch.randn(channels, features, 2 * stride) / math.sqrt(2 * channels))
    self.bias = nn.Parameter(torch.zeros(features))

  def forward(self, x):
    y = F.conv_transpose1d(x, self.kernel, self.bias, stride=self.stride)
    return y[..., :-self.stride]


class ResidualUnit(nn.Module):
  """x + conv1(ELU(conv7(ELU(x))))."""

  def __init__(self, config, width, dilation):
    super().__init__()
    inner = width // config.compress
    self.CausalConv_0 = CausalConv(width, inner, config.kernel_size, dilation)
    self.CausalConv_1 = CausalConv(inner, width, 1)

  def forward(self, x):
    return x + self.CausalConv_1(F.elu(self.CausalConv_0(F.elu(x))))


class _Chain(nn.Module):
  """Submodules in order, each with whether an ELU stands before it."""

  def __init__(self):
    super().__init__()
    self.order, self.counts = [], {}

  def add(self, module, elu):
    kind = type(module).__name__
    name = f'{kind}_{self.counts.setdefault(kind, 0)}'
    self.counts[kind] += 1
    setattr(self, name, module)
    self.order.append((name, elu))

  def forward(self, x):
    for name, elu in self.order:
      x = getattr(self, name)(F.elu(x) if elu else x)
    return x


class Generator(nn.Module):
  """Encoder and decoder of a `SoundStreamConfig`."""

  def __init__(self, config):
    super().__init__()
    size, width = config.kernel_size, config.encoder_channels
    self.encoder, self.decoder = _Chain(), _Chain()
    self.encoder.add(CausalConv(1, width, size), False)
    for stride in config.spec.strides:
      for dilation in config.dilations:
        self.encoder.add(ResidualUnit(config, width, dilation), False)
      self.encoder.add(CausalConvStrided(width, 2 * width, stride), True)
      width *= 2
    self.encoder.add(CausalConv(
        width, config.latent_dim, config.latent_kernel_size), True)
    width = config.decoder_channels * 2**len(config.spec.strides)
    self.decoder.add(CausalConv(config.latent_dim, width, size), False)
    for stride in reversed(config.spec.strides):
      self.decoder.add(CausalConvTransposed(width, width // 2, stride), True)
      width //= 2
      for dilation in config.dilations:
        self.decoder.add(ResidualUnit(config, width, dilation), False)
    self.decoder.add(CausalConv(width, 1, size), True)

  def encode(self, audio):
    """[B, N] -> [B, D, T]."""
    return self.encoder(audio[:, None])

  def decode(self, latents):
    """[B, D, T] -> [B, N]."""
    return self.decoder(latents)[:, 0]

  def forward(self, audio):
    return self.decode(self.encode(audio))


class Conv2d(nn.Module):
  """2-D convolution with flax's 'SAME' padding: [B, C, T, F]."""

  def __init__(self, channels, features, size, strides=(1, 1)):
    super().__init__()
    self.size, self.strides = size, strides
    _weights(self, features, channels, *size)

  def forward(self, x):
    padding = []
    for n, k, s in zip(x.shape[:1:-1], self.size[::-1], self.strides[::-1]):
      total = max((-(-n // s) - 1) * s + k - n, 0)
      padding += [total // 2, total - total // 2]
    # Equal padding is the convolution's own, without a copy.
    if padding[0] == padding[1] and padding[2] == padding[3]:
      return F.conv2d(x, self.kernel, self.bias, self.strides,
                      (padding[2], padding[0]))
    return F.conv2d(F.pad(x, padding), self.kernel, self.bias, self.strides)


class StepNorm(nn.Module):
  """Layer norm over channels and frequency, per time step."""

  def __init__(self, channels):
    super().__init__()
    self.scale = nn.Parameter(torch.ones(channels))
    self.bias = nn.Parameter(torch.zeros(channels))

  def forward(self, x):
    var, mean = torch.var_mean(x, (1, 3), correction=0, keepdim=True)
    scale = self.scale[:, None, None] * torch.rsqrt(var + 1e-6)
    return x * scale + (self.bias[:, None, None] - mean * scale)


class StftUnit(nn.Module):
  """Residual unit of the STFT discriminator."""

  def __init__(self, width, growth, strides, layer_norm):
    super().__init__()
    features = width * growth
    self.norm = StepNorm(width) if layer_norm else nn.Identity()
    self.inner = Conv2d(width, width, (3, 3))
    self.outer = Conv2d(width, features, tuple(s + 2 for s in strides), strides)
    self.skip = Conv2d(width, features, (1, 1), strides)

  def forward(self, x):
    y = self.outer(F.leaky_relu(self.inner(self.norm(x)), _LEAK))
    return F.leaky_relu(y + self.skip(x), _LEAK)


class StftDiscriminator(nn.Module):
  """[B, N] -> logits, features."""

  def __init__(self, config):
    super().__init__()
    self.config = config
    channels = config.stft_channels
    self.register_buffer(
        'window', torch.hann_window(config.window_samples))
    self.first = Conv2d(2, channels, (7, 7))
    bins, units = config.window_samples // 2, ours._STFT_UNITS  # pylint: disable=protected-access
    self.num_units = len(units)
    for i, (width, growth, strides) in enumerate(units):
      bins //= strides[1]
      setattr(self, f'unit_{i}', StftUnit(
          width * channels, growth, strides, config.layer_norm))
    width = units[-1][0] * units[-1][1] * channels
    self.logits = Conv2d(width, 1, (1, bins))

  def forward(self, audio):
    spectrum = torch.stft(
        audio, self.config.window_samples, self.config.hop_samples,
        window=self.window, center=False, return_complex=True)
    spectrum = torch.view_as_real(spectrum[:, :-1]).permute(0, 3, 2, 1)
    x = spectrum / torch.sqrt(torch.sum(self.window**2))
    x = F.leaky_relu(self.first(x), _LEAK)
    features = [x]
    for i in range(self.num_units):
      x = getattr(self, f'unit_{i}')(x)
      features.append(x)
    logits = F.conv2d(x, self.logits.kernel, self.logits.bias)
    return logits[:, 0, :, 0], features


class NormedConv(nn.Module):
  """Weight-normalised convolution without padding of its own data."""

  def __init__(self, channels, features, size, stride=1, groups=1):
    super().__init__()
    self.stride, self.groups, self.padding = stride, groups, size // 2
    shape = (features, channels // groups, size)
    self.direction = nn.Parameter(
        torch.randn(shape) / math.sqrt(math.prod(shape[1:])))
    self.length = nn.Parameter(torch.ones(features))
    self.bias = nn.Parameter(torch.zeros(features))

  def forward(self, x, padding=None):
    norm = torch.sqrt(
        torch.sum(torch.square(self.direction), (1, 2)) + 1e-12)
    kernel = self.direction * (self.length / norm)[:, None, None]
    padding = self.padding if padding is None else padding
    return F.conv1d(x, kernel, self.bias, self.stride, padding,
                    groups=self.groups)


class WaveDiscriminator(nn.Module):
  """MelGAN's: [B, N] -> logits, features."""

  def __init__(self, channels):
    super().__init__()
    self.first = NormedConv(1, channels, 15)
    width = channels
    for i in range(4):
      features = min(4 * width, 64 * channels)
      setattr(self, f'down_{i}', NormedConv(
          width, features, 41, ours._WAVE_STRIDE, width // 4))  # pylint: disable=protected-access
      width = features
    self.last = NormedConv(width, width, 5)
    self.logits = NormedConv(width, 1, 3)

  def forward(self, audio):
    x = F.pad(audio[:, None], (7, 7), mode='reflect')
    features = [F.leaky_relu(self.first(x, 0), _LEAK)]
    for name in ('down_0', 'down_1', 'down_2', 'down_3', 'last'):
      features.append(F.leaky_relu(getattr(self, name)(features[-1]), _LEAK))
    return self.logits(features[-1])[:, 0], features


class Discriminators(nn.Module):
  """All of a `DiscriminatorConfig`: [B, N] -> lists of logits and features."""

  def __init__(self, config):
    super().__init__()
    self.names = []
    if config.stft_channels:
      self.stft = StftDiscriminator(config)
      self.names.append('stft')
    for i in range(config.wave_scales):
      setattr(self, f'wave_{i}', WaveDiscriminator(config.wave_channels))
      self.names.append(f'wave_{i}')

  def forward(self, audio):
    outputs = []
    for name in self.names:
      if name.startswith('wave') and name != 'wave_0':
        audio = F.avg_pool1d(
            audio[:, None], 4, 2, 1, count_include_pad=False)[:, 0]
      outputs.append(getattr(self, name)(audio))
    logits, features = zip(*outputs)
    return list(logits), list(features)


class Spectral(nn.Module):
  """The multi-scale spectral distance of a `SpectralConfig`."""

  def __init__(self, config, sample_rate_hz):
    super().__init__()
    self.config = config
    for window in config.windows:
      mel = audio_lib.mel_matrix(
          sample_rate_hz, max(window, config.min_fft_size), config.num_mels,
          0.0, sample_rate_hz / 2)
      self.register_buffer(f'mel_{window}', torch.tensor(mel.T.copy()))
      self.register_buffer(f'window_{window}', torch.hann_window(window))

  def mels(self, audio, window):
    """[B, N] -> [B, num_mels, T]."""
    fft = max(window, self.config.min_fft_size)
    # torch.stft centres a short window in its transform: pad for that too.
    half = window // 2 + (fft - window) // 2
    spectrum = torch.stft(
        F.pad(audio, (half, half)), fft, window // 4, window,
        getattr(self, f'window_{window}'), center=False, return_complex=True)
    power = spectrum.real.square() + spectrum.imag.square()
    magnitude = torch.sqrt(torch.clamp(power, min=1e-12))
    return getattr(self, f'mel_{window}') @ magnitude

  def forward(self, real, fake):
    total = 0.0
    for window in self.config.windows:
      with torch.no_grad():
        r = self.mels(real, window)
        log_r = torch.log(torch.clamp(r, min=self.config.floor))
      f = self.mels(fake, window)
      ratio = log_r - torch.log(torch.clamp(f, min=self.config.floor))
      norm = torch.sqrt(ratio.square().sum(1) + 1e-12)
      weight = self.config.log_weight * math.sqrt(window / 2)
      total = total + ((r - f).abs().sum(1) + weight * norm).mean()
    return total


class Quantizer(nn.Module):
  """Residual quantizer that learns by moving averages."""

  def __init__(self, config, codebooks):
    super().__init__()
    self.config = config
    codebooks = torch.tensor(np.array(codebooks))
    self.register_buffer('codebooks', codebooks)
    self.register_buffer('counts', torch.ones(codebooks.shape[:2]))
    self.register_buffer('sums', codebooks.clone())

  def forward(self, latents, num_levels):
    """[B, D, T] -> the same straight-through, commitment, codes, residuals."""
    vectors = latents.transpose(1, 2)
    fixed = vectors.detach()
    left, codes, residuals, lefts = fixed, [], [], []
    with torch.no_grad():
      for codebook in self.codebooks:
        residuals.append(left)
        ids = torch.argmax(
            2 * left @ codebook.T - codebook.square().sum(-1), -1)
        left = left - codebook[ids]
        codes.append(ids)
        lefts.append(left)
      lefts = torch.stack(lefts)  # [Q, B, T, D]
    used = torch.arange(len(codes))[:, None] < num_levels
    last = lefts[num_levels - 1, torch.arange(len(num_levels))]
    distances = (vectors - (fixed - lefts)).square().mean((2, 3))
    commitment = (distances * used).sum() / used.sum()
    return (vectors - last).transpose(1, 2), commitment, codes, residuals

  @torch.no_grad()
  def update(self, codes, residuals):
    size, dim = self.codebooks.shape[1:]
    decay = self.config.decay
    for q, (ids, residual) in enumerate(zip(codes, residuals)):
      ids, residual = ids.reshape(-1), residual.reshape(-1, dim)
      new = torch.zeros(size, dim).index_add_(0, ids, residual)
      counts = decay * self.counts[q] + (1 - decay) * torch.bincount(
          ids, minlength=size)
      sums = decay * self.sums[q] + (1 - decay) * new
      mean = len(ids) / size
      dead = counts < self.config.dead_code_ratio * mean
      picks = torch.randint(len(ids), (size,))
      self.counts[q] = torch.where(dead, mean, counts)
      self.sums[q] = torch.where(dead[:, None], residual[picks] * mean, sums)
      self.codebooks[q] = self.sums[q] / self.counts[q].clamp(
          min=1e-5)[:, None]


def _mean(values):
  values = list(values)
  return sum(values) / len(values)


class Training:
  """The training step of a `CodecTrainable`, without its schedules."""

  def __init__(self, trainable, codebooks):
    self.trainable = trainable
    self.generator = Generator(trainable.model)
    self.discriminators = Discriminators(trainable.discriminators)
    self.quantizer = Quantizer(trainable.rvq, codebooks)
    self.spectral = Spectral(
        trainable.spectral, trainable.model.spec.sample_rate_hz)
    adam = lambda model, config: torch.optim.Adam(
        model.parameters(), config.learning_rate, (config.b1, config.b2),
        config.eps, fused=True)
    self.optimizer = adam(self.generator, trainable.optimizer)
    self.discriminator_optimizer = adam(
        self.discriminators, trainable.discriminator_optimizer)

  def load(self, state):
    """Our parameters."""
    load(self.generator, state.params)
    load(self.discriminators, state.discriminator_params)

  def losses(self, audio, num_levels):
    """(generator's loss, discriminators' loss, codes, residuals)."""
    weights = self.trainable.weights
    latents = self.generator.encode(audio)
    vectors, commitment, codes, residuals = self.quantizer(latents, num_levels)
    fake = self.generator.decode(vectors)
    real_logits, real_features = self.discriminators(audio)
    logits, features = self.discriminators(fake)
    feature = _mean(
        _mean((r.detach() - f).abs().mean() for r, f in zip(*pair))
        for pair in zip(real_features, features))
    total = (weights.spectral * self.spectral(audio, fake) +
             weights.adversarial * _mean(F.relu(1 - l).mean() for l in logits) +
             weights.feature * feature + weights.commitment * commitment)
    hinge = _mean(
        F.relu(1 - r).mean() + F.relu(1 + f).mean()
        for r, f in zip(real_logits, logits))
    return total, hinge, codes, residuals

  def step(self, audio, num_levels):
    """One update of all three; returns what must equal our metrics."""
    total, hinge, codes, residuals = self.losses(audio, num_levels)
    for loss, model, keep in ((hinge, self.discriminators, True),
                              (total, self.generator, False)):
      parameters = list(model.parameters())
      gradients = torch.autograd.grad(loss, parameters, retain_graph=keep)
      for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    self.discriminator_optimizer.step()
    self.optimizer.step()
    self.quantizer.update(codes, residuals)
    return dict(discriminator=hinge.detach())
