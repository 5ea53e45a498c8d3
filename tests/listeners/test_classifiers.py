"""Classifiers by name: small models in each format, segments, mistakes."""

import json
import sys

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.listeners import classifiers

_RATE = 16_000


def _onnx(path, last='N'):
  """mean(x) * [1, -1, 2] and 0.5 beside it, of x [1, N]."""
  onnx = pytest.importorskip('onnx')
  helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
  weights = helper.make_tensor('w', float32, [3], [1.0, -1.0, 2.0])
  graph = helper.make_graph(
      [helper.make_node('ReduceMean', ['audio'], ['m'], keepdims=1),
       helper.make_node('Mul', ['m', 'w'], ['out'])],
      'fake', [helper.make_tensor_value_info('audio', float32, [1, last])],
      [helper.make_tensor_value_info('out', float32, [1, 3])], [weights])
  onnx.save(helper.make_model(
      graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=9), path)


class _Session:
  """An onnxruntime session of a file that says its input's length."""

  def __init__(self, path, providers):
    del providers
    text = open(path, encoding='utf-8').read()
    if text == 'damaged':
      raise RuntimeError('no graph\nin it')
    self._shape = [1, int(text)] if text else [1, 'samples']

  def get_inputs(self):
    class Input:
      name, shape = 'audio', self._shape
    return [Input]

  def run(self, outputs, feed):
    assert outputs is None
    (audio,) = feed.values()
    assert audio.dtype == np.float32 and audio.shape[0] == 1
    if isinstance(self._shape[1], int):
      assert audio.shape[1] == self._shape[1]
    return [audio.mean(1, keepdims=True) * np.float32([1, -1, 2])]


@pytest.fixture(name='runtime')
def _runtime(monkeypatch):
  import types  # pylint: disable=g-import-not-at-top
  monkeypatch.setitem(sys.modules, 'onnxruntime', types.SimpleNamespace(
      InferenceSession=_Session))


def _folder(tmp_path, text='', about=None, name='judge'):
  folder = tmp_path / name
  folder.mkdir()
  (folder / 'model.onnx').write_text(text)
  if about is not None:
    (folder / classifiers.ABOUT).write_text(json.dumps(about))
  return folder


def _steps(seconds, values, rate=_RATE):
  """[1, N] of one value after the other."""
  return np.concatenate([np.full(int(seconds * rate), v) for v in values])[
      None].astype(np.float32)


def test_logits_are_the_mean_over_segments(tmp_path, runtime):
  folder = _folder(tmp_path, about=dict(
      sample_rate_hz=_RATE, segment_seconds=2, classes=['a', 'b', 'c']))
  found = classifiers.by_name(f'mine={folder}')
  assert (found.name, found.sample_rate_hz, found.classes) == (
      'mine', _RATE, ('a', 'b', 'c'))
  whole = found.logits(_steps(2, (0.1, 0.4)))
  np.testing.assert_allclose(whole, [[0.25, -0.25, 0.5]], rtol=1e-5)
  # Half a second at the end is not heard, one second counts as a segment.
  short = np.concatenate([_steps(2, (0.1,)), _steps(0.5, (0.4,))], 1)
  np.testing.assert_allclose(found.logits(short)[0, 0], 0.1, rtol=1e-5)
  long = np.concatenate([_steps(2, (0.1,)), _steps(1.0, (0.4,))], 1)
  np.testing.assert_allclose(found.logits(long)[0, 0], 0.25, rtol=1e-5)
  # All there is, is heard.
  np.testing.assert_allclose(
      found.logits(_steps(0.2, (0.3,)))[0, 0], 0.3, rtol=1e-5)


def test_a_model_of_fixed_length_gets_it(tmp_path, runtime):
  folder = _folder(tmp_path, '32000', dict(
      sample_rate_hz=_RATE, outputs='probabilities'))
  found = classifiers.by_name(str(folder))
  assert found.name == 'judge'
  logits = found.logits(_steps(1, (0.5,)))  # with a second of zeros: mean 0.25
  np.testing.assert_allclose(
      logits, [np.log([0.25 / 0.75, 1e-6 / (1 - 1e-6), 1.0])], atol=1e-4)
  assert found.classes == ('0', '1', '2')


def test_passt_needs_no_words(tmp_path, runtime):
  found = classifiers.by_name(f'passt={_folder(tmp_path)}')
  assert (found.sample_rate_hz, found.segment_seconds) == (32_000, 10.0)


def test_the_digest_is_that_of_the_weights(tmp_path, runtime):
  about = dict(sample_rate_hz=_RATE)
  places = [_folder(tmp_path, text, about, name) for text, name in (
      ('', 'a'), ('', 'b'), ('7', 'c'))]
  a, b, c = [classifiers.by_name(str(p)).digest for p in places]
  assert a == b != c and len(a) == 16


@pytest.mark.parametrize('text, about, words', [
    ('', None, 'does not say at which rate'),
    ('', dict(sample_rate_hz='fast'), 'sample_rate_hz'),
    ('', dict(sample_rate_hz=1, outputs='odds'), 'logits, probabilities'),
    ('', dict(sample_rate_hz=1, segment_seconds=30), 'up to 10'),
    ('damaged', dict(sample_rate_hz=1), 'no model .*no graph')])
def test_mistakes_are_one_line(tmp_path, runtime, text, about, words):
  with pytest.raises(errors.UserError, match=words) as caught:
    classifiers.by_name(str(_folder(tmp_path, text, about)))
  assert '\n' not in str(caught.value)


def test_names_that_do_not_fit_the_classes_are_refused(tmp_path, runtime):
  folder = _folder(tmp_path, about=dict(sample_rate_hz=8, classes=['one']))
  with pytest.raises(errors.UserError, match='3 numbers and names 1'):
    classifiers.by_name(str(folder)).logits(np.ones((1, 8), np.float32))


def test_what_is_not_there_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='expected musicnn, or NAME=PATH'):
    classifiers.by_name('pasts')
  (tmp_path / 'notes.txt').write_text('')
  with pytest.raises(errors.UserError, match='expected an .onnx file'):
    classifiers.by_name(str(tmp_path / 'notes.txt'))
  with pytest.raises(errors.UserError, match='holds 0 ONNX files'):
    classifiers.by_name(str(tmp_path))


def test_a_missing_runtime_names_the_command(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(errors.UserError, match=r'pip install "musiclm_jax\[eval\]'):
    classifiers.by_name(str(_folder(tmp_path)))


def test_a_real_onnx_file(tmp_path):
  pytest.importorskip('onnxruntime')
  _onnx(str(tmp_path / 'judge.onnx'))
  (tmp_path / classifiers.ABOUT).write_text('{"sample_rate_hz": 16000}')
  found = classifiers.by_name(str(tmp_path / 'judge.onnx'))
  np.testing.assert_allclose(
      found.logits(_steps(1, (0.5,))), [[0.5, -0.5, 1.0]], rtol=1e-5)


@pytest.mark.slow
def test_a_saved_model(tmp_path):
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  class Fake(tf.Module):

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def __call__(self, waveform):
      mean = tf.reduce_mean(waveform, 1, keepdims=True)
      return dict(logits=mean * tf.constant([1.0, -1.0, 2.0]))

  tf.saved_model.save(Fake(), str(tmp_path / 'judge'))
  (tmp_path / 'judge' / classifiers.ABOUT).write_text(
      '{"sample_rate_hz": 16000}')
  found = classifiers.by_name(f'saved={tmp_path / "judge"}')
  np.testing.assert_allclose(
      found.logits(np.concatenate([_steps(1, (0.5,)), _steps(1, (-1.0,))])),
      [[0.5, -0.5, 1.0], [-1.0, 1.0, -2.0]], rtol=1e-5)


@pytest.mark.hf
def test_a_folder_of_transformers(tmp_path):
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  torch.manual_seed(0)
  config = transformers.ASTConfig(
      hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
      intermediate_size=16, max_length=128, num_mel_bins=16,
      id2label={0: 'speech', 1: 'music'}, label2id={'speech': 0, 'music': 1})
  extractor = transformers.ASTFeatureExtractor(
      sampling_rate=_RATE, num_mel_bins=16, max_length=128)
  model = transformers.ASTForAudioClassification(config).eval()
  model.save_pretrained(tmp_path)
  extractor.save_pretrained(tmp_path)
  found = classifiers.by_name(f'ast={tmp_path}')
  assert found.classes == ('speech', 'music') and found.sample_rate_hz == _RATE
  audio = np.random.default_rng(0).standard_normal((2, 16_000)).astype(
      np.float32)
  given = extractor(list(audio), sampling_rate=_RATE, return_tensors='pt')
  with torch.inference_mode():
    expected = model(**given).logits.numpy()
  np.testing.assert_allclose(found.logits(audio), expected, atol=1e-5)


def test_musicnn_is_its_tags_as_logits():
  from musiclm_jax.listeners import musicnn  # pylint: disable=g-import-not-at-top
  found = classifiers.by_name('musicnn')
  assert found.classes == musicnn.MTT_TAGS and found.sample_rate_hz == _RATE
  assert classifiers.described(found) == dict(
      digest=found.digest, sample_rate_hz=_RATE, segment_seconds=10.0,
      classes=50,
      classes_digest=classifiers.described(found)['classes_digest'])
  audio = 0.1 * np.random.default_rng(0).standard_normal((1, 48_000))
  tags = musicnn.MusicNN.load().tag(audio, _RATE)
  logits = found.logits(audio)
  np.testing.assert_allclose(
      1 / (1 + np.exp(-logits)), np.clip(tags, 1e-6, 1), rtol=1e-4, atol=1e-7)
