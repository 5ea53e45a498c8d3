"""A codec at the frame rate so small that it compiles in seconds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import specs
from musiclm_jax.codecs import stft_losses
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs import trainer
from musiclm_jax.codecs.framecodec import model
from musiclm_jax.nn import quantize
from musiclm_jax.training import optim

RATE, HOP = 8_000, 80
SPEC = specs.CodecSpec(
    sample_rate_hz=RATE, strides=(8, 10), num_codebooks=4, codebook_size=32,
    coarse_codebooks=1)


def config(**changes):
  """Two narrow blocks on either side."""
  return dataclasses.replace(model.FrameCodecConfig(
      spec=SPEC, num_mels=8, parts=3, encoder_dim=16, encoder_blocks=2,
      decoder_dim=16, decoder_blocks=2, kernel_size=3, latent_dim=6), **changes)


def params(config_, seed=0):
  """Random parameters, drawn by NumPy: nothing is compiled."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
      config_.build().init, jax.random.key(0),
      jnp.zeros((1, config_.spec.hop_samples)))['params']

  # Biases are not zero: silence must not hide a leak. Branches are not small.
  def draw(path, x):
    name = path[-1].key
    if len(x.shape) == 1:
      return (rng.normal(size=x.shape) * 0.1 + (name == 'scale')).astype(
          np.float32)
    scale = np.prod(x.shape[:-1])**-0.5
    return (rng.normal(size=x.shape) * scale).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def codebooks(config_, seed=1):
  """[Q, K, D], each level finer than the one before."""
  spec, rng = config_.spec, np.random.default_rng(seed)
  found = rng.normal(
      size=(spec.num_codebooks, spec.codebook_size, config_.latent_dim))
  levels = np.arange(spec.num_codebooks)[:, None, None]
  return (found * 0.5**levels).astype(np.float32)


def codec(config_, **kwargs):
  """A `codec.Codec` of random parameters."""
  return codec_tokenizer.Codec(
      config_, params(config_), codebooks(config_), **kwargs)


def noise(frames, rows=2, seed=0, hop=HOP):
  """[B, frames * hop] float32."""
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(rows, frames * hop)) * 0.1).astype(np.float32)


def tones(seed=0, batch=8, samples=1_600):
  """{'audio': [B, N]} of two tones and a little noise each."""
  rng = np.random.default_rng(seed)
  hz = rng.uniform(100.0, 2_000.0, (batch, 2, 1))
  audio = 0.2 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE).sum(1)
  return {'audio': (audio + rng.normal(size=audio.shape) * 0.01).astype(
      np.float32)}


def trainable(**changes):
  """It under training, without discriminators."""
  return dataclasses.replace(trainer.CodecTrainable(
      model=config(),
      rvq=quantize.RvqConfig(dropout_rate=0.0, init_iters=2, init_vectors=64),
      spectral=stft_losses.MagnitudeConfig(windows=(256,), num_mels=32),
      optimizer=optim.OptimizerConfig(
          name='adam', learning_rate=3e-3, warmup_steps=0, schedule='constant',
          b1=0.8, b2=0.99)), **changes)
