"""Pairs hold the same notes in any key and tempo, and are pure in the step."""

import itertools

import host_shares
import numpy as np
import pytest
import tunes

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.tokenizers.melody import pairs
from musiclm_jax.training import shares


def _source(corpus, **kwargs):
  return pairs.MelodyBatches(
      corpus_dir=str(corpus.directory), batch_size=4, **kwargs)


def test_the_example_of_the_documentation():
  track = lambda starts: records.Track(
      'x', 24_000 * 10, '', 0,
      dict(melody=[[s, 0.1, 60] for s in starts]))
  a, b = track([0.0, 0.5, 1.0, 3.0]), track([0.2, 1.2, 2.2])
  moments = [pairs.same_moment(a, b, u, 0.5, 24_000)
             for u in np.linspace(0, 1, 11)]
  # Room for half a window: from second 0.25 of a, that is 0.7 of b.
  np.testing.assert_allclose(moments[0], (0.25, 0.7))
  # The shorter list ends at its third note.
  np.testing.assert_allclose(moments[-1], (1.0, 2.2))
  for at, there in moments:
    np.testing.assert_allclose(there, 0.2 + 2 * at)


def test_shapes_are_known_without_a_corpus(corpus):
  source = _source(corpus)
  found = {k: (v.shape, v.dtype) for k, v in source.batch_shapes().items()}
  batch = next(iter(source.batches(0)))
  assert found == {k: (v.shape, v.dtype) for k, v in batch.items()}


def test_the_same_batch_for_the_same_step(corpus):
  settings = dict(jitter_seconds=0.3, speed_semitones=2.0)
  ahead = next(itertools.islice(
      _source(corpus, **settings).batches(0), 3, None))
  resumed = next(_source(corpus, **settings).batches(3))
  for name, value in ahead.items():
    np.testing.assert_array_equal(value, resumed[name])
  other = next(_source(corpus, seed=1, **settings).batches(3))
  assert np.any(other['first'] != ahead['first'])
  assert ahead['first'].shape == ahead['second'].shape == (4, 96_000)
  assert ahead['first'].dtype == np.float32


def test_the_pairs_of_hosts_are_those_of_one(corpus, monkeypatch):
  source = _source(corpus, jitter_seconds=0.3, speed_semitones=2.0)
  host_shares.check(source)
  reads = host_shares.count_reads(monkeypatch, records.Split)
  next(source.batches(0, shares.Share((1,), 4)))
  assert len(reads) == 2  # both crops of one pair of four


def test_a_batch_takes_every_tune_before_any_again(corpus):
  for batch in itertools.islice(_source(corpus).batches(0), 5):
    assert sorted(batch['tune']) == [0, 1, 2, 3]


def test_both_crops_hold_the_same_notes(tmp_path):
  """Clicks at the notes' starts: note k is as far from both middles."""
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'clicks', 'clicks', 24_000) as out:
    for t in range(2):
      gaps = rng.uniform(0.3, 0.7, 60)
      for v, tempo in enumerate((1.0, 1.6)):
        starts = 0.3 * v + tempo * np.cumsum(gaps)
        audio = np.zeros(int((starts[-1] + 1) * 24_000), np.float32)
        # The height of a click is the number of its note.
        audio[(starts * 24_000).round().astype(int)] = (
            0.01 * np.arange(1, 61))
        out.add('train', f'{t}{v}', audio, tune=f't{t}',
                melody=[[s, 0.1, 60] for s in starts])
  source = pairs.MelodyBatches(corpus_dir=str(tmp_path / 'clicks'),
                               batch_size=8)
  slow = 0
  for batch in itertools.islice(source.batches(0), 5):
    for a, b in zip(batch['first'], batch['second']):
      notes = [np.round(x[x > 1e-3] * 100).astype(int) for x in (a, b)]
      times = [(np.flatnonzero(x > 1e-3) - 48_000) / 24_000 for x in (a, b)]
      fewer = min(range(2), key=lambda i: len(notes[i]))
      slow += len(notes[fewer]) < len(notes[1 - fewer])
      assert set(notes[fewer]) <= set(notes[1 - fewer])
      assert len(notes[fewer]) >= 3
      common = np.isin(notes[1 - fewer], notes[fewer])
      slope = np.polyfit(times[1 - fewer][common], times[fewer], 1)
      np.testing.assert_allclose(slope, [1.6, 0.0], atol=2e-3)
  assert slow == 40  # the slower version has fewer notes in 4 s


def test_training_crops_move_and_change_speed():
  rate = 24_000
  time = np.arange(10 * rate) / rate
  track = records.Track('x', len(time), '', 0, {})

  class Split:
    sample_rate_hz = rate

    def read(self, unused_track, start, count):
      return np.sin(2 * np.pi * 440.0 * time).astype(
          np.float32)[start:start + count]

  audio = pairs.crop(Split(), track, 5.0, 4, rate=2.0**(3 / 12))
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
  assert len(audio) == 96_000
  assert abs(spectrum.argmax() / 4 - 440.0 * 2**0.25) < 0.5  # bins of 1/4 Hz


def test_crops_beyond_the_ends_are_silent(corpus):
  split = corpus.split('train')
  track = split[0]
  early = pairs.crop(split, track, 0.5, 4)
  assert np.all(early[:36_000] == 0)
  np.testing.assert_array_equal(early[36_000:], split.read(track, 0, 60_000))
  end = track.num_samples / 24_000
  assert np.all(pairs.crop(split, track, end + 5, 4) == 0)
  np.testing.assert_array_equal(
      pairs.crop(split, track, 8.0, 4), split.read(track, 144_000, 96_000))


def test_tunes_of_one_cluster_are_no_negatives(tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000) as out:
    for t, cluster in enumerate('aab'):
      notes = tunes.version(tunes.tune(t, 30), 0.4, 0)
      for v in range(2):
        out.add('train', f'{t}{v}', tunes.play(notes), tune=f't{t}',
                cluster=cluster, melody=notes)
  batch = next(pairs.MelodyBatches(
      corpus_dir=str(tmp_path / 'c'), batch_size=6).batches(0))
  assert sorted(batch['tune']) == [0, 0, 0, 1, 1, 1]


def test_evaluation_takes_the_held_out_tunes_and_never_moves(corpus):
  first, again = (list(_source(corpus, jitter_seconds=j).eval_batches())
                  for j in (0.0, 0.5))
  np.testing.assert_array_equal(first[1]['first'], again[1]['first'])
  assert len(first) == 4
  held_out = corpus.split('validation')
  assert set(first[0]['tune']) == {0, 1} and len(held_out) == 4


def test_a_corpus_without_versions_is_refused(tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000) as out:
    out.add('train', 'a', np.zeros(24_000))
  with pytest.raises(errors.UserError, match='0 tunes in two versions'):
    next(pairs.MelodyBatches(corpus_dir=str(tmp_path / 'c')).batches(0))
