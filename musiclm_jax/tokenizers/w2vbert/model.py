"""w2v-BERT (Chung et al., 2021): contrastive codes that a second stack predicts.

  waveform -> log-mel -> two stride-2 convolutions (25 Hz) -> masked spans
  -> contrastive stack: find the quantised true feature among distractors
  -> masked-prediction stack: name the quantised feature's id of 1024

MusicLM's semantic tokens are k-means ids of the output of block 7 of the second
stack (AudioLM, section 3.1).

Deviations: LayerNorm where the conformer has BatchNorm (see nn/conformer.py);
a LayerNorm ends the feature encoder and masked steps become random vectors
behind the input projection, so that these have a known scale beside the
others; small sizes use rotary positions, because two blocks of kernel 5 do not
reach across a masked span of 10 steps, and hear and name spectra as well
(`spectrum_input`, `spectrum_weight`);
the quantizer sees standardised features (`quantizer_standardize`); the ids to
be named, and those of the diversity loss, come from its logits without Gumbel
noise; a row in which no span would start has one all the same.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from musiclm_jax import audio
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.nn import conformer
from musiclm_jax.tokenizers.w2vbert import spectrum


@dataclasses.dataclass(frozen=True)
class W2vBertConfig:
  """Sizes of w2v-BERT; the defaults are XL (about 0.6 B parameters).

  Attributes:
    num_mels: log-mel bands.
    mel_mean: subtracted from the log-mel; a typical value for music.
    mel_std: what it is divided by.
    conv_channels: channels of the two subsampling convolutions.
    dim: width of both stacks.
    num_heads: attention heads.
    mlp_dim: inner width of the feed-forwards.
    kernel_size: of the depthwise convolutions.
    position: 'none' or 'rotary' (nn/conformer.py).
    contrastive_blocks: blocks of the first stack.
    prediction_blocks: blocks of the second stack.
    feature_block: the tokenizer reads the output of this block of the second
      stack, counted from 1.
    codebook_size: ids of the quantizer while training, one group.
    codebook_dim: width of its vectors.
    num_clusters: ids of the k-means over features: the semantic tokens.
    dropout_rate: in the conformer blocks.
    mask_start_rate: share of the steps at which a masked span starts.
    mask_span: steps in a span; spans may overlap.
    mask_std: masked steps become random vectors of this deviation.
    num_distractors: wrong candidates of the contrastive task.
    contrastive_temperature: divides the cosines.
    exclude_equal: drop distractors that have the id of the true candidate, as
      wav2vec 2.0 does. A collapsed codebook then has no distractor left and a
      contrastive loss of 0: only the diversity loss would hold it open.
    diversity_weight: of the codebook's diversity loss.
    contrastive_weight: beta.
    prediction_weight: gamma.
    gumbel_start: temperature of the quantizer at the first step.
    gumbel_end: and its floor.
    gumbel_decay: factor per step between the two.
    quantizer_standardize: the quantizer sees features of mean 0 and deviation 1
      over the batch. Raw ones share a large constant part, so that at the start
      nearly every step has the same id. The tokenizer has no quantizer.
    gumbel_noise: scale of the noise. Over 1024 ids it drowns logits of unit
      size: a short training wants less of it, or larger logits.
    logit_scale: deviation of the quantizer's logits at the start.
    spectrum_weight: of an auxiliary task: a linear map of the tokenizer's
      features names the spectrum of each frame (spectrum.py), heard or masked;
      MERT asks for the constant-Q one of masked frames. 0: no such head.
    spectrum_input: the feature encoder is given that spectrum beside the
      log-mel, so that a short training need not first find out how to tell one
      semitone from the next.
    input_rate_hz: of the audio that it is given, the system's rate.
  """

  num_mels: int = 80  # paper
  mel_mean: float = -1.0  # ours
  mel_std: float = 2.0  # ours
  conv_channels: tuple = (128, 32)  # ours (Lingvo's, from memory)
  dim: int = 1024  # paper
  num_heads: int = 8  # paper
  mlp_dim: int = 4096  # paper
  kernel_size: int = 5  # paper
  position: str = 'none'  # paper (of the encoder it derives from)
  contrastive_blocks: int = 12  # paper
  prediction_blocks: int = 12  # paper
  feature_block: int = 7  # paper (AudioLM, MusicLM)
  codebook_size: int = 1024  # paper
  codebook_dim: int = 1024  # paper
  num_clusters: int = 1024  # paper
  dropout_rate: float = 0.1  # ours
  mask_start_rate: float = 0.065  # paper
  mask_span: int = 10  # paper
  mask_std: float = 0.1  # ours
  num_distractors: int = 100  # paper (wav2vec 2.0)
  contrastive_temperature: float = 0.1  # paper (wav2vec 2.0)
  exclude_equal: bool = False  # ours
  diversity_weight: float = 0.1  # paper
  contrastive_weight: float = 1.0  # paper
  prediction_weight: float = 1.0  # paper
  gumbel_start: float = 2.0  # paper (wav2vec 2.0)
  gumbel_end: float = 0.5  # paper (wav2vec 2.0)
  gumbel_decay: float = 0.999995  # paper (wav2vec 2.0)
  quantizer_standardize: bool = True  # ours
  gumbel_noise: float = 1.0  # paper
  logit_scale: float = 1.0  # ours
  spectrum_weight: float = 0.0  # paper
  spectrum_input: bool = False  # paper
  input_rate_hz: int = specs.AudioSpec.sample_rate_hz  # paper

  def __post_init__(self):
    object.__setattr__(self, 'conv_channels', tuple(self.conv_channels))
    if len(self.conv_channels) != 2:
      raise errors.UserError(
          f'conv_channels is {self.conv_channels}; expected two numbers, one '
          f'for each stride-2 convolution.')
    if not 1 <= self.feature_block <= self.prediction_blocks:
      raise errors.UserError(
          f'feature_block is {self.feature_block}; expected 1 to '
          f'{self.prediction_blocks}, the blocks of the second stack.')

  def mel_spec(self) -> audio.MelSpec:
    spec = self.semantic_spec()
    return audio.MelSpec(
        sample_rate_hz=spec.sample_rate_hz, num_mels=self.num_mels,
        hop_samples=spec.mel_hop_samples)

  def semantic_spec(self) -> specs.SemanticSpec:
    return specs.SemanticSpec(codebook_size=self.num_clusters)

  def constant_q_spec(self) -> spectrum.ConstantQSpec:
    spec = self.semantic_spec()
    return spectrum.ConstantQSpec(
        sample_rate_hz=spec.sample_rate_hz,
        hop_samples=spec.mel_hop_samples * spec.subsampling)


@flax.struct.dataclass
class Outputs:
  """What the losses need of one training pass."""

  context: jax.Array  # [B, T, codebook_dim] of the contrastive stack
  quantized: jax.Array  # [B, T, codebook_dim] true candidates
  code_logits: jax.Array  # [B, T, codebook_size] of the quantizer
  ids: jax.Array  # [B, T] int32, the quantizer's choice
  prediction_logits: jax.Array  # [B, T, codebook_size] of the second stack
  spectra: Any  # [B, T, bins + mels] of the audio; None without such a head
  named_spectra: Any  # the same as read off the features
  masked: jax.Array  # [B, T] bool, steps that were masked
  valid: jax.Array  # [B, T] bool, steps that are not padding


class FeatureEncoder(nn.Module):
  """[B, M, mels] log-mel, [B, T, D] spectra or None -> [B, T = ceil(M / 4), dim]."""

  config: W2vBertConfig

  @nn.compact
  def __call__(
      self, mels: jax.Array, num_frames: jax.Array,
      spectrum: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    cfg = self.config
    x = mels[..., None]
    for i, channels in enumerate(cfg.conv_channels):
      # Padding (1, 1) on any length: SAME would shift odd and even ones.
      x = nn.Conv(channels, (3, 3), (2, 2), padding=((1, 1), (1, 1)),
                  name=f'conv_{i}')(x)
      num_frames = -(-num_frames // 2)
      valid = jnp.arange(x.shape[1]) < num_frames[:, None]
      x = jnp.where(valid[:, :, None, None], nn.swish(x), 0.0)
    x = nn.Dense(cfg.dim, name='project')(x.reshape(x.shape[:2] + (-1,)))
    if spectrum is not None:
      x += nn.Dense(cfg.dim, name='project_spectrum')(spectrum)
    return nn.LayerNorm(name='norm')(x), valid


class Quantizer(nn.Module):
  """Gumbel softmax over one codebook, hard, with a straight-through gradient."""

  config: W2vBertConfig

  @nn.compact
  def __call__(self, features: jax.Array, valid: jax.Array,
               temperature: float | jax.Array,
               rng: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    cfg = self.config
    if cfg.quantizer_standardize:
      features = standardize(features, valid)
    logits = nn.Dense(
        cfg.codebook_size, name='logits',
        kernel_init=nn.initializers.variance_scaling(
            cfg.logit_scale**2, 'fan_in', 'truncated_normal'))(features)
    codebook = self.param('codebook', nn.initializers.normal(1.0),
                          (cfg.codebook_size, cfg.codebook_dim))
    noisy = logits
    if rng is not None:
      noisy += cfg.gumbel_noise * jax.random.gumbel(rng, logits.shape)
    ids = jnp.argmax(noisy, axis=-1).astype(jnp.int32)
    soft = jax.nn.softmax(noisy / temperature, axis=-1)
    hard = jax.nn.one_hot(ids, cfg.codebook_size)
    chosen = hard + soft - jax.lax.stop_gradient(soft)
    return chosen @ codebook, logits, ids


class W2vBert(nn.Module):
  """Both stacks. `__call__` trains; `features` serves the tokenizer."""

  config: W2vBertConfig

  def setup(self):
    cfg = self.config
    block = lambda: conformer.ConformerBlock(
        cfg.num_heads, cfg.mlp_dim, cfg.kernel_size, cfg.position,
        cfg.dropout_rate)
    self.encoder = FeatureEncoder(cfg)
    self.quantizer = Quantizer(cfg)
    self.input = nn.Dense(cfg.dim)
    self.contrastive = [block() for _ in range(cfg.contrastive_blocks)]
    self.context = nn.Dense(cfg.codebook_dim)
    self.prediction = [block() for _ in range(cfg.prediction_blocks)]
    self.logits = nn.Dense(cfg.codebook_size)
    if cfg.spectrum_weight:
      self.spectrum = nn.Dense(cfg.constant_q_spec().num_bins + cfg.num_mels)

  def __call__(self, waveform: jax.Array, temperature: float | jax.Array = 1.0,
               rngs: jax.Array | None = None,
               deterministic: bool = True) -> Outputs:
    """One training pass.

    Args:
      waveform: [B, N] float32 at 24 kHz.
      temperature: of the Gumbel softmax.
      rngs: PRNG key for the mask, the masked steps' vectors and, unless
        `deterministic`, the Gumbel noise; None masks nothing.
      deterministic: no dropout and no Gumbel noise.

    Returns:
      `Outputs`.
    """
    heard = self._hear(waveform)
    features, valid = self._encoded(*heard)
    x = self.input(features)
    masked, gumbel_rng = jnp.zeros_like(valid), None
    if rngs is not None:
      mask_rng, vector_rng, gumbel_rng = jax.random.split(rngs, 3)
      masked = span_mask(mask_rng, valid, self.config)
      vectors = self.config.mask_std * jax.random.normal(vector_rng, x.shape)
      x = jnp.where(masked[..., None], vectors, x)
    quantized, code_logits, ids = self.quantizer(
        features, valid, temperature, None if deterministic else gumbel_rng)
    for block in self.contrastive:
      x = block(x, valid, deterministic)
    context = self.context(x)
    named = None
    for number, block in enumerate(self.prediction, 1):
      x = block(x, valid, deterministic)
      if number == self.config.feature_block and self.config.spectrum_weight:
        named = self.spectrum(x)
    return Outputs(context, quantized, code_logits, ids, self.logits(x),
                   heard[-1], named, masked, valid)

  def encode(
      self, waveform: jax.Array,
      num_samples: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """[B, N] at 24 kHz -> features [B, ceil(N / 960), dim] and [B, T] valid.

    Args:
      waveform: [B, N] float32; zeros past the end of each row's audio.
      num_samples: [B] samples of audio in each row; None: all N.
    """
    return self._encoded(*self._hear(waveform, num_samples))

  def _hear(self, waveform, num_samples=None):
    """([B, M, mels] log-mel, [B] its frames, [B, T, D] spectra or None)."""
    cfg = self.config
    spec = cfg.mel_spec()
    rate = cfg.input_rate_hz
    if num_samples is None:
      num_samples = jnp.full(len(waveform), waveform.shape[-1])
    hop = rate // (spec.sample_rate_hz // spec.hop_samples)
    num_frames = -(-num_samples // hop)
    signal = audio.resample(waveform, rate, spec.sample_rate_hz)
    # The filter rings on past the end; unpadded audio is cut there.
    common = math.gcd(spec.sample_rate_hz, rate)  # int32 must not overflow
    end = -(-num_samples * (spec.sample_rate_hz // common) // (rate // common))
    signal = jnp.where(
        jnp.arange(signal.shape[-1]) < end[:, None], signal, 0.0)
    mels = (audio.log_mel(signal, spec) - cfg.mel_mean) / cfg.mel_std
    valid = jnp.arange(mels.shape[1]) < num_frames[:, None]
    spectra = None
    if cfg.spectrum_input or cfg.spectrum_weight:
      spectra = spectrum.targets(signal, cfg.constant_q_spec(), spec, end)
    return jnp.where(valid[..., None], mels, 0.0), num_frames, spectra

  def _encoded(self, mels, num_frames, spectra):
    """([B, T, dim] features, [B, T] valid) of what `_hear` returns."""
    return self.encoder(
        mels, num_frames, spectra if self.config.spectrum_input else None)

  def features(self, waveform: jax.Array,
               num_samples: jax.Array | None = None) -> jax.Array:
    """[B, N] at 24 kHz -> [B, ceil(N / 960), dim], the tokenizer's features.

    Output of block `feature_block` of the second stack, nothing masked; frames
    past `num_samples` ([B], None: all) carry no meaning and change no other.
    """
    x, valid = self.encode(waveform, num_samples)
    x = self.input(x)
    for block in self.contrastive:
      x = block(x, valid)
    for block in self.prediction[:self.config.feature_block]:
      x = block(x, valid)
    return x


def standardize(features: jax.Array, valid: jax.Array) -> jax.Array:
  """[B, T, D] at mean 0 and deviation 1 over the valid steps of the batch."""
  weights = valid[..., None] / jnp.maximum(valid.sum(), 1)
  mean = jnp.sum(features * weights, axis=(0, 1))
  centred = features - mean
  variance = jnp.sum(jnp.square(centred) * weights, axis=(0, 1))
  return centred * jax.lax.rsqrt(variance + 1e-5)


def span_mask(rng: jax.Array, valid: jax.Array,
              config: W2vBertConfig) -> jax.Array:
  """[B, T] bool: spans of `mask_span` steps from random starts, within `valid`.

  At least one span starts in each row, so that no utterance is without a task.
  """
  draws = jax.random.uniform(rng, valid.shape)
  starts = draws < config.mask_start_rate
  starts |= draws == jnp.min(
      jnp.where(valid, draws, 2.0), axis=-1, keepdims=True)
  length = valid.shape[-1]
  masked = jnp.zeros_like(valid)
  for offset in range(min(config.mask_span, length)):
    masked |= jnp.pad(starts, ((0, 0), (offset, 0)))[:, :length]
  return masked & valid
