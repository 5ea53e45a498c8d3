"""A melody as the pitch classes that lead it (ours).

  [B, N] -> log magnitudes in bands of a third of a semitone, 16 frames a second
         -> convolutions over time -> 8 slots a second -> 12 pitch classes or none

MusicLM's melody embedding (tokenizers/melody) is the same in every key and turns
4 s into a point, from which a stage must learn which pitches are meant: one of
two million parameters does not. Here a code says what sounds when, as the
chromagram of MusicGen (Copet et al. 2023, section 2.4) does, and so a small stage
has only to look it up. The price is that a melody comes back in its own key.

It learns from music whose lead is known: folk_gm's tracks state their notes.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import specs

CLASSES = 13  # C, C sharp, ... B, and none
NONE = 12


def grid(slots: int = 8) -> specs.MelodySpec:
  """A window for every second, a code for each of its slots."""
  return specs.MelodySpec(
      sample_rate_hz=24_000, embedding_dim=slots * CLASSES, num_codebooks=slots,
      codebook_size=CLASSES, window_seconds=1, window_stride_seconds=1)


@dataclasses.dataclass(frozen=True)
class NotesConfig:
  """Sizes; all values are ours.

  Attributes:
    melody: the grid of the codes.
    frames_per_slot: of the spectrogram.
    window_samples: of a frame; long enough to tell low semitones apart.
    low_hz: the lowest band.
    octaves: that bands reach up.
    bands_per_octave: 36 is three to a semitone.
    gain: what magnitudes are multiplied by before the logarithm of 1 + x.
    dim: width of the convolutions.
    num_layers: of them.
    kernel: frames that each one sees.
    input_rate_hz: of the audio that it is given, the system's rate.
  """

  melody: specs.MelodySpec = grid()
  frames_per_slot: int = 2
  window_samples: int = 4096
  low_hz: float = 110.0
  octaves: int = 5
  bands_per_octave: int = 36
  gain: float = 1.0
  dim: int = 96
  num_layers: int = 4
  kernel: int = 5
  input_rate_hz: int = specs.AudioSpec.sample_rate_hz

  def __post_init__(self):
    spec = self.melody
    if spec.window_seconds != spec.window_stride_seconds or (
        spec.codebook_size != CLASSES or
        spec.embedding_dim != spec.num_codebooks * CLASSES):
      raise errors.UserError(
          'the grid of notes has windows side by side and 13 values for each '
          'slot; expected one of tokenizers.notes.model.grid.')
    if self.input_rate_hz * spec.window_seconds % self.frames_per_window:
      raise errors.UserError(
          f'{self.frames_per_window} frames do not divide '
          f'{spec.window_seconds} s at {self.input_rate_hz} Hz.')

  @property
  def frames_per_window(self) -> int:
    return self.melody.num_codebooks * self.frames_per_slot

  @property
  def window_length(self) -> int:
    """Samples of a window of the grid."""
    return self.input_rate_hz * self.melody.window_seconds

  @property
  def hop_samples(self) -> int:
    return self.window_length // self.frames_per_window

  @property
  def slot_seconds(self) -> float:
    return self.melody.window_seconds / self.melody.num_codebooks


class Notes(nn.Module):
  """[B, N] of whole windows -> [B, slots, 13] logits."""

  config: NotesConfig

  @nn.compact
  def __call__(self, waveform: jax.Array) -> jax.Array:
    cfg = self.config
    x = bands(waveform, cfg)
    # Each frame by its own level: a melody does not get louder pitches.
    x = nn.LayerNorm(name='level')(x)
    x = nn.gelu(nn.Dense(cfg.dim, name='embed')(x))
    for index in range(cfg.num_layers):
      y = nn.LayerNorm(name=f'norm_{index}')(x)
      y = nn.Conv(cfg.dim, (cfg.kernel,), name=f'conv_{index}')(y)
      x = x + nn.Dense(cfg.dim, name=f'out_{index}')(nn.gelu(y))
    batch, frames, _ = x.shape
    x = x.reshape(batch, frames // cfg.frames_per_slot, -1)
    return nn.Dense(CLASSES, name='classes')(nn.LayerNorm(name='last')(x))


def bands(waveform: jax.Array, config: NotesConfig) -> jax.Array:
  """[B, N] at `input_rate_hz`, whole windows -> [B, frames, bands].

  A frame is centred in its hop.
  """
  window, hop = config.window_samples, config.hop_samples
  if waveform.shape[-1] % config.window_length:
    raise ValueError(
        f'{waveform.shape[-1]} samples are no whole windows of '
        f'{config.window_length}.')
  # Cut in whole hops, which is three slices; the ends of a frame go afterwards.
  whole = -(-window // hop) * hop
  left = (window - hop) // 2
  frames = audio_lib.frame(
      jnp.pad(waveform, ((0, 0), (left, whole - hop - left))), whole, hop)
  magnitude = audio_lib.stft_magnitude(
      frames[..., :window], window, window, window)[..., 0, :]
  return jnp.log1p(config.gain * (magnitude @ _matrix(config)))


@functools.cache
def _matrix(config):
  """[bins, bands] float32: a Gaussian around each band's frequency.

  As wide as a band, but never narrower than the window can tell apart.
  """
  count = config.octaves * config.bands_per_octave
  centres = config.low_hz * 2.0**(np.arange(count) / config.bands_per_octave)
  resolution = config.input_rate_hz / config.window_samples
  width = np.maximum(
      centres * (2.0**(0.5 / config.bands_per_octave) - 1.0), 0.6 * resolution)
  bins = np.fft.rfftfreq(config.window_samples, 1.0 / config.input_rate_hz)
  return np.exp(-0.5 * np.square(
      (bins[:, None] - centres) / width)).astype(np.float32)
