"""Several token caches as one: at the rates that were asked for, resumable."""

import collections
import doctest
import itertools

import fake_tokens
import host_shares
import numpy as np
import pytest
import seqio

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import mixture
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import source
from musiclm_jax.tokens import tasks

STAGE = specs.StageSpec('coarse', fake_tokens.TOKENS)
_SECONDS = (20, 30)


@pytest.fixture(name='both', scope='module')
def both_fixture(cache_dir, tmp_path_factory):
  """Two caches; the second has two tracks, no validation, and other marks."""
  root = tmp_path_factory.mktemp('second')
  rate = fake_tokens.RATE_HZ
  with records.Writer(root / 'corpus', 'second', rate, licence='CC0') as writer:
    for track, seconds in enumerate(_SECONDS):
      marks = np.repeat(3000 + 100 * track + np.arange(seconds), rate)
      writer.add('train', f'second{track}', marks.astype(np.int16),
                 captions=['other'])
  precompute.tokenize(fake_tokens.tokenizers(),
                      records.Corpus(root / 'corpus'), root / 'cache')
  return f'{cache_dir}, {root / "cache"}'


def _batches(both, **kwargs):
  return source.TaskBatches(both, **{
      **dict(stage=STAGE, batch_size=4, seed=5), **kwargs})


def test_examples_in_docstrings():
  result = doctest.testmod(mixture)
  assert result.attempted and not result.failed


def test_rates_are_kept_in_every_round_and_nothing_comes_twice_before_all():
  orders = [crops.Order([45, 3], 10, 0), crops.Order([20] * 7, 10, 0)]
  drawn = mixture.Order(orders, [0, 2], [1, 4], seed=3)
  rows = [drawn.example(i) for i in range(2 * mixture.ROUND)]
  for start in (0, mixture.ROUND):
    part = rows[start:start + mixture.ROUND]
    assert sum(track < 2 for track, _ in part) == 200
  # They come mixed, not one cache after the other.
  assert 10 < sum(track < 2 for track, _ in rows[:100]) < 30
  for low, high, length in ((0, 2, 5), (2, 9, 14)):
    own = [track for track, _ in rows if low <= track < high]
    epochs = [collections.Counter(own[i:i + length])
              for i in range(0, len(own) - length + 1, length)]
    assert len(epochs) > 10 and all(e == epochs[0] for e in epochs)
  assert drawn.example(1234)[0] == rows[1234][0]
  np.testing.assert_array_equal(
      mixture.Order(orders, [0, 2], [1, 4], seed=3).example(1234)[1],
      rows[1234][1])
  others = [mixture.Order(orders, [0, 2], [1, 4], seed=4).example(i)[0]
            for i in range(50)]
  assert others != [track for track, _ in rows[:50]]


def test_tracks_of_all_are_read(both):
  cache = mixture.load(both)
  assert len(cache.index('train')) == 5 + 2
  assert list(cache.index('train').seconds) == [45, 33, 12, 7, 3, 20, 30]
  assert list(cache.index('validation').seconds) == [31, 14]
  for number, name in ((0, b'train0'), (4, b'train4'), (5, b'second0'),
                       (6, b'second1')):
    assert name in cache.records('train').read(number)
  assert cache.about['corpus']['name'] == 'fake+second'
  assert cache.splits == ['train', 'validation']


@pytest.mark.parametrize('rates, low, high', [
    ((1, 9), .88, .92), ((9, 1), .08, .12),
    ((), 5 / 15 - .1, 5 / 15 + .1)])  # 10 crops of the one, 5 of the other
def test_training_draws_at_the_rates(both, monkeypatch, rates, low, high):
  read, of = [], mixture._Records.read  # pylint: disable=protected-access
  monkeypatch.setattr(mixture._Records, 'read', lambda self, number: (  # pylint: disable=protected-access
      read.append(int(number)), of(self, number))[1])
  batches = _batches(both, cache_rates=rates, batch_size=100)
  list(itertools.islice(batches.batches(0), 10))
  share = np.mean(np.array(read[:1000]) >= 5)
  assert low < share < high


@pytest.mark.parametrize('rates', [(), (1, 3)])
def test_resuming_anywhere_and_on_many_hosts(both, rates):
  batches = _batches(both, cache_rates=rates)
  whole = list(itertools.islice(batches.batches(0), 6))
  again = list(itertools.islice(batches.batches(4), 2))
  for one, other in zip(whole[4:], again):
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
  host_shares.check(batches)
  assert batches.origin['cache'] != _batches(both, cache_rates=(2, 3)).origin[
      'cache']


def test_seqio_has_the_mixture(both):
  names = tasks.register(both, [STAGE], rates=(1, 3))
  try:
    assert names == ['musiclm_coarse']
    made = seqio.get_mixture_or_task('musiclm_coarse')
    assert isinstance(made, seqio.Mixture)
    assert [made.get_rate(task) for task in made.tasks] == [1, 3]
    dataset = seqio.get_dataset(
        'musiclm_coarse', crops.feature_lengths(STAGE),
        feature_converter.StageFeatureConverter(), dataset_split='train',
        use_cached=True, shuffle=True, seed=3, num_epochs=None)
    assert len(list(dataset.take(30).as_numpy_iterator())) == 30
    described = made.get_dataset(
        None, 'train', use_cached=True, shuffle=True, seed=3, num_epochs=None,
        passthrough_features=['id'])
    ids = [row['id'] for row in described.take(200).as_numpy_iterator()]
    assert 0.65 < np.mean([i.startswith(b'second') for i in ids]) < 0.85
    counted = tasks.provider(mixture.load(both), STAGE)
    assert [counted.get_rate(task) for task in counted.tasks] == [10, 5]
  finally:
    seqio.MixtureRegistry.remove('musiclm_coarse')


@pytest.mark.parametrize('rates, words', [
    ((1,), '1 rates and CACHE_DIR 2 caches'), ((1, 0), 'numbers above 0'),
    ((1, float('inf')), 'numbers above 0')])
def test_impossible_rates(both, rates, words):
  with pytest.raises(errors.UserError, match=words):
    mixture.load(both, rates)
  with pytest.raises(errors.UserError, match=words):
    mixture.tokens_of(both, rates)


def test_rates_of_one_cache(cache_dir):
  assert mixture.load(cache_dir, (2.0,)).fingerprint
  with pytest.raises(errors.UserError, match='2 rates and CACHE_DIR 1'):
    mixture.load(cache_dir, (1, 2))


def test_other_tokenizers_do_not_mix(cache_dir, tmp_path):
  corpus = fake_tokens.write_corpus(tmp_path / 'corpus')
  made = fake_tokens.tokenizers()
  made.hashes['mulan'] = 'another'
  precompute.tokenize(made, corpus, tmp_path / 'cache')
  with pytest.raises(errors.UserError, match='mulan: c, expected another|other '
                     'tokenizers'):
    mixture.load(f'{cache_dir},{tmp_path / "cache"}')
  with pytest.raises(errors.UserError, match='not a finished token cache'):
    mixture.load(f'{cache_dir},')
