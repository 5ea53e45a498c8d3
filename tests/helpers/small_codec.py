"""A codec under training so small that it compiles in seconds."""

import dataclasses

import flax.linen as nn
import numpy as np

from musiclm_jax import specs
from musiclm_jax.codecs import losses
from musiclm_jax.codecs import trainer
from musiclm_jax.codecs.soundstream import model
from musiclm_jax.nn import quantize
from musiclm_jax.training import optim
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

RATE = 8_000
_ADAM = optim.OptimizerConfig(
    name='adam', learning_rate=3e-3, warmup_steps=0, schedule='constant',
    b1=0.5, b2=0.9)


class Judges(nn.Module):
  """Two discriminators of frames: [B, N] -> logits [B, T], features."""

  @nn.compact
  def __call__(self, audio):
    logits, features = [], []
    for size in (20, 40):
      frames = audio[:, :audio.shape[1] // size * size].reshape(
          len(audio), -1, size)
      hidden = nn.leaky_relu(nn.Dense(8, name=f'hidden_{size}')(frames), 0.2)
      features.append([hidden])
      logits.append(nn.Dense(1, name=f'logits_{size}')(hidden)[..., 0])
    return logits, features


@dataclasses.dataclass(frozen=True)
class JudgesConfig:
  """Discriminators that need no convolutions."""

  def build(self):
    return Judges()


def make(kind=trainer.CodecTrainable, **changes):
  """One stride, four levels of 16 entries, one spectral scale."""
  spec = specs.CodecSpec(
      sample_rate_hz=RATE, strides=(20,), num_codebooks=4, codebook_size=16,
      coarse_codebooks=1)
  return dataclasses.replace(kind(
      model=model.SoundStreamConfig(
          spec=spec, encoder_channels=4, decoder_channels=4, latent_dim=8,
          dilations=(1,)),
      rvq=quantize.RvqConfig(init_iters=2, init_vectors=64),
      discriminators=JudgesConfig(), discriminator_start_step=0,
      spectral=losses.SpectralConfig(windows=(256,), num_mels=16),
      optimizer=_ADAM, discriminator_optimizer=_ADAM), **changes)


def tones(seed=0, batch=8, samples=800):
  """{'audio': [B, N]} of two tones and a little noise each."""
  rng = np.random.default_rng(seed)
  hz = rng.uniform(100.0, 2_000.0, (batch, 2, 1))
  audio = 0.2 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE).sum(1)
  return {'audio': (audio + rng.normal(size=audio.shape) * 0.01).astype(
      np.float32)}


@dataclasses.dataclass(frozen=True)
class Tones(trainable.BatchSource):
  """A batch source of tones; `level` 0 is silence."""

  level: float = 1.0
  batch_size: int = 8

  def _batch(self, seed):
    batch = tones(seed, self.batch_size)
    return {'audio': batch['audio'] * np.float32(self.level)}

  def batches(self, start_step, share=shares.WHOLE):
    step = start_step
    while True:
      yield share.of(self._batch(step))
      step += 1

  def eval_batches(self, share=shares.WHOLE):
    yield share.of(self._batch(10**6))
