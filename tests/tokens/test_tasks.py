"""The seqio tasks: through seqio alone, and never without their cache."""

import dataclasses

import fake_tokens
import numpy as np
import pytest
import seqio
from seqio import test_utils
import tensorflow as tf

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import tasks
from musiclm_jax.tokens import vocabularies


@pytest.fixture(name='names', scope='module')
def names_fixture(cache_dir):
  names = tasks.register(cache_dir)
  yield names
  for name in names:
    seqio.TaskRegistry.remove(name)


def test_names_vocabularies_and_splits(names):
  assert names == ['musiclm_semantic', 'musiclm_coarse', 'musiclm_fine']
  # Padding, separators, and 16 ids for each codebook.
  sizes = [2 + (3 + 1) * 16, 3 + (3 + 1 + 4) * 16, 2 + 12 * 16]
  for name, size in zip(names, sizes):
    task = seqio.get_mixture_or_task(name)
    assert list(task.output_features) == ['inputs', 'targets']
    for feature in task.output_features.values():
      assert feature.vocabulary.vocab_size == size
    assert sorted(task.splits) == ['train', 'validation']


@pytest.mark.parametrize('name, size', [
    ('semantic', 1 + 1 + 13 * 1024), ('coarse', 1 + 2 + 17 * 1024),
    ('fine', 1 + 1 + 12 * 1024)])
def test_paper_vocabularies(name, size):
  stage = specs.StageSpec(name)
  assert vocabularies.stage_vocabulary(stage).vocab_size == size


def test_registering_twice_replaces(names, cache_dir):
  assert tasks.register(cache_dir) == names


@pytest.mark.parametrize('name', ['semantic', 'coarse', 'fine'])
def test_seqio_get_dataset_gives_true_sequences(names, name):
  stage = specs.StageSpec(name, fake_tokens.TOKENS)
  layout = layout_lib.for_stage(stage)
  dataset = seqio.get_dataset(
      f'musiclm_{name}', crops.feature_lengths(stage),
      feature_converter.StageFeatureConverter(), dataset_split='train',
      use_cached=True, shuffle=True, seed=3, num_epochs=1)
  rows = list(dataset.as_numpy_iterator())
  counts = [max(1, s // stage.crop_seconds) for s in (45, 33, 12, 7, 3)]
  assert len(rows) == sum(counts)
  for row in rows:
    codes = layout.split(row['decoder_target_tokens'])
    target = codes[layout.target.name]
    # Level q is the mark plus q, as the fake codec has it.
    steps = (target - target[:, :1])[target[:, 0] >= 0]
    np.testing.assert_array_equal(
        steps % 16, np.broadcast_to(np.arange(target.shape[1]), steps.shape))
    ended = np.repeat(target[:, 0] < 0, target.shape[1])
    np.testing.assert_array_equal(
        row['decoder_loss_weights'],
        np.concatenate([np.zeros(layout.target.start), ~ended]))


def test_live_tokenisation_is_refused(names):
  task = seqio.get_mixture_or_task(names[0])
  with pytest.raises(ValueError, match='requires caching'):
    task.get_dataset(None, 'train', use_cached=False)
  with pytest.raises(ValueError, match='without its cache'):
    task.source.get_dataset('train')


def test_register_refuses_another_spec(cache_dir):
  tokens = dataclasses.replace(
      fake_tokens.TOKENS, joint=specs.JointSpec(num_codebooks=12))
  with pytest.raises(errors.UserError, match='joint.num_codebooks: 3, expected'):
    tasks.register(cache_dir, [specs.StageSpec('semantic', tokens)])


@pytest.mark.parametrize('lengths', [
    {'inputs': 4, 'targets': 100}, {'inputs': 4, 'targets': 2000},
    {'inputs': 3, 'targets': 750}])
@pytest.mark.parametrize('shuffle', [True, False])
def test_nothing_is_cut_or_padded_in_silence(names, lengths, shuffle):
  del names
  with pytest.raises(errors.UserError, match="crops of 30 s have {'inputs': 4"):
    seqio.get_dataset(
        'musiclm_semantic', lengths, feature_converter.StageFeatureConverter(),
        use_cached=True, shuffle=shuffle)


def test_sizes_count_crops(names):
  task = seqio.get_mixture_or_task('musiclm_fine')
  assert names[2] == task.name
  # Tracks of 45, 33, 12, 7 and 3 s; the one under a second is not there.
  assert task.num_input_examples('train') == 5
  assert task.get_cached_stats('train')['examples'] == 15 + 11 + 4 + 2 + 1
  assert seqio.mixing_rate_num_examples(task) == 33
  assert task.get_cached_stats('validation')['examples'] == 10 + 4


def test_examples_say_which_crop_they_are_of(names):
  stage = specs.StageSpec('coarse', fake_tokens.TOKENS)
  layout = layout_lib.for_stage(stage)
  task = seqio.get_mixture_or_task(names[1])
  rows = list(task.get_dataset(None, 'validation', use_cached=True, seed=5,
                               shuffle=False).as_numpy_iterator())
  assert len(rows) == 4
  for row in rows:
    track = int(row['id'][-1:])
    assert row['id'] == b'validation%d' % track
    assert list(row['captions']) == [b'tune %d' % track, b'lively']
    codes = fake_tokens.crop_codes(
        track, (31, 14)[track], row['crop_start'], stage.crop_seconds)
    np.testing.assert_array_equal(
        np.concatenate([row['inputs'], row['targets']]),
        layout.build({name: codes[name] for name in (
            'mulan', 'semantic', 'coarse')}))


@pytest.mark.parametrize('name', ['semantic', 'coarse', 'fine'])
def test_by_the_test_utilities_of_seqio(names, name):
  """What the task gives is what the layout makes of the crop's own codes."""
  assert f'musiclm_{name}' in names
  stage = specs.StageSpec(name, fake_tokens.TOKENS)
  layout = layout_lib.for_stage(stage)
  dataset = seqio.get_mixture_or_task(f'musiclm_{name}').get_dataset(
      None, 'validation', use_cached=True, seed=5, shuffle=False)
  expected = []
  for row in dataset.as_numpy_iterator():
    track = int(row['id'][-1:])
    codes = fake_tokens.crop_codes(
        track, (31, 14)[track], row['crop_start'], stage.crop_seconds)
    whole = layout.build({p.name: codes[p.name] for p in layout.placed})
    start = layout.target.start
    expected.append(dict(
        inputs=whole[:start], targets=whole[start:], crop_start=row['crop_start'],
        id=b'validation%d' % track, captions=[b'tune %d' % track, b'lively']))
  assert len(expected) == {'semantic': 2, 'coarse': 4, 'fine': 14}[name]
  test_utils.assert_dataset(dataset, expected, expected_dtypes={
      'inputs': tf.int32, 'targets': tf.int32})
