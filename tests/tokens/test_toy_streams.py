"""Streams that exist only here go all the way to a stage's loss.

A system of one stage: chords, two a second, after what the crop is about and a
key for each window of 4 s, every 3 s. No module knows any of these names.
"""

import fake_tokens
import jax
import numpy as np
import pytest
import tensorflow as tf
import tiny_stage

from musiclm_jax import specs
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.systems.musiclm.stages import codebook_embeddings
from musiclm_jax.systems.musiclm.stages import model
from musiclm_jax.tokens import conditioning
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import preprocessors

SECONDS, CROP = 12, 7
_BOOKS = dict(about=fake_tokens.Joint.codebooks)  # 3 x 16 codes, 8 dimensions


def _toy_streams(tokens):
  del tokens
  return (
      specs.StreamSpec('topic', 'about', 3, 16, kind=specs.CROP,
                       window_seconds=2, window_stride_seconds=2),
      specs.StreamSpec('keys', 'keys', 2, 24, kind=specs.WINDOWS,
                       window_seconds=4, window_stride_seconds=3),
      specs.StreamSpec('chords', 'harmony', 1, 100, rate_hz=2, first_level=1,
                       source_codebooks=3))


@pytest.fixture(name='stage')
def _stage(monkeypatch):
  monkeypatch.setattr(specs, '_SYSTEMS', dict(specs._SYSTEMS))  # pylint: disable=protected-access
  specs.register(specs.SystemSpec('toy', _toy_streams, (
      specs.StageDefaults('chords', ('topic', 'keys'), CROP),)))
  return specs.StageSpec('chords')


def _features():
  """A track: embeddings every 2 s, keys every second, 3 x 24 of harmony."""
  rng = np.random.default_rng(0)
  return dict(
      about=rng.standard_normal((SECONDS // 2, 8)).astype(np.float32),
      keys=rng.integers(0, 24, (SECONDS - 3, 2)).astype(np.int32),
      harmony=rng.integers(0, 100, (SECONDS * 2, 3)).astype(np.int32))


def _expected(features, start):
  """{segment: [T, Q]} of a crop, written out."""
  # Windows of 2 s, one every 2 s: a crop of 7 s has three.
  mean = features['about'][start // 2:start // 2 + 3].mean(0)
  padded = lambda rows, count: np.pad(
      rows, ((0, count - len(rows)), (0, 0)), constant_values=-1)
  return dict(
      topic=fake_tokens.residual_codes(mean / np.linalg.norm(mean))[None],
      keys=padded(features['keys'][[s for s in (start, start + 3)
                                    if s < SECONDS - 3]], 2),
      chords=features['harmony'][start * 2:(start + CROP) * 2, 1:2])


def _example(features):
  return dict(
      id=tf.constant('t'), seconds=tf.constant(SECONDS),
      captions=tf.constant(['c']), about=tf.constant(features['about']),
      keys=tf.constant(features['keys']),
      harmony=tf.constant(features['harmony'].reshape(-1)))


def test_the_layout(stage):
  layout = layout_lib.for_stage(stage)
  assert [(p.name, p.start, p.stop, p.first_id) for p in layout.placed] == [
      ('topic', 0, 3, 3), ('keys', 4, 8, 51), ('chords', 9, 23, 99)]
  seconds = layout.input_seconds()
  assert np.isnan(seconds[:5]).all()
  assert seconds[5:9].tolist() == [0, 0, 3, 3]
  assert seconds[10:13].tolist() == [0, 0.5, 1]


def test_the_sequences_of_every_crop(stage):
  layout, features, starts = layout_lib.for_stage(stage), _features(), set()
  for number in range(24):
    seed = [3, number]
    start = int(preprocessors.crop_start(SECONDS, CROP, seed))
    built = preprocessors.crop_and_build(
        _example(features), seed, stage, _BOOKS)
    np.testing.assert_array_equal(
        np.concatenate([built['inputs'], built['targets']]),
        layout.build(_expected(features, start)))
    starts.add(start)
  assert starts == set(range(SECONDS - CROP + 1))


def test_what_a_stage_does_without(stage):
  layout = layout_lib.for_stage(stage)
  built = preprocessors.crop_and_build(
      _example(_features()), [3, 0], stage, _BOOKS,
      conditioning.Conditioning({'keys': 1.0}))
  assert not np.any(built['inputs'][4:8]) and np.all(built['inputs'][:3])
  assert len(built['inputs']) == layout.target.start
  with pytest.raises(ValueError, match="no 'keys'.*chords stage"):
    example = _example(_features())
    del example['keys']
    preprocessors.crop_and_build(example, [3, 0], stage, _BOOKS)


def test_a_batch_has_a_loss(stage):
  """From records through the feature converter into the network."""
  example = dict(_example(_features()), crop_seed=tf.constant([3, 1]))
  dataset = preprocessors.build_sequences(
      tf.data.Dataset.from_tensors(example), stage, _BOOKS)
  batch = next(feature_converter.StageFeatureConverter()(
      dataset, dict(inputs=9, targets=14)).batch(1).as_numpy_iterator())
  trainable = model.StageModel(stage, tiny_stage.config(
      num_layers=1, embed_stddev=0.2))
  params = tiny_stage.init(trainable)
  loss, metrics = jax.jit(trainable.loss)(params, batch)
  assert batch['decoder_loss_weights'].sum() == 14
  assert float(loss) == pytest.approx(np.log(100), rel=0.5)
  assert 'loss_level_1' not in metrics  # one codebook
  # The source's second level is what the chords begin from.
  books = dict(harmony=np.random.default_rng(1).standard_normal((3, 100, 4)))
  begun = [codebook_embeddings.embeddings(
      params, trainable.layout, dict(harmony=vectors), 0.2, jax.random.key(0),
      stage.sources)['logits_embedding'] for vectors in (
          books['harmony'], books['harmony'] * [[[9.]], [[1.]], [[9.]]],
          books['harmony'][::-1] * [[[1.]], [[-1.]], [[1.]]])]
  np.testing.assert_array_equal(begun[0], begun[1])
  assert np.abs(begun[0] - begun[2]).max() > 0.1


def test_an_evaluation_takes_the_same_codes(stage):
  features = _features()
  streams = streams_lib.Streams(
      {name: value[None] for name, value in features.items()},
      np.array([SECONDS]))

  class Joint:

    def quantize(self, embeddings):
      return np.stack([fake_tokens.residual_codes(x) for x in embeddings])

  layout = layout_lib.for_stage(stage)
  found = streams_lib.stage_codes(stage, streams, 4, Joint())
  expected = _expected(features, 4)
  assert set(found) == set(expected)
  for name, codes in expected.items():
    np.testing.assert_array_equal(found[name][0], codes)
  batch = streams_lib.stage_batch(layout, layout.build(found))
  assert batch['decoder_loss_weights'].sum() == layout.target.length
