"""The melody embedder (MusicLM, appendix C): same tune, same place, any sound.

  4 s of audio -> frames of a spectrogram -> small ViT over time -> pool -> L2

Two recordings of one melody, in any key, at any tempo, by any instrument or
voice, shall lie close together. The paper gives the ViT's sizes and says that
its tokens are frames of time, not patches; the front end, the pooling and the
positions (learned) are ours.

Deviations at small sizes: `features = 'relative'` states every frame's pitches
relative to those of the whole window, so that a transposition changes nothing;
`pooling = 'ordered'` projects all tokens side by side, so that an untrained ViT
already keeps what came when. The frames alone, untrained, rank 95 % of the other
tunes behind the same passage of the same one. At the paper's size they are plain
log-mel, and the mean of the tokens is taken.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.nn import attention
from musiclm_jax.nn import normalise

FEATURES = ('mel', 'relative')
POOLINGS = ('mean', 'ordered')


@dataclasses.dataclass(frozen=True)
class MelConfig:
  """A log-mel frame; the values are ours, as elsewhere in the system."""

  num_mels: int = 64
  window_samples: int = 400  # 25 ms
  mean: float = -1.0
  std: float = 2.0


@dataclasses.dataclass(frozen=True)
class RelativeConfig:
  """Frames of pitch relative to the window's own pitches; all values are ours.

  Attributes:
    window_samples: analysis window; long enough to tell low semitones apart.
    low_hz: the lowest band.
    octaves: bands reach this far up.
    bands_per_octave: 36 is three to a semitone.
    floor: magnitudes below this share of the window's largest count as none.
    lag_octaves: a frame is compared with the window shifted by up to this much
      in either direction.
  """

  window_samples: int = 2048  # 128 ms
  low_hz: float = 110.0
  octaves: int = 5
  bands_per_octave: int = 36
  floor: float = 0.03  # the melody is louder than what accompanies it
  lag_octaves: float = 1.0

  @property
  def num_bands(self) -> int:
    return self.octaves * self.bands_per_octave

  @property
  def num_lags(self) -> int:
    """Lags in one direction."""
    return int(self.lag_octaves * self.bands_per_octave)


@dataclasses.dataclass(frozen=True)
class MelodyConfig:
  """Sizes of the embedder; the defaults are the paper's where it gives them.

  Attributes:
    melody: windows, embedding and the RVQ's shape.
    features: 'mel' or 'relative'.
    mel: for 'mel'.
    relative: for 'relative'.
    hop_samples: between frames, at the spec's rate.
    frames_per_token: frames stacked into one token; the paper has one.
    num_layers: of the ViT.
    num_heads: attention heads.
    head_dim: of each head; 6 x 64 is not 512, so attention has a projection.
    dim: width.
    mlp_dim: inner width of the feed-forwards.
    dropout_rate: on every branch.
    pooling: 'mean' of the tokens, or 'ordered'.
    pooled_dim: of 'ordered': values that each token has left.
    input_rate_hz: of the audio that it is given, the system's rate.
  """

  melody: specs.MelodySpec = specs.MelodySpec()
  features: str = 'mel'
  mel: MelConfig = MelConfig()
  relative: RelativeConfig = RelativeConfig()
  hop_samples: int = 160  # ours: 10 ms
  frames_per_token: int = 1  # paper
  num_layers: int = 12  # paper
  num_heads: int = 6  # paper
  head_dim: int = 64  # ours
  dim: int = 512  # paper
  mlp_dim: int = 1024  # paper
  dropout_rate: float = 0.0  # ours
  pooling: str = 'mean'  # ours
  pooled_dim: int = 16  # ours
  input_rate_hz: int = specs.AudioSpec.sample_rate_hz  # paper

  def __post_init__(self):
    if self.features not in FEATURES:
      raise errors.choice('features', self.features, FEATURES)
    if self.pooling not in POOLINGS:
      raise errors.choice('pooling', self.pooling, POOLINGS)
    step = self.hop_samples * self.frames_per_token
    if self.melody.window_seconds * self.melody.sample_rate_hz % step:
      raise errors.UserError(
          f'hop_samples={self.hop_samples} x frames_per_token='
          f'{self.frames_per_token} does not divide a window of '
          f'{self.melody.window_seconds} s at {self.melody.sample_rate_hz} Hz.')

  @property
  def num_tokens(self) -> int:
    """Tokens of a window: 400 at the paper's size."""
    return (self.melody.window_seconds * self.melody.sample_rate_hz //
            (self.hop_samples * self.frames_per_token))

  @property
  def window_samples(self) -> int:
    """Samples of a window at the system's rate: 96,000."""
    return specs.AudioSpec(self.input_rate_hz).num_samples(
        self.melody.window_seconds)


class Block(nn.Module):
  """Pre-norm ViT layer: attention over all frames, then feed-forward."""

  config: MelodyConfig

  @nn.compact
  def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
    cfg, dim = self.config, x.shape[-1]
    drop = nn.Dropout(cfg.dropout_rate, deterministic=deterministic)
    y = nn.LayerNorm(name='attention_norm')(x)
    heads = (cfg.num_heads, cfg.head_dim)
    query, key, value = (
        nn.DenseGeneral(heads, name=name)(y)
        for name in ('query', 'key', 'value'))
    y = attention.attend(query, key, value)
    x += drop(nn.DenseGeneral(dim, axis=(-2, -1), name='out')(y))
    y = nn.LayerNorm(name='mlp_norm')(x)
    y = nn.gelu(nn.Dense(cfg.mlp_dim, name='wi')(y))
    return x + drop(nn.Dense(dim, name='wo')(y))


class Melody(nn.Module):
  """[B, N] windows at 24 kHz -> [B, D] of unit length."""

  config: MelodyConfig

  @nn.compact
  def __call__(self, waveform: jax.Array,
               deterministic: bool = True) -> jax.Array:
    cfg = self.config
    x = frames(waveform, cfg)
    batch, _, size = x.shape
    x = x.reshape(batch, cfg.num_tokens, cfg.frames_per_token * size)
    x = nn.Dense(cfg.dim, name='embed')(x)
    x += self.param('positions', nn.initializers.normal(0.02),
                    (cfg.num_tokens, cfg.dim))
    for index in range(cfg.num_layers):
      x = Block(cfg, name=f'layers_{index}')(x, deterministic)
    x = nn.LayerNorm(name='norm')(x)
    if cfg.pooling == 'ordered':
      x = nn.Dense(cfg.pooled_dim, name='pool')(x).reshape(batch, -1)
    else:
      x = x.mean(1)
    return normalise.unit(nn.Dense(cfg.melody.embedding_dim, name='project')(x))


def frames(waveform: jax.Array, config: MelodyConfig) -> jax.Array:
  """The spectrogram that the ViT reads.

  Args:
    waveform: [B, N] float32 at `config.input_rate_hz`, N =
      `config.window_samples`.
    config: a MelodyConfig.

  Returns:
    [B, T, F] float32, T = num_tokens * frames_per_token.
  """
  if waveform.shape[-1] != config.window_samples:
    raise ValueError(
        f'a window has {waveform.shape[-1]} samples; expected '
        f'{config.window_samples}.')
  rate = config.melody.sample_rate_hz
  signal = audio_lib.resample(waveform, config.input_rate_hz, rate)
  if config.features == 'relative':
    return relative_pitch(signal, rate, config.hop_samples, config.relative)
  mel = config.mel
  spec = audio_lib.MelSpec(
      sample_rate_hz=rate, num_mels=mel.num_mels,
      window_samples=mel.window_samples, hop_samples=config.hop_samples,
      fft_size=1 << (mel.window_samples - 1).bit_length())
  return (audio_lib.log_mel(signal, spec) - mel.mean) / mel.std


def relative_pitch(signal: jax.Array, rate: int, hop: int,
                   config: RelativeConfig) -> jax.Array:
  """Every frame's pitches, seen from the pitches of the whole window.

  The bands of a spectrogram are equal steps of pitch: a transposition moves
  them all by the same number. Frame t becomes its correlation with the mean of
  all frames m, at each lag l,

    x_t(l) = sum over b of s_t(b) m(b + l)

  which such a move leaves as it is (but for what leaves the range of bands).
  The result is centred over time, since what changes is the melody, and divided
  by its root mean square.

  Args:
    signal: [B, N] float32 at `rate`.
    rate: in Hz.
    hop: samples between frames; N / hop frames.
    config: a RelativeConfig.

  Returns:
    [B, N / hop, 2 * num_lags + 1] float32.
  """
  bands = pitch_bands(signal, rate, hop, config)
  mean = bands.mean(1)
  lags, count = config.num_lags, config.num_bands
  padded = jnp.pad(mean, ((0, 0), (lags, lags)))
  index = np.arange(count)[:, None] + np.arange(2 * lags + 1)
  x = jnp.einsum('btc,bcl->btl', bands, padded[:, index])
  x = x - x.mean(1, keepdims=True)
  return x * jax.lax.rsqrt(
      jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True) + 1e-3)


def pitch_bands(signal: jax.Array, rate: int, hop: int,
                config: RelativeConfig) -> jax.Array:
  """[B, N] -> [B, N / hop, bands]: peaks of the log spectrum, 0 elsewhere."""
  window = config.window_samples
  left = (window - hop) // 2
  right = window - hop - left
  magnitude = audio_lib.stft_magnitude(
      jnp.pad(signal, ((0, 0), (left, right))), window, hop, window)
  bands = magnitude @ _band_matrix(rate, window, config)
  largest = jnp.max(bands, axis=(1, 2), keepdims=True)
  floor = config.floor * jnp.maximum(largest, 1e-3)
  level = jnp.log(jnp.maximum(bands, floor) / floor)
  # A band counts by what it has over its neighbours within half an octave.
  reach = config.bands_per_octave // 4
  near = sum(jnp.pad(level, ((0, 0), (0, 0), (reach, reach)), mode='edge')[
      :, :, k:k + level.shape[-1]] for k in range(2 * reach + 1))
  return jax.nn.relu(level - near / (2 * reach + 1))


def _band_matrix(rate, window, config):
  """[window / 2 + 1, bands] triangles at equal steps of pitch."""
  step = 2.0**(1.0 / config.bands_per_octave)
  centres = config.low_hz * step**np.arange(config.num_bands)
  bins = np.arange(window // 2 + 1) * rate / window
  # Low bands are narrower than a bin: they read between two bins.
  width = np.maximum(centres * (step - 1.0), rate / window)
  weight = np.maximum(0.0, 1.0 - np.abs(bins[:, None] - centres) / width)
  return (weight / weight.sum(0)).astype(np.float32)
