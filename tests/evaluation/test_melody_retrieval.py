"""Melody retrieval: who is asked, who is in the pool, what is counted."""

import json

import numpy as np
import one_embedder
import pytest
import tunes

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import melody
from musiclm_jax.metrics import retrieval


@pytest.fixture(name='corpus', scope='module')
def _corpus(tmp_path_factory):
  return tunes.write(
      tmp_path_factory.mktemp('retrieval') / 'corpus', train=5, test=4)


def _fake(directory, embedder):
  return one_embedder.Bundle(directory, 'melody', embedder)


class ByFirstInterval:
  """Knows a tune by its notes: the truth, as an embedder."""

  spec = specs.MelodySpec()

  def __init__(self, corpus, wrong=()):
    self._tunes = {}
    names = sorted({t.meta['tune'] for s in corpus.splits
                    for t in corpus.split(s)})
    for split in corpus.splits:
      for track in corpus.split(split):
        audio = corpus.split(split).read(track)
        name = track.meta['tune']
        number = -1 if track.id in wrong else names.index(name)
        self._tunes[audio.tobytes()] = number

  def embed_windows(self, audio, stride_seconds=None):
    del stride_seconds
    vector = np.zeros(32, np.float32)
    vector[self._tunes[audio[0].tobytes()]] = 1.0
    return np.tile(vector, (1, 5, 1))


def test_the_pool_is_filled_from_other_splits(corpus):
  task = melody.build(corpus, 500)
  assert task.split.directory.name == 'test' and len(task.queries) == 4
  assert len(task.pool) == 4 + 2 + 5  # all tunes there are, once each
  assert task.distractors == dict(validation=2, train=5)
  assert len({t.meta['tune'] for _, t in task.pool}) == 11
  for query in task.queries:
    split, reference = task.pool[query.item]
    assert split is task.split
    assert reference.meta['tune'] == query.track.meta['tune']
    assert reference.id != query.track.id
  small = melody.build(corpus, 5)
  assert len(small.pool) == 5 and sum(small.distractors.values()) == 1


def test_queries_are_sorted_by_what_differs(corpus):
  kinds = {q.track.id: q.kinds for q in melody.build(corpus).queries}
  # Of the test tunes 7 to 10, the second version of 8 is hummed.
  assert kinds == {'t7.v1': ('instrument', 'key'), 't8.v1': ('hummed',),
                   't9.v1': ('instrument', 'key'),
                   't10.v1': ('instrument', 'key')}


def test_a_distractor_of_a_queried_cluster_is_left_out(tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000) as out:
    notes = tunes.version(tunes.tune(0, 20), 0.4, 0)
    for split, name, cluster in (
        ('test', 'a', 'x'), ('test', 'a', 'x'), ('train', 'b', 'x'),
        ('train', 'd', 'y')):
      out.add(split, f'{name}{np.random.random()}', tunes.play(notes),
              tune=name, cluster=cluster, melody=notes)
  pool = melody.build(records.Corpus(tmp_path / 'c')).pool
  assert [t.meta['tune'] for _, t in pool] == ['a', 'd']


def test_the_truth_finds_all_and_one_mistake_is_counted(corpus, tmp_path):
  right = melody.evaluate(_fake(tmp_path, ByFirstInterval(corpus)),
                          corpus.directory, baseline_queries=0)
  assert right.figures['melody_all_top1'] == 1.0
  assert right.figures['melody_pool'] == 11
  assert right.figures['melody_top1_chance'] == pytest.approx(1 / 11)
  assert '500 were wanted' in right.sections[0].verdict
  wrong = melody.evaluate(
      _fake(tmp_path, ByFirstInterval(corpus, ['t9.v1'])), corpus.directory,
      baseline_queries=0)
  assert wrong.figures['melody_all_top1'] == 0.75
  assert wrong.figures['melody_key_10s_top1'] == pytest.approx(2 / 3)
  assert wrong.figures['melody_hummed_top1'] == 1.0
  assert wrong.figures['melody_hummed_queries'] == 1


def test_equal_scores_find_nothing():
  scores = np.zeros((3, 12))
  np.testing.assert_array_equal(retrieval.ranks(scores, np.arange(3)), 11)
  scores[np.arange(3), [4, 0, 9]] = 1.0
  np.testing.assert_array_equal(
      retrieval.ranks(scores, np.array([4, 0, 8])), [0, 0, 11])


def test_a_score_is_the_mean_of_the_best_windows():
  query = np.eye(3, dtype=np.float32)[:2]
  item = np.array([[0.6, 0.8, 0], [0, 0, 1]], np.float32)
  assert melody._score(query, item) == pytest.approx((0.6 + 0.8) / 2)  # pylint: disable=protected-access


def test_chroma_dtw_hears_through_key_and_tempo(corpus):
  split = corpus.split('train')
  first, second, other = (
      melody.chroma(split.read(split[i]), 24_000) for i in (0, 1, 2))
  assert first.shape[0] == 12
  assert abs(first.shape[1] - 5 * split[0].num_samples / 24_000) < 2
  clip = second[:, 40:90]
  assert melody.dtw_cost(clip, first) < 0.8 * melody.dtw_cost(clip, other)
  assert melody.dtw_cost(first[:, 10:60], first) < 1e-5
  # A fifth up is seven rows down the circle: the same notes, no cost.
  assert melody.dtw_cost(np.roll(first, 7, axis=0)[:, 10:60], first) < 1e-5


def test_the_baseline_is_beside_the_embedder(corpus, tmp_path):
  result = melody.evaluate(_fake(tmp_path, ByFirstInterval(corpus)),
                           corpus.directory, baseline_queries=2)
  figures = result.figures
  assert figures['melody_baseline_queries'] == 2
  assert figures['melody_baseline_pool'] == 11
  assert figures['melody_subset_top1'] == 1.0
  assert 0.0 <= figures['melody_chroma_dtw_top1'] <= 1.0
  assert 'chroma-DTW' in result.sections[1].text()


def test_the_shell(corpus, tmp_path, monkeypatch, capsys):
  fake = _fake(tmp_path, ByFirstInterval(corpus))
  monkeypatch.setattr(bundle_lib, 'Bundle', lambda unused: fake)
  cli.main(['evaluate', 'melody', '--bundle', str(tmp_path), '--corpus',
            str(corpus.directory), '--clips', '2', '--json',
            str(tmp_path / 'm.json'), '--report', str(tmp_path / 'm.html')])
  assert 'the same tune among 11' in capsys.readouterr().out
  figures = json.loads((tmp_path / 'm.json').read_text())
  assert figures['melody_all_top1'] == 1.0 and 'machine' in figures
  assert 'chroma-DTW' in (tmp_path / 'm.html').read_text()


def test_user_errors(corpus, tmp_path, capsys):
  with pytest.raises(SystemExit):
    cli.main(['evaluate', 'melody'])
  assert 'wants --corpus' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    cli.main(['evaluate', 'codec', '--corpus', 'x'])
  (tmp_path / 'b').mkdir()
  bundle_lib.write_manifest(tmp_path / 'b', specs.TokenSpec())
  with pytest.raises(errors.UserError, match='has no melody'):
    bundle_lib.Bundle(tmp_path / 'b').require('melody')
  with records.Writer(tmp_path / 'c', 'c', 24_000) as out:
    out.add('test', 'a', np.zeros(24_000))
  with pytest.raises(errors.UserError, match='no tune in two versions'):
    melody.build(records.Corpus(tmp_path / 'c'))
