"""w2v-BERT: rates, masks, padding, sizes, learning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.training import optim
from musiclm_jax.w2vbert import model as w2vbert_model
from musiclm_jax.w2vbert import trainer

TINY = w2vbert_model.W2vBertConfig(
    conv_channels=(4, 4), dim=16, num_heads=2, mlp_dim=32, position='rotary',
    contrastive_blocks=1, prediction_blocks=2, feature_block=1,
    codebook_size=32, codebook_dim=16, num_clusters=16, dropout_rate=0.0)


def _chords(batch, seconds, seed=0):
  """Chords that change every 0.3 s: something to tell apart."""
  rng = np.random.default_rng(seed)
  count = int(np.ceil(seconds / 0.3))
  notes = rng.integers(40, 80, (batch, count, 2))
  hz = np.repeat(440.0 * 2.0**((notes - 69) / 12), 7200, axis=1)
  phase = 2 * np.pi * np.cumsum(hz[:, :int(seconds * 24_000)], 1) / 24_000
  return (0.2 * np.sin(phase).sum(-1)).astype(np.float32)


@pytest.fixture(scope='module')
def params():
  module = w2vbert_model.W2vBert(TINY)
  return jax.jit(module.init)(
      jax.random.PRNGKey(0), jnp.zeros((1, 24_000)))['params']


def test_xl_has_about_600_million_parameters():
  module = w2vbert_model.W2vBert(w2vbert_model.W2vBertConfig())
  shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0),
                          jax.ShapeDtypeStruct((1, 24_000), jnp.float32))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert count == 585_617_696
  assert 0.55e9 < count < 0.65e9
  blocks = [k for k in shapes['params'] if k.startswith(('contr', 'predic'))]
  assert len(blocks) == 24


@pytest.mark.parametrize(
    'num_samples, expected',
    [(1, 1), (239, 1), (960, 1), (961, 2), (1919, 2), (1920, 2), (2881, 4),
     (23_999, 25), (24_001, 26), (720_000, 750)])
def test_25_steps_a_second_for_any_length(num_samples, expected):
  module = w2vbert_model.W2vBert(TINY)
  audio = jax.ShapeDtypeStruct((2, num_samples), jnp.float32)
  variables = jax.eval_shape(
      module.init, jax.random.PRNGKey(0),
      jax.ShapeDtypeStruct((1, 24_000), jnp.float32))
  features = jax.eval_shape(
      lambda v, a: module.apply(v, a, method='features'), variables, audio)
  assert features.shape == (2, expected, 16)


@pytest.mark.parametrize('num_samples', [7_001, 9_600])
def test_zeros_after_the_end_change_no_feature(params, num_samples):
  module = w2vbert_model.W2vBert(TINY)
  features = jax.jit(lambda audio, samples: module.apply(
      {'params': params}, audio, samples, method='features'))
  audio = _chords(1, 0.5)[:, :num_samples]
  alone = features(audio, jnp.array([num_samples]))
  padded = features(np.pad(audio, ((0, 0), (0, 5_000))),
                    jnp.array([num_samples]))
  np.testing.assert_allclose(padded[:, :alone.shape[1]], alone, atol=1e-4)


def test_mask_covers_about_half_in_spans():
  valid = np.ones((1000, 400), bool)
  valid[:, 300:] = False
  masked = np.asarray(w2vbert_model.span_mask(
      jax.random.PRNGKey(0), valid, TINY))
  assert not masked[:, 300:].any()
  # 1 - (1 - 0.065)^10 = 0.489 away from the edge.
  assert abs(masked[:, 10:300].mean() - 0.489) < 0.02
  inner = masked[0, :300]
  edges = np.flatnonzero(np.diff(np.pad(inner.astype(int), 1)))
  runs = edges[1::2] - edges[::2]
  assert np.all(runs[:-1] >= 10)  # the last one may be cut by the end


def test_every_row_is_masked_somewhere():
  valid = np.ones((50, 12), bool)
  config = dataclasses.replace(TINY, mask_start_rate=0.0)
  masked = w2vbert_model.span_mask(jax.random.PRNGKey(0), valid, config)
  assert np.asarray(masked).any(-1).all()


def test_context_sees_nothing_of_masked_steps(params):
  """What stands at a masked step decides its candidate, not its context."""
  module = w2vbert_model.W2vBert(TINY)
  apply = jax.jit(lambda audio: module.apply(
      {'params': params}, audio, 1.0, jax.random.PRNGKey(3)))
  audio = _chords(1, 2.0)
  out = apply(audio)
  steps = np.flatnonzero(np.asarray(out.masked[0]))
  # A masked step whose neighbours are masked as well (mel and convolutions
  # reach a little beyond the 960 samples of a step).
  inner = [t for t in steps if {t - 1, t + 1} <= set(steps)]
  changed = audio.copy()
  t = inner[len(inner) // 2]
  changed[0, t * 960 + 300:t * 960 + 600] += 0.5
  other = apply(changed)
  np.testing.assert_allclose(other.context, out.context, atol=1e-4)
  assert np.abs(other.quantized - out.quantized)[0, t].max() > 1e-3 or (
      np.abs(other.code_logits - out.code_logits)[0, t].max() > 1e-3)


def test_feature_block_is_counted_from_one():
  module = w2vbert_model.W2vBert(
      dataclasses.replace(TINY, feature_block=2))
  audio = _chords(1, 0.5)
  variables = jax.jit(module.init)(jax.random.PRNGKey(0), audio)
  last = jax.jit(
      lambda a: module.apply(variables, a, method='features'))(audio)
  head = variables['params']['logits']
  out = jax.jit(lambda a: module.apply(variables, a))(audio)  # nothing masked
  np.testing.assert_allclose(
      last @ head['kernel'] + head['bias'], out.prediction_logits, atol=1e-4)
  with pytest.raises(errors.UserError, match='1 to 2'):
    dataclasses.replace(TINY, feature_block=3)


def test_gumbel_temperature_falls_to_its_floor():
  trained = trainer.W2vBertTrainable(
      dataclasses.replace(TINY, gumbel_decay=0.5))
  values = [float(trained.gumbel_temperature(s)) for s in (0, 1, 2, 9)]
  np.testing.assert_allclose(values, [2.0, 1.0, 0.5, 0.5])


def test_standardised_features_have_mean_0_and_deviation_1_over_valid_steps():
  rng = np.random.default_rng(0)
  features = (3.0 + 2.0 * rng.normal(size=(2, 50, 4))).astype(np.float32)
  valid = np.ones((2, 50), bool)
  valid[1, 20:] = False
  features[1, 20:] = 1e3
  out = np.asarray(w2vbert_model.standardize(features, valid))[valid]
  np.testing.assert_allclose(out.mean(0), 0.0, atol=1e-4)
  np.testing.assert_allclose(out.std(0), 1.0, atol=1e-3)


@pytest.mark.slow
def test_encoder_and_quantizer_learn_at_their_share_of_the_rate():
  batch, rng = {'audio': _chords(2, 1.0)}, jax.random.PRNGKey(1)
  moved = {}
  for share in (1.0, 0.25):
    trained = trainer.W2vBertTrainable(TINY, optim.OptimizerConfig(
        learning_rate=1e-3, warmup_steps=1, weight_decay=0.0),
        target_rate=share)
    state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
    after, _ = jax.jit(trained.update)(state, batch, rng)
    moved[share] = jax.tree.map(
        lambda a, b: a - b, after.params, state.params)
  for name, full in moved[1.0].items():
    factor = 0.25 if name in ('encoder', 'quantizer') else 1.0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, factor * b, atol=3e-6),
        moved[0.25][name], full)


def test_learns_one_batch():
  """Both losses fall below what guessing gives, and the codes stay in use."""
  config = dataclasses.replace(
      TINY, dim=32, conv_channels=(8, 8), gumbel_decay=0.97, gumbel_noise=0.2,
      logit_scale=4.0)
  trained = trainer.W2vBertTrainable(
      config, optim.OptimizerConfig(
          learning_rate=4e-3, warmup_steps=10, schedule='constant'),
      target_rate=0.05)
  batch = {'audio': _chords(4, 3.0)}
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  update = jax.jit(trained.update)
  evaluate = jax.jit(trained.evaluate)
  rng = jax.random.PRNGKey(1)
  for step in range(200):
    state, metrics = update(state, batch, jax.random.fold_in(rng, step))
  after = evaluate(state, batch, rng)
  assert int(state.step) == 200
  assert metrics['grad_norm'] > 0 and metrics['learning_rate'] > 0
  np.testing.assert_allclose(
      after['contrastive_chance'], np.log(101), rtol=1e-4)
  assert after['contrastive'] < after['contrastive_chance'] - 0.25
  # Below the entropy of the ids: context is used, not their frequency alone.
  assert after['prediction'] < after['prediction_chance'] - 0.4
  assert after['code_perplexity'] > 8.0
