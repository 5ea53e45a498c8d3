"""LEAF, a learnable front end (Zeghidour et al., 2021).

  [B, N] -> 40 Gabor filters of 401 samples -> |.|^2 -> Gaussian low-pass, one
         frame in 10 ms -> sPCEN -> [B, T, 40]

All of it is learned: where each filter stands and how wide it is, how long each
channel is averaged, and the four numbers of its compression. It begins as a mel
filter bank with a PCEN.

Values are the paper's and its code's. The widths that filters begin with are ours
in that they are exact: the code counts the bins of an FFT of 512.
"""

import dataclasses
import math

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors

_SQRT_2_LOG_2 = math.sqrt(2 * math.log(2))


@dataclasses.dataclass(frozen=True)
class FrontEndConfig:
  """The front end; its learned values are what they begin with.

  Attributes:
    sample_rate_hz: of the waveform that is filtered.
    num_filters: F.
    window_samples: of Gabor and low-pass filters; odd.
    hop_samples: between frames.
    low_hz, high_hz: edges of the mel bank that the filters begin as.
    pooling_width: standard deviation of the low-pass, in halves of a window.
    energy_floor: of what enters the compression.
    gain: sPCEN's exponent of the smoothed energy, alpha.
    smoothing: weight of a frame in the smoothed energy, s.
    bias: delta.
    root: r; energies are raised to 1 / root.
    floor: added to the smoothed energy.
    filter_stride: samples between the squared moduli that are computed. They
      vary slowly, as a filter is narrow: one in 5 tells the rest to 1 in 100.
  """

  sample_rate_hz: int = 16_000  # paper
  num_filters: int = 40  # paper
  window_samples: int = 401  # paper
  hop_samples: int = 160  # paper
  low_hz: float = 60.0  # paper
  high_hz: float = 7_800.0  # paper
  pooling_width: float = 0.4  # paper
  energy_floor: float = 1e-5  # paper (code)
  gain: float = 0.96  # paper
  smoothing: float = 0.04  # paper
  bias: float = 2.0  # paper
  root: float = 2.0  # paper
  floor: float = 1e-12  # paper
  filter_stride: int = 1  # paper

  def __post_init__(self):
    if self.window_samples % 2 == 0:
      raise errors.UserError(
          f'window_samples is {self.window_samples}; expected an odd number, '
          f'so that a filter has a middle.')
    if self.hop_samples % self.filter_stride:
      raise errors.UserError(
          f'filter_stride={self.filter_stride} does not divide hop_samples='
          f'{self.hop_samples}.')
    if not 0 < self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
      raise errors.UserError(
          f'low_hz={self.low_hz:g} and high_hz={self.high_hz:g}; expected '
          f'0 < low_hz < high_hz <= {self.sample_rate_hz / 2:g}.')

  def num_frames(self, num_samples: int) -> int:
    """Frames of so many samples: ceil(N / hop)."""
    return -(-num_samples // self.hop_samples)


class FrontEnd(nn.Module):
  """[B, N] at `sample_rate_hz` -> [B, ceil(N / hop), F]."""

  config: FrontEndConfig

  @nn.compact
  def __call__(self, waveform: jax.Array) -> jax.Array:
    cfg = self.config
    centres, widths = mel_gabors(cfg)
    constant = lambda name, value: self.param(
        name, nn.initializers.constant(value), (cfg.num_filters,))
    centres = self.param('centres', lambda _: jnp.asarray(centres))
    widths = self.param('widths', lambda _: jnp.asarray(widths))
    # Beyond these edges a filter is no band any more, or wider than its window.
    widths = jnp.clip(widths, 4 * _SQRT_2_LOG_2 / math.pi,
                      cfg.window_samples * _SQRT_2_LOG_2 / math.pi)
    kernel = gabor(jnp.clip(centres, 0.0, math.pi), widths, cfg.window_samples)
    energy = low_pass(
        squared_modulus(waveform, kernel, cfg.filter_stride),
        constant('pooling', cfg.pooling_width), cfg.window_samples,
        cfg.hop_samples, cfg.filter_stride)
    return spcen(
        jnp.maximum(energy, cfg.energy_floor),
        gain=jnp.minimum(constant('gain', cfg.gain), 1.0),
        smoothing=jnp.clip(constant('smoothing', cfg.smoothing), 0.0, 1.0),
        bias=constant('bias', cfg.bias),
        root=jnp.maximum(constant('root', cfg.root), 1.0), floor=cfg.floor)


def mel_gabors(config: FrontEndConfig) -> tuple[np.ndarray, np.ndarray]:
  """The Gabor filters whose squared moduli are nearest to a mel bank's.

  The square root of a mel triangle from f1 over f2 to f3 is half its largest at
  three quarters of the way down, so that its band is 0.75 (f3 - f1) wide there;
  a Gaussian of standard deviation s samples has a band of 2 sqrt(2 log 2) / s
  radians between the halves.

  Returns:
    ([F] centres in radians a sample, [F] standard deviations in samples),
    float32.
  """
  mel = lambda hz: 1127.0 * np.log1p(hz / 700.0)
  edges = 700.0 * np.expm1(np.linspace(
      mel(config.low_hz), mel(config.high_hz), config.num_filters + 2) / 1127.0)
  edges = edges * 2 * math.pi / config.sample_rate_hz
  bands = 0.75 * (edges[2:] - edges[:-2])
  return (edges[1:-1].astype(np.float32),
          (2 * _SQRT_2_LOG_2 / bands).astype(np.float32))


def gabor(centres: jax.Array, widths: jax.Array, size: int) -> jax.Array:
  """[F] centres (radians) and widths (samples) -> [size, F] complex64.

    exp(i c t) exp(-t^2 / (2 s^2)) / (sqrt(2 pi) s),   t = 0 in the middle
  """
  t = jnp.arange(-(size // 2), size // 2 + 1, dtype=jnp.float32)[:, None]
  envelope = jnp.exp(-jnp.square(t / widths) / 2) / (
      math.sqrt(2 * math.pi) * widths)
  return lax.complex(envelope * jnp.cos(centres * t),
                     envelope * jnp.sin(centres * t))


def squared_modulus(waveform: jax.Array, kernel: jax.Array,
                    stride: int = 1) -> jax.Array:
  """|waveform * kernel|^2, with zeros around the waveform.

  Args:
    waveform: [B, N].
    kernel: [size, F] complex, of odd size, whose middle is time 0.
    stride: samples between what is computed.

  Returns:
    [B, ceil(N / stride), F].
  """
  parts = jnp.concatenate([kernel.real, kernel.imag], axis=-1)
  half = kernel.shape[0] // 2
  # lax correlates; a convolution turns the kernel round.
  out = lax.conv_general_dilated(
      waveform[..., None], parts[::-1, None], (stride,), ((half, half),),
      dimension_numbers=('NWC', 'WIO', 'NWC'), precision=lax.Precision.HIGHEST)
  real, imag = jnp.split(out, 2, axis=-1)
  return jnp.square(real) + jnp.square(imag)


def low_pass(energy: jax.Array, widths: jax.Array, size: int, hop: int,
             stride: int = 1) -> jax.Array:
  """Sums each channel under its own Gaussian, which is 1 in its middle.

  Args:
    energy: [B, M, F], one value in `stride` samples; zeros lie outside.
    widths: [F] standard deviations in halves of a window, kept in
      2 / size .. 0.5.
    size: samples of the window, centred on the middle of each hop.
    hop: samples between frames; `stride` divides it.
    stride: each value counts for so many samples.

  Returns:
    [B, ceil(M stride / hop), F].
  """
  left = (size - hop) // 2 // stride
  t = jnp.arange(-left * stride, size - (size - hop) // 2, stride)
  t = (t - ((size - 1) / 2 - left * stride))[:, None]
  widths = jnp.clip(widths, 2.0 / size, 0.5) * (size - 1) / 2
  window = stride * jnp.exp(-jnp.square(t / widths) / 2)
  # As a sum over whole hops: a strided convolution of each channel by itself is
  # slow everywhere.
  hop //= stride
  hops = -(-len(window) // hop)
  window = jnp.pad(window, ((0, hops * hop - len(window)), (0, 0)))
  batch, count, channels = energy.shape
  frames = -(-count // hop)
  total = (frames + hops - 1) * hop
  blocks = jnp.pad(energy, (
      (0, 0), (left, max(total - left - count, 0)), (0, 0)))[:, :total]
  blocks = blocks.reshape(batch, -1, hop, channels)
  return sum(
      jnp.sum(blocks[:, k:k + frames] * window[k * hop:(k + 1) * hop], axis=2)
      for k in range(hops))


def spcen(energy: jax.Array, gain: jax.Array, smoothing: jax.Array,
          bias: jax.Array, root: jax.Array, floor: float) -> jax.Array:
  """Per-channel energy normalisation whose numbers are each channel's own.

    M_0 = E_0,  M_t = (1 - s) M_(t-1) + s E_t
    (E / (floor + M)^gain + bias)^(1 / root) - bias^(1 / root)

  Args:
    energy: [B, T, F], not negative.
    gain: [F], and so are `smoothing` (s, 0..1), `bias` and `root`.
    floor: scalar.

  Returns:
    [B, T, F].
  """
  def step(past, now):
    past = past + smoothing * (now - past)
    return past, past

  frames = jnp.swapaxes(energy, 0, 1)
  _, smooth = lax.scan(step, frames[0], frames)
  smooth = jnp.swapaxes(smooth, 0, 1)
  levelled = energy / (floor + smooth)**gain
  return (levelled + bias)**(1.0 / root) - bias**(1.0 / root)
