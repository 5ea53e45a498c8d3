"""w2v-BERT: rates, masks, padding, sizes."""

import dataclasses
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_w2vbert

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer

TINY = tiny_w2vbert.TINY


@pytest.fixture(scope='module')
def params():
  module = w2vbert_model.W2vBert(TINY)
  return jax.jit(module.init)(
      jax.random.PRNGKey(0), jnp.zeros((1, 24_000)))['params']


def test_the_base_leaf_has_about_600_million_parameters():
  """By its header, which test_embedder_leaves.py holds against the model."""
  header = re.search(r'Parameters: ([\d,]+)',
                     configs.resolve('w2vbert_base').read_text())[1]
  assert 0.55e9 < int(header.replace(',', '')) < 0.65e9


def test_the_base_leaf_has_the_values_of_the_papers():
  trainable = configs.load('w2vbert_base', dict(
      MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')).arguments['trainable']
  model, optimizer = trainable.model, trainable.optimizer
  mels = model.mel_spec()
  ms = 16_000 // 1000
  assert (mels.num_mels, mels.window_samples, mels.hop_samples) == (
      80, 25 * ms, 10 * ms)
  expected = dict(
      contrastive_blocks=12, prediction_blocks=12, feature_block=7, dim=1024,
      num_heads=8, mlp_dim=4 * 1024, kernel_size=5, position='none',
      codebook_size=1024, codebook_dim=1024, num_clusters=1024,
      mask_start_rate=0.065, mask_span=10, num_distractors=100,
      contrastive_temperature=0.1, diversity_weight=0.1,
      contrastive_weight=1.0, prediction_weight=1.0, gumbel_start=2.0,
      gumbel_end=0.5, gumbel_decay=0.999995, gumbel_noise=1.0)
  assert {k: getattr(model, k) for k in expected} == expected
  assert (optimizer.name, optimizer.learning_rate, optimizer.warmup_steps,
          optimizer.schedule) == ('adam', 2e-3, 25_000, 'rsqrt')
  assert trainable.target_rate == 1.0


def test_features_read_blocks_1_to_19_of_24():
  """Block 7 of the second stack is the last one that has to be there."""
  config = w2vbert_model.W2vBertConfig(
      conv_channels=(4, 4), dim=8, num_heads=1, mlp_dim=8, codebook_dim=8)
  module = w2vbert_model.W2vBert(config)
  audio = jax.ShapeDtypeStruct((1, 4_800), jnp.float32)
  params = jax.eval_shape(
      module.init, jax.random.PRNGKey(0), audio)['params']
  blocks = [f'contrastive_{i}' for i in range(12)] + [
      f'prediction_{i}' for i in range(12)]
  assert set(blocks) <= set(params)
  features = lambda params: jax.eval_shape(lambda p, a: module.apply(
      {'params': p}, a, method='features'), params, audio)
  needed = {k: params[k] for k in ['encoder', 'input'] + blocks[:19]}
  assert features(needed).shape == (1, 5, 8)
  assert set(tokenizer.inference_params(params, config)) == set(needed)
  for number in (1, 19):
    left = {k: v for k, v in needed.items() if k != blocks[number - 1]}
    with pytest.raises(flax.errors.ScopeParamNotFoundError,
                       match=blocks[number - 1]):
      features(left)


def test_features_are_what_their_block_gives():
  """The bias at the very end of a block comes out of that block alone."""
  config = dataclasses.replace(
      TINY, dim=8, num_heads=1, prediction_blocks=3, feature_block=2)
  module = w2vbert_model.W2vBert(config)
  audio = tiny_w2vbert.play(1, 0.5)
  params = jax.jit(module.init)(jax.random.PRNGKey(0), audio)['params']
  features = jax.jit(
      lambda params: module.apply({'params': params}, audio, method='features'))
  step = np.eye(8, dtype=np.float32)[0]

  def shifted(name):
    norm = dict(params[name]['norm'], bias=params[name]['norm']['bias'] + step)
    return features({**params, name: dict(params[name], norm=norm)})

  plain = features(params)
  np.testing.assert_allclose(shifted('prediction_1'), plain + step, atol=1e-4)
  np.testing.assert_array_equal(shifted('prediction_2'), plain)
  for before in ('contrastive_0', 'prediction_0'):
    assert np.abs(shifted(before) - plain).max() > 1e-3
    assert np.abs(shifted(before) - plain - step).max() > 1e-3


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
  audio = tiny_w2vbert.play(1, 0.5)[:, :num_samples]
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
  audio = tiny_w2vbert.play(1, 2.0)
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
  audio = tiny_w2vbert.play(1, 0.5)
  variables = jax.jit(module.init)(jax.random.PRNGKey(0), audio)
  last = jax.jit(
      lambda a: module.apply(variables, a, method='features'))(audio)
  head = variables['params']['logits']
  out = jax.jit(lambda a: module.apply(variables, a))(audio)  # nothing masked
  np.testing.assert_allclose(
      last @ head['kernel'] + head['bias'], out.prediction_logits, atol=1e-4)
  with pytest.raises(errors.UserError, match='1 to 2'):
    dataclasses.replace(TINY, feature_block=3)



def test_standardised_features_have_mean_0_and_deviation_1_over_valid_steps():
  rng = np.random.default_rng(0)
  features = (3.0 + 2.0 * rng.normal(size=(2, 50, 4))).astype(np.float32)
  valid = np.ones((2, 50), bool)
  valid[1, 20:] = False
  features[1, 20:] = 1e3
  out = np.asarray(w2vbert_model.standardize(features, valid))[valid]
  np.testing.assert_allclose(out.mean(0), 0.0, atol=1e-4)
  np.testing.assert_allclose(out.std(0), 1.0, atol=1e-3)
