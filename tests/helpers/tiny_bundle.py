"""The random bundle of the evaluation's tests, with a melody component."""

import pathlib

import jax.numpy as jnp
import numpy as np
import random_bundle
import tiny_stage

from musiclm_jax import bundle
from musiclm_jax import specs
from musiclm_jax.tokenizers.melody import model as melody_model

RATE = random_bundle.RATE
SECONDS = tiny_stage.SECONDS  # crops of the stages


def write(directory):
  """Writes it; returns the `bundle.Bundle`."""
  random_bundle.write(directory)
  rng, tokens = np.random.default_rng(5), random_bundle.tokens()
  config = melody_model.MelodyConfig(
      features='relative', hop_samples=320, frames_per_token=8, num_layers=1,
      num_heads=2, head_dim=8, dim=16, mlp_dim=32)
  params = random_bundle._random(  # pylint: disable=protected-access
      rng, melody_model.Melody(config), jnp.zeros((1, 4 * RATE)))
  codebooks = rng.standard_normal((24, 512, 192)) * 0.1
  bundle.save_component(
      directory / 'melody', 'melody', config, tokens.melody,
      dict(params=params, rvq=dict(codebooks=codebooks)), {'steps': 0})
  stage = stages('semantic', ('mulan', 'melody'))
  bundle.save_component(
      directory / 'semantic', 'semantic', stage.config, stage.spec,
      tiny_stage.init(stage), {'steps': 0})
  bundle.write_manifest(directory, tokens, name='tiny')
  return bundle.Bundle(directory)


def stages(name, conditions):
  """A stage of other conditions than the paper's."""
  stage = tiny_stage.stage_model(name, random_bundle.SIZE, num_layers=1)
  return type(stage)(
      specs.StageSpec(name, stage.spec.tokens, stage.spec.crop_seconds,
                      conditions), stage.config)


def without(bundle_, directory, *names):
  """A bundle of the same components but for some."""
  for part in bundle_.directory.iterdir():
    if part.is_dir() and part.name not in names:
      (pathlib.Path(directory) / part.name).symlink_to(part)
  bundle.write_manifest(directory, bundle_.tokens, name='part')
  return bundle.Bundle(directory)


def tone(seconds, hz=440.0, seed=0):
  """[N] float32: notes around a pitch."""
  rng = np.random.default_rng(seed)
  steps = rng.integers(0, 12, int(np.ceil(seconds * 4)))
  pitch = np.repeat(hz * 2.0**(steps / 12), RATE // 4)[:int(seconds * RATE)]
  phase = 2 * np.pi * np.cumsum(pitch) / RATE
  return (0.3 * np.sin(phase)).astype(np.float32)
