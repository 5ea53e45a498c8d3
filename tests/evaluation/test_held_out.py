"""Which clips are judged."""

import numpy as np
import pytest
import random_bundle
import tensorflow as tf

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import streams
from musiclm_jax.tokens import preprocessors

_RATE = 24_000


def test_families_take_turns(folder):
  data = held_out.load(folder / 'corpus', 6, 4, 5, _RATE)
  assert data.split == 'test' and len(data.clips) == 6
  assert data.clips.families == tuple(sorted(random_bundle.FAMILIES)) * 2
  assert len(data.pool) == 9 and len(data.train) == 5
  assert all(i.startswith('train') for i in data.train.ids)
  assert data.clips.audio.shape == (6, 4 * _RATE)
  assert data.pool.audio.shape == (9, 10 * _RATE)


def test_the_same_clips_each_time(folder):
  first, again = (held_out.load(folder / 'corpus', 4, 4, 4, _RATE)
                  for _ in range(2))
  np.testing.assert_array_equal(first.clips.audio, again.clips.audio)
  assert first.train.ids == again.train.ids


def test_clips_are_what_the_corpus_holds(folder):
  corpus = records.Corpus(folder / 'corpus')
  data = held_out.load(folder / 'corpus', 2, 4, 12, _RATE)
  split = corpus.split('test')
  track = next(t for t in split if t.id == data.clips.ids[0])
  # The middle 4 of 12 seconds.
  np.testing.assert_array_equal(
      data.clips.audio[0], split.read(track, 4 * _RATE, 4 * _RATE))
  # More clips than tracks: each track at two places.
  assert len(data.train) == 12 and len(set(data.train.ids)) == 8


def test_short_tracks_are_padded_and_say_so(tmp_path):
  with records.Writer(tmp_path / 'c', 'short', _RATE, licence='CC0') as writer:
    for i, seconds in enumerate((3.5, 0.4, 8)):
      writer.add('validation', f't{i}', np.full(int(seconds * _RATE), 0.5))
    writer.add('train', 'one', np.zeros(_RATE))
  data = held_out.load(tmp_path / 'c', 9, 6, 4, _RATE)
  assert data.split == 'validation' and sorted(data.clips.seconds) == [3, 6]
  row = int(np.argmin(data.clips.seconds))
  assert np.all(data.clips.audio[row, 3 * _RATE:] == 0)
  assert data.clips.captions == ('', '')


@pytest.mark.parametrize('split, count, message', [
    ('train', 3, 'no test or validation split'),
    ('test', 1, 'expected at least 2')])
def test_corpora_that_cannot_judge(tmp_path, split, count, message):
  with records.Writer(tmp_path / 'c', 'c', _RATE, licence='CC0') as writer:
    for i in range(count):
      writer.add(split, f't{i}', np.zeros(_RATE))
  with pytest.raises(errors.UserError, match=message):
    held_out.load(tmp_path / 'c', 4, 4, 4, _RATE)


def test_another_rate_is_refused(folder):
  with pytest.raises(errors.UserError, match='24000 Hz, the bundle 16000 Hz'):
    held_out.load(folder / 'corpus', 4, 4, 4, 16_000)


@pytest.mark.parametrize('start, crop', [(0, 30), (5, 10), (3, 3), (0, 12)])
def test_crop_embedding_equals_that_of_the_training_sequences(start, crop):
  joint = specs.JointSpec(embedding_dim=8)
  rng = np.random.default_rng(0)
  seconds = np.array([30, 17])
  windows = rng.standard_normal((2, 21, 8)).astype(np.float32)
  found = streams.crop_embedding(windows, seconds, start, crop, joint)
  for row, length in enumerate(seconds):
    own = windows[row, :joint.num_windows(int(length))]
    expected = preprocessors.crop_embedding(
        tf.constant(own), tf.constant(start), crop, joint)
    np.testing.assert_allclose(found[row], expected, atol=1e-5)
