"""Embedders of local files: tiny networks whose vectors are known."""

import json

import numpy as np
import pytest
import small_onnx

from musiclm_jax import errors
from musiclm_jax.listeners import embedders
from musiclm_jax.listeners import local_models
from musiclm_jax.listeners import vggish_frontend

_RATE = 16_000


def _audio(samples, seed=0):
  return np.random.default_rng(seed).normal(size=samples).astype(np.float32)


def _matrix(size=8, dimensions=3, seed=9):
  return np.random.default_rng(seed).normal(
      size=(size, dimensions)).astype(np.float32)


def _settings(path, **values):
  path.write_text(json.dumps(values))


@pytest.fixture(name='model')
def _model(tmp_path):
  """An ONNX file of windows of 8 samples, every 4."""
  _settings(tmp_path / 'tiny.json', sample_rate_hz=_RATE, window_samples=8,
            hop_samples=4)
  return small_onnx.linear(tmp_path / 'tiny.onnx', _matrix())


def test_onnx_of_waveforms(model):
  embedder = embedders.by_name(str(model))
  assert (embedder.name, embedder.sample_rate_hz) == ('tiny', _RATE)
  assert (embedder.window_samples, embedder.hop_samples) == (8, 4)
  audio = _audio(22)  # windows from 0, 4, 8, 12; two samples are left over
  windows = np.stack([audio[i:i + 8] for i in (0, 4, 8, 12)])
  np.testing.assert_allclose(
      embedder.embed(audio), windows @ _matrix(), rtol=1e-5, atol=1e-6)
  # Shorter than a window: zeros behind it.
  np.testing.assert_allclose(
      embedder.embed(audio[:5]), np.pad(audio[:5], (0, 3))[None] @ _matrix(),
      rtol=1e-5, atol=1e-6)


def test_clips_share_batches_and_keep_their_vectors(model):
  embedder = embedders.by_name(f'mine={model}')
  assert embedder.name == 'mine'
  sounds = [_audio(n, n) for n in (8, 131, 8, 12, 300, 3)]
  found = list(embedder.embed_each(sounds))
  assert [len(f) for f in found] == [1, 31, 1, 2, 74, 1]
  for sound, vectors in zip(sounds, found):
    np.testing.assert_allclose(
        vectors, embedder.embed(sound), rtol=1e-5, atol=1e-6)


def test_a_fixed_batch_is_filled_up(tmp_path):
  path = small_onnx.linear(tmp_path / 'three.onnx', _matrix(), batch=3)
  _settings(tmp_path / 'three.json', sample_rate_hz=_RATE, window_samples=8,
            hop_samples=8)
  audio = _audio(40)
  np.testing.assert_allclose(
      embedders.by_name(str(path)).embed(audio),
      audio.reshape(5, 8) @ _matrix(), rtol=1e-5, atol=1e-6)


def test_the_digest_is_of_the_weights(model, tmp_path):
  before = embedders.by_name(str(model)).about()
  small_onnx.linear(model, _matrix(seed=10))
  after = embedders.by_name(str(model)).about()
  assert {k for k in before if before[k] != after[k]} == {'digest'}
  _settings(tmp_path / 'tiny.json', sample_rate_hz=_RATE, window_samples=8,
            hop_samples=8)
  moved = embedders.by_name(str(model)).about()
  assert {k for k in after if moved[k] != after[k]} == {'hop_samples'}


def test_vggish_in_onnx_hears_its_examples(tmp_path):
  # The preset: seconds every half second, divided by the largest sample.
  matrix = _matrix(64, 5)
  small_onnx.of_examples(tmp_path / 'vggish.onnx', matrix)
  embedder = embedders.by_name(f'vggish={tmp_path}')
  assert (embedder.window_samples, embedder.hop_samples) == (16_000, 8_000)
  audio = 0.02 * _audio(25_000)
  audio[100] = -0.9  # not the largest sample: that is what the authors take
  level = max(0.1, audio.max())
  wanted = [vggish_frontend.examples(audio[None, i:i + 16_000] / level)[0, 0]
            .sum(0) @ matrix for i in (0, 8_000)]
  np.testing.assert_allclose(embedder.embed(audio), wanted, rtol=1e-3)
  assert embedder.about()['peak'] and embedder.about()['input'] == 'log_mel'


def _saved_model(folder, call, signature=False):
  """Saves a model whose call is `call(tf, model)`, a tf.function."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  model = tf.Module()
  model.matrix = tf.Variable(_matrix(80, 3))
  model.__call__ = call(tf, model)
  tf.saved_model.save(model, str(folder), signatures=(
      {'serving_default': model.__call__} if signature else None))
  return folder


def _trill(tf, model):
  """TF-Hub's form: [N] samples and a rate; frames by itself."""

  @tf.function(input_signature=[tf.TensorSpec([None], tf.float32),
                                tf.TensorSpec([], tf.int32)])
  def call(samples, sample_rate):
    frames = tf.signal.frame(samples, 80, 20)
    vectors = frames @ model.matrix
    return {'embedding': vectors * tf.cast(sample_rate, tf.float32) / 16_000,
            'layer19': frames}

  return call


def _batched(tf, model):
  @tf.function(input_signature=[tf.TensorSpec([None, 80], tf.float32)])
  def call(waveform):
    return {'embedding': waveform @ model.matrix}

  return call


def test_a_saved_model_that_cuts_by_itself(tmp_path):
  folder = _saved_model(tmp_path / 'trill', _trill)
  _settings(folder / 'embedder.json', window_samples=80, hop_samples=20)
  embedder = embedders.by_name(f'trill={folder}')
  audio = _audio(400)
  wanted = np.stack([audio[i:i + 80] for i in range(0, 321, 20)])
  np.testing.assert_allclose(
      embedder.embed(audio), wanted @ _matrix(80, 3), rtol=1e-4, atol=1e-5)
  assert embedder.embed(audio[:30]).shape == (1, 3)
  _settings(folder / 'embedder.json', window_samples=80, hop_samples=40)
  with pytest.raises(errors.UserError, match='one every 20.*hop_samples 40'):
    embedders.by_name(f'trill={folder}').embed(audio)
  _settings(folder / 'embedder.json', window_samples=80, hop_samples=20,
            output='logits')
  with pytest.raises(errors.UserError, match='known: embedding, layer19'):
    embedders.by_name(f'trill={folder}').embed(audio)


def test_a_saved_model_with_a_signature(tmp_path):
  folder = _saved_model(tmp_path / 'mine', _batched, signature=True)
  _settings(folder / 'embedder.json', sample_rate_hz=_RATE, window_samples=80,
            hop_samples=80)
  embedder = embedders.by_name(str(folder))
  audio = _audio(240)
  np.testing.assert_allclose(
      embedder.embed(audio), audio.reshape(3, 80) @ _matrix(80, 3), rtol=1e-4,
      atol=1e-5)
  digest = embedder.digest
  variables = folder / 'variables' / 'variables.data-00000-of-00001'
  variables.write_bytes(variables.read_bytes()[:-1] + b'x')
  assert local_models.digest_of(folder) != digest


@pytest.mark.parametrize('values, match', [
    (dict(window_samples=8, hop_samples=4), 'does not say its sample_rate_hz'),
    (dict(sample_rate=1), "unknown setting in .* 'sample_rate'; known: argum"),
    (dict(sample_rate_hz='16k'), 'sample_rate_hz is text; expected a number'),
    (dict(pool='max'), "unknown pool of an embedder 'max'; known: mean, none"),
    (dict(hop_samples=-1), 'hop_samples of an embedder is -1'),
    (dict(input='log_mel'), 'takes 2 dimensions, which is no log_mel'),
    (dict(output='logits'), "unknown output of .* 'logits'; known: embedding")])
def test_settings_that_do_not_fit(model, values, match):
  _settings(model.with_suffix('.json'), **values)
  with pytest.raises(errors.UserError, match=match):
    embedders.by_name(str(model))


@pytest.mark.parametrize('name, match', [
    ('vggish', 'write vggish=PATH'),
    ('openl3', "unknown embedder 'openl3'; expected musicnn, musicnn_msd"),
    ('vggish=/nowhere', 'the embedder /nowhere does not exist'),
    ('musicnn=/nowhere', 'no name of its own')])
def test_names_that_name_nothing(name, match):
  with pytest.raises(errors.UserError, match=match):
    embedders.by_name(name)


def test_files_that_are_no_model(tmp_path):
  (tmp_path / 'bad.onnx').write_bytes(b'not a model')
  with pytest.raises(errors.UserError, match='no ONNX model that onnxruntime'):
    embedders.by_name(str(tmp_path / 'bad.onnx'))
  (tmp_path / 'bad.json').write_text('{')
  with pytest.raises(errors.UserError, match='bad.json is not JSON'):
    embedders.by_name(str(tmp_path / 'bad.onnx'))
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UserError, match='no model that is known'):
    embedders.by_name(str(tmp_path / 'empty'))


def test_nan_is_the_models_fault(tmp_path):
  matrix = _matrix()
  matrix[0, 0] = np.nan
  _settings(tmp_path / 'nan.json', sample_rate_hz=_RATE, window_samples=8,
            hop_samples=4)
  embedder = embedders.by_name(str(
      small_onnx.linear(tmp_path / 'nan.onnx', matrix)))
  with pytest.raises(errors.UserError, match='nan gave numbers that are not'):
    embedder.embed(_audio(8))


@pytest.mark.hf
def test_clap_and_mert_of_local_folders(tmp_path):
  import small_foreign  # pylint: disable=g-import-not-at-top
  folder = small_foreign.clap(tmp_path / 'clap')
  clap = embedders.by_name(f'clap={folder}')
  assert (clap.sample_rate_hz, clap.window_samples, clap.hop_samples) == (
      48_000, 480_000, 48_000)
  audio = 0.1 * _audio(12 * 48_000)
  found = clap.embed(audio)
  assert found.shape == (3, 12)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(
      found[1], clap.embed(audio[48_000:11 * 48_000])[0], atol=1e-4)

  folder = small_foreign.encoder('mert', tmp_path / 'mert')
  mert = embedders.by_name(f'mert={folder}')
  assert (mert.sample_rate_hz, mert.window_samples, mert.hop_samples) == (
      24_000, 120_000, 120_000)
  assert mert.about()['layer'] == 3
  audio = 0.1 * _audio(240_000)
  found = mert.embed(audio)
  assert found.shape == (2, 16)
  _settings(folder / 'embedder.json', pool='none', layer=2)
  frames = embedders.by_name(f'mert={folder}').embed(audio)
  assert frames.shape == (2 * 375, 16)
  _settings(folder / 'embedder.json', pool='none')
  frames = embedders.by_name(f'mert={folder}').embed(audio)
  np.testing.assert_allclose(
      frames.reshape(2, 375, 16).mean(1), found, atol=1e-4)
  _settings(folder / 'embedder.json', layer=4)
  with pytest.raises(errors.UserError, match='layer of an embedder is 4'):
    embedders.by_name(f'mert={folder}')
