"""MuLan (Huang et al., 2022): audio and text in one space of 128 dimensions.

  audio: 10 s window -> log-mel image -> ResNet, mean-pool -> linear -> L2
                                      or AST, [CLS]
  text:  caption -> BERT-family encoder -> linear -> L2
  loss:  decoupled, both directions in one denominator (tokenizers/mulan/losses.py)

Deviations: GroupNorm by default (see nn/resnet.py); at small sizes the text
encoder is a frozen sentence encoder, mean-pooled, of which only the projection
trains; the first and last frame of a window are blanked, because their analysis
windows reach past it: every 10 s window of a long recording then has the same
embedding whether it is cut out first or not.
"""

from collections.abc import Mapping
import dataclasses

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.nn import ast as ast_lib
from musiclm_jax.nn import normalise
from musiclm_jax.nn import resnet
from musiclm_jax.nn import text_encoder

TOWERS = ('resnet', 'ast')


@dataclasses.dataclass(frozen=True)
class TextConfig:
  """The text tower.

  Attributes:
    checkpoint: 'minilm', or the folder of a BERT checkpoint.
    frozen: the encoder is read at need and only its projection trains; batches
      then hold 'text_features'. Otherwise the whole encoder trains, from
      'text_ids' and 'text_mask', and is part of the model's parameters.
    initialize: start a trained encoder from `checkpoint`.
    max_tokens: captions are cut to this many tokens, where they are trained on.
    encoder: sizes; those of the checkpoint.
  """

  checkpoint: str = text_encoder.MINILM  # ours
  frozen: bool = True  # ours
  initialize: bool = True
  max_tokens: int = 512  # paper
  encoder: text_encoder.TextEncoderConfig = text_encoder.TextEncoderConfig()


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
  """Bands of time and frequency that are blanked in training."""

  time_masks: int = 2  # ours
  time_frames: int = 100  # ours: at most 1 s each
  mel_masks: int = 2  # ours
  mel_bands: int = 8  # ours


@dataclasses.dataclass(frozen=True)
class MulanConfig:
  """Sizes of MuLan; the defaults are a ResNet-50 and a frozen MiniLM.

  Attributes:
    joint: rates, windows and the RVQ's shape.
    num_mels: log-mel bands: 64 with the ResNet-50, 128 with AST.
    mel_mean: subtracted from the log-mel; a typical value for music.
    mel_std: what it is divided by.
    tower: the audio tower: 'resnet' or 'ast'.
    audio: sizes of the ResNet, where it is the tower.
    ast: sizes of the AST, where it is the tower.
    text: the text tower.
    augment: SpecAugment on the training windows.
    temperature_init: first value of the learned temperature.
    temperature_min: it stays above this and below 1.
    input_rate_hz: of the audio that it is given, the system's rate.
  """

  joint: specs.JointSpec = specs.JointSpec()
  num_mels: int = 64  # paper
  mel_mean: float = -1.0  # ours
  mel_std: float = 2.0  # ours
  tower: str = 'resnet'  # paper: the one of MusicLM
  audio: resnet.ResNetConfig = resnet.ResNetConfig()
  ast: ast_lib.AstConfig = ast_lib.AstConfig()
  text: TextConfig = TextConfig()
  augment: SpecAugmentConfig = SpecAugmentConfig()
  temperature_init: float = 0.1  # paper
  temperature_min: float = 0.01  # ours; the paper says (0, 1]
  input_rate_hz: int = specs.AudioSpec.sample_rate_hz  # paper

  def __post_init__(self):
    if self.tower not in TOWERS:
      raise errors.choice('tower', self.tower, TOWERS)
    if self.tower == 'ast':
      self.ast.grid(self.window_frames, self.num_mels)

  @property
  def rows_see_each_other(self) -> bool:
    """Whether an embedding in training depends on the rest of the batch."""
    return self.tower == 'resnet' and self.audio.norm == 'batch'

  def mel_spec(self) -> audio_lib.MelSpec:
    return audio_lib.MelSpec(
        sample_rate_hz=self.joint.sample_rate_hz, num_mels=self.num_mels,
        hop_samples=self.joint.sample_rate_hz // 100)

  @property
  def window_frames(self) -> int:
    """Mel frames of a window: 1000."""
    return self.joint.window_seconds * 100

  @property
  def stride_frames(self) -> int:
    return self.joint.window_stride_seconds * 100


@flax.struct.dataclass
class Outputs:
  """Both embeddings of one batch."""

  audio: jax.Array  # [B, D] unit length
  text: jax.Array  # [B, D] unit length
  temperature: jax.Array  # scalar in (temperature_min, 1)


class AudioTower(nn.Module):
  """[B, window_frames, num_mels] normalised log-mel -> [B, D] unit length."""

  config: MulanConfig

  @nn.compact
  def __call__(self, mels: jax.Array, train: bool = False) -> jax.Array:
    cfg = self.config
    x = jnp.pad(mels[:, 1:-1], ((0, 0), (1, 1), (0, 0)))
    if cfg.tower == 'ast':
      x = ast_lib.Ast(cfg.ast, name='ast')(x)
    else:
      x = resnet.ResNet(cfg.audio, name='resnet')(x[..., None], train)
      x = jnp.mean(x, axis=(1, 2))
    return normalise.unit(nn.Dense(cfg.joint.embedding_dim, name='project')(x))


class Mulan(nn.Module):
  """Both towers and the temperature."""

  config: MulanConfig

  def setup(self):
    cfg = self.config
    self.audio_tower = AudioTower(cfg)
    self.text_project = nn.Dense(cfg.joint.embedding_dim)
    if not cfg.text.frozen:
      self.text_encoder = text_encoder.TextEncoder(cfg.text.encoder)
    share = ((cfg.temperature_init - cfg.temperature_min) /
             (1.0 - cfg.temperature_min))
    self.raw_temperature = self.param(
        'raw_temperature',
        lambda rng: jnp.asarray(np.log(share / (1.0 - share)), jnp.float32))

  def __call__(self, batch: Mapping[str, jax.Array]) -> Outputs:
    """Embeddings of a batch, nothing random.

    Args:
      batch: 'audio' [B, N] at 24 kHz, one window, and 'text_features' [B, F],
        or 'text_ids' [B, L] and 'text_mask' [B, L] where the encoder trains.

    Returns:
      `Outputs`.
    """
    if self.config.text.frozen:
      text = self.embed_text_features(batch['text_features'])
    else:
      text = self.embed_text_ids(batch['text_ids'], batch['text_mask'])
    return Outputs(
        self.embed_audio(batch['audio']), text, self.temperature())

  def embed_audio(self, waveform: jax.Array,
                  keys: jax.Array | None = None) -> jax.Array:
    """[B, N] at 24 kHz, one window -> [B, D].

    Args:
      waveform: [B, N] float32.
      keys: [B] PRNG keys of SpecAugment in training; None: nothing is blanked
        and BatchNorm uses its moving averages.
    """
    mels = self.mels(waveform)[:, :self.config.window_frames]
    if keys is not None:
      mels = spec_augment(keys, mels, self.config.augment)
    return self.audio_tower(mels, keys is not None)

  def mels(self, waveform: jax.Array) -> jax.Array:
    """[B, N] at 24 kHz -> [B, ceil(N / 240), num_mels], normalised."""
    cfg = self.config
    spec = cfg.mel_spec()
    mels = audio_lib.log_mel(audio_lib.resample(
        waveform, cfg.input_rate_hz, spec.sample_rate_hz), spec)
    return (mels - cfg.mel_mean) / cfg.mel_std

  def embed_windows(self, waveform: jax.Array, num_windows: int) -> jax.Array:
    """[B, N] -> [B, num_windows, D]: windows every `window_stride_seconds`.

    The log-mel is computed once for all windows. N must reach the end of the
    last one.
    """
    cfg = self.config
    mels = self.mels(waveform)
    starts = [w * cfg.stride_frames for w in range(num_windows)]
    windows = jnp.stack(
        [mels[:, s:s + cfg.window_frames] for s in starts], axis=1)
    flat = self.audio_tower(windows.reshape((-1,) + windows.shape[2:]))
    return flat.reshape(windows.shape[:2] + (-1,))

  def embed_text_features(self, features: jax.Array) -> jax.Array:
    """[B, F] features of a frozen encoder -> [B, D]."""
    return normalise.unit(self.text_project(features))

  def embed_text_ids(self, ids: jax.Array, mask: jax.Array,
                     deterministic: bool = True) -> jax.Array:
    """[B, L] int32, [B, L] bool -> [B, D]."""
    return self.embed_text_features(
        self.text_encoder(ids, mask, deterministic))

  def temperature(self) -> jax.Array:
    low = self.config.temperature_min
    return low + (1.0 - low) * jax.nn.sigmoid(self.raw_temperature)


def spec_augment(keys: jax.Array, mels: jax.Array,
                 config: SpecAugmentConfig) -> jax.Array:
  """Blanks random bands of [B, T, F] mels, each row by its own of [B] keys."""
  def blank(key, frames, bands):
    time_key, mel_key = jax.random.split(key)
    time = _bands(time_key, frames, config.time_masks, config.time_frames)
    mel = _bands(mel_key, bands, config.mel_masks, config.mel_bands)
    return time[:, None] | mel[None, :]

  blanks = jax.vmap(lambda key: blank(key, *mels.shape[1:]))(keys)
  return jnp.where(blanks, 0.0, mels)


def _bands(key, size, count, widest):
  """[size] bool, True within `count` bands of 0..widest each."""
  width_key, start_key = jax.random.split(key)
  widths = jax.random.randint(
      width_key, (count, 1), 0, min(widest, size) + 1)
  starts = jnp.floor(
      jax.random.uniform(start_key, (count, 1)) * (size - widths + 1))
  place = jnp.arange(size)
  return jnp.any((place >= starts) & (place < starts + widths), axis=0)
