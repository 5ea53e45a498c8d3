"""Sequences against `Layout.build` on codes made from the rules alone."""

import fake_tokens
import numpy as np
import pytest
import tensorflow as tf

from musiclm_jax import specs
from musiclm_jax.nn import quantize
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import preprocessors
from musiclm_jax.tokens import tasks

WHOLE = [45, 33, 12, 7, 3]


def stage(name, crop=0, conditions=()):
  return specs.StageSpec(name, fake_tokens.TOKENS, crop, conditions)


@pytest.fixture(name='examples', scope='module')
def examples_fixture(cache_dir):
  cache = cache_lib.Cache(cache_dir)
  stored = cache.records('train')
  return [tasks.parse(stored.read(i), cache.described()) for i in range(len(WHOLE))]


@pytest.mark.parametrize('spec', [
    stage('semantic'), stage('semantic', 5), stage('coarse'),
    stage('coarse', 4), stage('fine'), stage('coarse', 10, ('mulan',)),
    stage('fine', 3, ('mulan', 'coarse')), stage('fine', 12)],
                         ids=lambda s: f'{s.name}{s.crop_seconds}'
                                       f'{len(s.conditions)}')
def test_sequences_equal_layout_build(spec, examples):
  layout = layout_lib.for_stage(spec)
  for track, example in enumerate(examples):
    for seed in range(3):
      start = int(preprocessors.crop_start(
          example['seconds'], spec.crop_seconds, [seed, track]))
      found = preprocessors.crop_and_build(
          example, [seed, track], spec, dict(mulan=fake_tokens.Joint.codebooks))
      codes = fake_tokens.crop_codes(
          track, WHOLE[track], start, spec.crop_seconds)
      expected = layout.build({s.name: codes[s.name] for s in layout.segments})
      np.testing.assert_array_equal(
          np.concatenate([found['inputs'], found['targets']]), expected)
      assert found['targets'].shape == [layout.target.length]
      assert found['targets'].dtype == tf.int32


def test_crops_start_on_every_second_that_fits():
  starts = {int(preprocessors.crop_start(tf.constant(13), 10, [3, i]))
            for i in range(64)}
  assert starts == {0, 1, 2, 3}
  assert int(preprocessors.crop_start(tf.constant(7), 10, [3, 0])) == 0


def windows(count):
  """Unit vectors e_0, e_1 ..: a mean shows which windows are in it."""
  return tf.eye(count, 64)


@pytest.mark.parametrize('count, start, crop, chosen', [
    (36, 6, 30, range(6, 27)),  # paper: 30 s has 21 windows
    (36, 35, 10, [35]),  # paper: 10 s has one
    (3, 0, 30, range(3)),  # a track of 12 s in a crop of 30 s
    (1, 0, 30, [0]),  # a track under 10 s: its zero-padded window
    (36, 20, 3, [16]),  # 20..23 s lies in the middle of 16..26 s
    (36, 0, 3, [0]), (36, 42, 3, [35]),
])
def test_the_windows_of_a_crop(count, start, crop, chosen):
  found = preprocessors.crop_embedding(
      windows(count), tf.constant(start), crop, specs.JointSpec()).numpy()
  expected = np.zeros(64)
  expected[list(chosen)] = 1 / np.sqrt(len(chosen))
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_quantize_against_the_definition():
  rng = np.random.default_rng(1)
  for vector in rng.standard_normal((50, 8)).astype(np.float32):
    np.testing.assert_array_equal(
        preprocessors.quantize(tf.constant(vector),
                               fake_tokens.Joint.codebooks),
        fake_tokens.residual_codes(vector))


def test_quantize_agrees_with_the_embedders():
  """Prompts are quantised by nn.quantize: both must land in the same cell."""
  rng = np.random.default_rng(2)
  codebooks = rng.standard_normal((12, 64, 128)).astype(np.float32)
  vectors = rng.standard_normal((20, 128)).astype(np.float32)
  expected = np.asarray(quantize.rvq_encode(vectors, codebooks))
  found = [preprocessors.quantize(tf.constant(v), codebooks) for v in vectors]
  np.testing.assert_array_equal(np.stack(found), expected)


def test_a_track_stands_for_each_of_its_whole_crops():
  dataset = tf.data.Dataset.from_tensor_slices(
      dict(seconds=np.array([45, 3, 20], np.int32)))
  repeated = preprocessors.crops_by_length(dataset, 10)
  assert [int(e['seconds']) for e in repeated] == [45] * 4 + [3] + [20] * 2


def test_melody_is_refused_by_name(examples):
  with pytest.raises(ValueError, match="no 'melody'"):
    preprocessors.crop_and_build(
        examples[0], [0, 0], stage('semantic', 30, ('melody',)),
        dict(mulan=fake_tokens.Joint.codebooks))
