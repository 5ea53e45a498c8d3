"""Crops in a random order: mixed, complete, in shares, and to be gone on with."""

import collections

import fake_tokens
import numpy as np
import pytest
import seqio
import tensorflow as tf

from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import tasks

TRACKS, SECONDS = 40, 150


@pytest.fixture(name='many', scope='module')
def _many(tmp_path_factory):
  """A cache of tracks so long that seqio's own buffer holds half of the crops."""
  root = tmp_path_factory.mktemp('many')
  with records.Writer(root / 'corpus', 'many', fake_tokens.RATE_HZ) as writer:
    for track in range(TRACKS):
      marks = np.repeat(fake_tokens.marks(track, SECONDS), fake_tokens.RATE_HZ)
      writer.add('train', f'track{track}', marks.astype(np.int16))
  precompute.tokenize(fake_tokens.tokenizers(), records.Corpus(root / 'corpus'),
                      root / 'cache', shard_seconds=1000)
  return cache_lib.Cache(root / 'cache')


def dataset(cache, seconds=3, **options):
  stage = specs.StageSpec('fine', fake_tokens.TOKENS, crop_seconds=seconds)
  task = tasks.stage_task(cache, stage, describe=True)
  return task.get_dataset(crops.feature_lengths(stage), use_cached=True,
                          **dict(dict(shuffle=True, seed=1), **options))


def places(cache, **options):
  """[(track, second)] of a dataset."""
  return [(row['id'].decode(), int(row['crop_start']))
          for row in dataset(cache, **options).as_numpy_iterator()]


def test_a_batch_has_as_many_tracks_as_one_of_our_own_loop(many):
  order = crops.Order(many.index('train').seconds, 3, seed=1)
  ours = np.mean([len({order.example(i)[0] for i in range(b * 64, b * 64 + 64)})
                  for b in range(20)])
  ids = [crop[0] for crop in places(many, num_epochs=1)]
  assert len(ids) == order.epoch_length == TRACKS * SECONDS // 3
  theirs = np.mean([len(set(ids[b * 64:b * 64 + 64])) for b in range(20)])
  # Half of the crops in a buffer: 19. All of them: 32.
  assert ours == pytest.approx(32.3, abs=0.7)
  assert theirs == pytest.approx(ours, abs=1.0)


@pytest.fixture(name='cache')
def _cache(cache_dir):
  return cache_lib.Cache(cache_dir)


def test_an_epoch_has_every_track_by_its_length(cache):
  count = {'train0': 15, 'train1': 11, 'train2': 4, 'train3': 2, 'train4': 1}
  two = places(cache, num_epochs=2)
  first, second = two[:33], two[33:]
  for epoch in (first, second):
    assert collections.Counter(name for name, _ in epoch) == count
    assert all(0 <= start <= {'train0': 45, 'train1': 33, 'train2': 12,
                              'train3': 7, 'train4': 3}[name] - 3
               for name, start in epoch)
  assert first != second and first != sorted(first)
  assert places(cache, num_epochs=2) == two
  assert places(cache, num_epochs=1, seed=2) != first


def test_hosts_have_shares_that_are_all_together(cache):
  shares = [places(cache, num_epochs=1, shard_info=seqio.ShardInfo(i, 3))
            for i in range(3)]
  assert [len(share) for share in shares] == [11, 11, 11]
  assert sorted(sum(shares, [])) == sorted(places(cache, num_epochs=1))
  whole = places(cache, num_epochs=1)
  assert shares[1] == whole[1::3]


def test_without_an_end_and_without_a_seed(cache):
  rows = dataset(cache, num_epochs=None, seed=None).take(70)
  assert len(list(rows.as_numpy_iterator())) == 70


def test_its_place_can_be_saved(cache, tmp_path):
  def start():
    return iter(dataset(cache, num_epochs=None))

  take = lambda iterator, count: [
      next(iterator)['targets'].numpy() for _ in range(count)]
  first = start()
  take(first, 40)  # in the second epoch
  path = tf.train.Checkpoint(place=first).write(str(tmp_path / 'place'))
  expected = take(first, 30)
  again = start()
  tf.train.Checkpoint(place=again).read(path).assert_consumed()
  np.testing.assert_array_equal(take(again, 30), expected)
  assert (np.array(take(start(), 30)) != expected).any()
