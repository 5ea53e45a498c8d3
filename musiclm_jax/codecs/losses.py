"""The codec's losses: spectral, hinge adversarial, feature matching, waveform.

Each takes real and reconstructed audio [B, N], or what a discriminator made of
them, and returns a scalar that depends neither on the batch size nor on the
crop length (ours: the paper prints sums over time).
"""

from collections.abc import Sequence
import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from musiclm_jax import audio as audio_lib


@dataclasses.dataclass(frozen=True)
class SpectralConfig:
  """Multi-scale spectral distance (Gritsenko et al., arXiv:2008.01160).

  Sum over scales s of |S - R|_1 + sqrt(s / 2) |log S - log R|_2 of 64-band mel
  magnitudes with window s and hop s / 4, mean over frames.

  Attributes:
    windows: the scales, in samples.
    num_mels: bands.
    min_fft_size: shorter windows are zero-padded to it. With a 64-point
      transform 64 bands would have bands without any bin (ours).
    floor: smallest magnitude under the logarithm (ours).
    log_weight: factor on the logarithmic term.
  """

  windows: tuple = (64, 128, 256, 512, 1024, 2048)  # paper
  num_mels: int = 64  # paper
  min_fft_size: int = 512  # ours
  floor: float = 1e-5  # ours
  log_weight: float = 1.0  # paper

  def __post_init__(self):
    object.__setattr__(self, 'windows', tuple(self.windows))

  def distance(self, real: jax.Array, fake: jax.Array,
               sample_rate_hz: int) -> jax.Array:
    """Scalar distance of two [B, N] waveforms."""
    total = 0.0
    for window in self.windows:
      mels = functools.partial(
          self.mel_magnitudes, window=window, sample_rate_hz=sample_rate_hz)
      real_mels, fake_mels = mels(real), mels(fake)
      linear = jnp.sum(jnp.abs(real_mels - fake_mels), axis=-1)
      ratio = self._log(real_mels) - self._log(fake_mels)
      # The norm has no gradient where the two are equal, as in silence.
      norm = jnp.sqrt(jnp.sum(jnp.square(ratio), axis=-1) + 1e-12)
      weight = self.log_weight * math.sqrt(window / 2)
      total = total + jnp.mean(linear + weight * norm)
    return total

  def mel_magnitudes(self, signal: jax.Array, window: int,
                     sample_rate_hz: int) -> jax.Array:
    """[B, N] -> [B, T, num_mels]; the ends are zero-padded by half a window."""
    fft_size = max(window, self.min_fft_size)
    half = window // 2
    padded = jnp.pad(signal, ((0, 0), (half, half)))
    filters = audio_lib.mel_matrix(
        sample_rate_hz, fft_size, self.num_mels, 0.0, sample_rate_hz / 2)
    magnitudes = audio_lib.stft_magnitude(
        padded, window, window // 4, fft_size)
    return magnitudes @ filters

  def _log(self, mels):
    return jnp.log(jnp.maximum(mels, self.floor))


def waveform(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Mean absolute error of samples, over the mean absolute sample of the batch.

  Args:
    real: [B, N] audio.
    fake: the same of reconstructions.
  """
  level = jnp.mean(jnp.abs(real)) + 1e-3
  return jnp.mean(jnp.abs(real - fake)) / level


def hinge_discriminator(real_logits: Sequence[jax.Array],
                        fake_logits: Sequence[jax.Array]) -> jax.Array:
  """Mean over discriminators of relu(1 - D(real)) + relu(1 + D(fake)).

  Args:
    real_logits: list of [B, ...] logits, one array per discriminator.
    fake_logits: the same of reconstructions.
  """
  terms = [
      jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))
      for real, fake in zip(real_logits, fake_logits, strict=True)]
  return sum(terms) / len(terms)


def hinge_generator(fake_logits: Sequence[jax.Array]) -> jax.Array:
  """Mean over discriminators of relu(1 - D(fake)) (paper: hinged here too)."""
  terms = [jnp.mean(jax.nn.relu(1.0 - fake)) for fake in fake_logits]
  return sum(terms) / len(terms)


def feature_matching(real_features: Sequence[Sequence[jax.Array]],
                     fake_features: Sequence[Sequence[jax.Array]]) -> jax.Array:
  """Mean absolute difference of features, mean over layers.

  Args:
    real_features: list over discriminators of lists over layers of arrays.
    fake_features: the same of reconstructions.
  """
  per_discriminator = [
      sum(jnp.mean(jnp.abs(r - f)) for r, f in zip(real, fake, strict=True)) /
      len(real)
      for real, fake in zip(real_features, fake_features, strict=True)]
  return sum(per_discriminator) / len(per_discriminator)


def si_sdr(real: jax.Array, fake: jax.Array) -> jax.Array:
  """Scale-invariant signal-to-distortion ratio in dB, mean over the batch."""
  return jnp.mean(si_sdr_each(real, fake))


def si_sdr_each(real: jax.Array, fake: jax.Array) -> jax.Array:
  """[B, N], [B, N] -> [B] dB (Le Roux et al., arXiv:1811.02508), means removed.

  Examples that are silent count as 0 dB.
  """
  real = real - jnp.mean(real, axis=-1, keepdims=True)
  fake = fake - jnp.mean(fake, axis=-1, keepdims=True)
  energy = jnp.sum(jnp.square(real), axis=-1, keepdims=True)
  scale = jnp.sum(real * fake, axis=-1, keepdims=True) / (energy + 1e-8)
  target = jnp.sum(jnp.square(scale * real), axis=-1)
  noise = jnp.sum(jnp.square(fake - scale * real), axis=-1)
  ratio = 10.0 * jnp.log10((target + 1e-8) / (noise + 1e-8))
  return jnp.where(energy[..., 0] > 1e-6, ratio, 0.0)


def mel_distance(real: jax.Array, fake: jax.Array,
                 spec: audio_lib.MelSpec) -> jax.Array:
  """Mean absolute difference of natural-log mels (`audio.MelSpec`)."""
  return jnp.mean(mel_distance_each(real, fake, spec))


def mel_distance_each(real: jax.Array, fake: jax.Array,
                      spec: audio_lib.MelSpec) -> jax.Array:
  """[B, N], [B, N] -> [B]: `mel_distance` of each example."""
  difference = audio_lib.log_mel(real, spec) - audio_lib.log_mel(fake, spec)
  return jnp.mean(jnp.abs(difference), axis=(-2, -1))


def balance(gradients: Sequence[jax.Array], weights: Sequence[float],
            reference: float = 1.0) -> jax.Array:
  """EnCodec's balancer: gradients at the output get the size of their weight.

  Args:
    gradients: list of [B, N] gradients of the losses by the reconstruction.
    weights: list of floats, the share of each.
    reference: norm of the sum when all point the same way.

  Returns:
    [B, N] the sum, each scaled to weight / sum(weights) * reference. A loss
    that is off (its gradient is 0) leaves its share to the others.
  """
  norms = [jnp.sqrt(jnp.sum(jnp.square(g)) + 1e-24) for g in gradients]
  live = [jnp.where(n > 1e-10, w, 0.0) for n, w in zip(norms, weights)]
  total = jnp.maximum(sum(live), 1e-12)
  return sum(
      g * (w / total * reference / n)
      for g, w, n in zip(gradients, live, norms))
