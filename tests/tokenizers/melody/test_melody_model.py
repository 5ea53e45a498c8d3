"""The embedder: the paper's size, unit length, blind to key and loudness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tunes

from musiclm_jax import errors
from musiclm_jax.tokenizers.melody import model as melody_model

SMALL = dict(num_layers=1, num_heads=2, head_dim=8, dim=16, mlp_dim=32)
RELATIVE = melody_model.MelodyConfig(
    features='relative', hop_samples=320, frames_per_token=4,
    pooling='ordered', **SMALL)
MEL = melody_model.MelodyConfig(frames_per_token=4, **SMALL)


def _passage(shift=0, beat=0.4, harmonics=(1.0, 0.5)):
  notes = tunes.version(tunes.tune(0), beat, shift)
  return tunes.play(notes, harmonics)[None, :4 * tunes.RATE]


def test_paper_sizes():
  config = melody_model.MelodyConfig()
  assert (config.num_layers, config.num_heads, config.head_dim, config.dim,
          config.mlp_dim) == (12, 6, 64, 512, 1024)
  assert config.num_tokens == 400 and config.window_samples == 96_000
  shapes = jax.eval_shape(
      melody_model.Melody(config).init, jax.random.PRNGKey(0),
      jax.ShapeDtypeStruct((1, 96_000), jnp.float32))['params']
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  inner = 6 * 64
  layer = (3 * (512 * inner + inner) + inner * 512 + 512 +  # attention
           512 * 1024 + 1024 + 1024 * 512 + 512 +  # feed-forward
           4 * 512)  # two norms
  assert count(shapes['layers_0']) == layer
  assert count(shapes) == (
      12 * layer + 64 * 512 + 512 + 400 * 512 + 2 * 512 + 512 * 192 + 192)
  assert count(shapes) == 22_420_672


@pytest.mark.parametrize('config', [MEL, RELATIVE], ids=['mel', 'relative'])
def test_unit_length_and_each_row_by_itself(config):
  module = melody_model.Melody(config)
  audio = np.concatenate([_passage(), _passage(3), np.zeros((1, 96_000))])
  params = jax.jit(module.init)(jax.random.PRNGKey(0), audio[:1])
  embed = jax.jit(module.apply)
  out = embed(params, audio)
  assert out.shape == (3, 192) and np.isfinite(out).all()
  np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(embed(params, audio[1:2])[0], out[1], atol=1e-4)


def test_relative_pitch_does_not_change_with_key_or_loudness():
  frames = jax.jit(lambda x: melody_model.frames(x, RELATIVE))
  here, there = frames(_passage()), frames(_passage(shift=5))
  louder = frames(3.0 * _passage())
  assert here.shape == (1, 200, 73)
  np.testing.assert_allclose(louder, here, atol=1e-3)
  cosine = lambda a, b: float(
      np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))
  other = frames(np.roll(_passage(), 24_000, axis=1))
  assert cosine(here, there) > 0.85
  assert cosine(here, other) < 0.5


def test_bands_rise_by_the_key():
  """A tone twelve semitones up is 36 bands up."""
  time = np.arange(64_000) / 16_000
  tone = lambda hz: np.sin(2 * np.pi * hz * time)[None].astype(np.float32)
  config = melody_model.RelativeConfig()
  bands = [np.asarray(melody_model.pitch_bands(tone(hz), 16_000, 320, config))
           [0, 100].argmax() for hz in (220.0, 440.0, 880.0)]
  assert bands == [36, 72, 108]


def test_the_mean_frame_lies_at_lag_zero():
  """One steady tone against itself; centring in time leaves nothing."""
  time = np.arange(96_000) / 24_000
  audio = np.sin(2 * np.pi * 440.0 * time)[None].astype(np.float32)
  audio[:, 48_000:] = np.sin(
      2 * np.pi * 440.0 * 2**(7 / 12) * time[48_000:])  # a fifth up
  x = np.asarray(melody_model.frames(audio, RELATIVE))[0]
  # Early frames lie a fifth under half of the window: positive lags hold it.
  assert x[50].argmax() == 36 + 21 and x[150].argmax() == 36 - 21


@pytest.mark.parametrize('settings', [
    dict(features='chroma'), dict(pooling='max'), dict(frames_per_token=3)])
def test_bad_settings_are_user_errors(settings):
  with pytest.raises(errors.UserError):
    melody_model.MelodyConfig(**settings)


def test_another_length_is_refused():
  with pytest.raises(ValueError, match='96000'):
    melody_model.frames(np.zeros((1, 24_000), np.float32), MEL)
