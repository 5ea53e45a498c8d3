"""AudioBatches: the loop's BatchSource over a corpus."""

import itertools

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.training import sources


@pytest.fixture(name='corpus_dir')
def _corpus_dir(tmp_path):
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'corpus', 'noise', 1000, licence='CC0') as out:
    for i in range(3):
      out.add('train', f't{i}', rng.uniform(-1, 1, 3000))
    out.add('validation', 'v0', rng.uniform(-1, 1, 3000))
  return str(tmp_path / 'corpus')


def _take(source, start, count):
  return list(itertools.islice(source.batches(start), count))


def test_starting_later_gives_the_same_batches(corpus_dir):
  source = sources.AudioBatches(corpus_dir, crop_seconds=0.5, batch_size=4)
  whole, rest = _take(source, 0, 6), _take(source, 4, 2)
  for a, b in zip(whole[4:], rest):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  assert not np.array_equal(whole[0]['audio'], whole[1]['audio'])
  assert whole[0]['audio'].shape == (4, 500)
  assert whole[0]['audio'].dtype == np.float32


def test_shapes_are_known_without_a_corpus(tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000, licence='CC0') as out:
    out.add('train', 't', np.zeros(30_000))
  source = sources.AudioBatches(str(tmp_path / 'c'), 0.5, 4)
  found = {k: (v.shape, v.dtype) for k, v in source.batch_shapes().items()}
  batch = next(iter(source.batches(0)))
  assert found == {k: (v.shape, v.dtype) for k, v in batch.items()}


def test_seed_moves_training_but_not_evaluation(corpus_dir):
  a, b = (sources.AudioBatches(corpus_dir, 0.5, 4, seed=s) for s in (0, 1))
  assert not np.array_equal(
      _take(a, 0, 1)[0]['audio'], _take(b, 0, 1)[0]['audio'])
  evals = [list(s.eval_batches()) for s in (a, b, a)]
  assert len(evals[0]) == 4
  for other in evals[1:]:
    for x, y in zip(evals[0], other):
      np.testing.assert_array_equal(x['audio'], y['audio'])


def test_crops_are_aligned_and_true_to_the_track(corpus_dir):
  source = sources.AudioBatches(corpus_dir, 0.5, 8, align_samples=20)
  split = source.corpus.split('train')
  batch = _take(source, 3, 1)[0]
  assert not np.any(batch['start'] % 20)
  for audio, track, start in zip(*(batch[k] for k in (
      'audio', 'track', 'start'))):
    np.testing.assert_array_equal(audio, split.read(split[track], start, 500))


def test_no_corpus_is_a_user_error(tmp_path):
  with pytest.raises(errors.UserError, match='not a corpus'):
    next(sources.AudioBatches(str(tmp_path)).batches(0))
