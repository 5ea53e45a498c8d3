"""KLD of rows of clips: pairs, shuffled pairs, and what cannot be used."""

import numpy as np
import pytest
from scipy import special
from scipy import stats

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.measures import kld
from musiclm_jax.listeners import classifiers

_RATE = 8_000


class _Level:
  """Hears the mean of a clip as one of two classes."""

  name, sample_rate_hz, classes = 'level', _RATE, ('up', 'down')
  segment_seconds, digest = 10.0, 'f00'

  def __init__(self):
    self.heard = []

  def logits(self, audio):
    assert audio.shape[0] <= 8
    self.heard += [audio.shape]
    mean = audio.mean(1)
    return np.stack([mean, -mean], 1)


def _set(name, levels, seconds=None):
  """Clips 0, 1, ... of constant levels; clips 2k and 2k + 1 of one track."""
  seconds = seconds or [1.0] * len(levels)
  sounds = [np.full(int(s * _RATE), v, np.float32)
            for v, s in zip(levels, seconds)]
  like = [clip_sets.Clip(str(i), f'track{i // 2}', None)
          for i in range(len(levels))]
  return clip_sets.of_arrays(name, like, sounds, _RATE)


def _measure(monkeypatch, reference, **context):
  level = _Level()
  monkeypatch.setattr(classifiers, 'by_name', lambda name: level)
  asked = measures.Context(reference, **context)
  return kld.begin(asked), level, asked


_LEVELS = [2.0, -1.0, 0.5, 1.0, -2.0, 0.1]


def _kl(one, other):
  p, q = (special.softmax([v, -v]) for v in (one, other))
  return stats.entropy(p, q)


def test_figures_are_means_over_pairs(monkeypatch):
  others = [1.0, 1.0, 0.4, -1.0, -1.5, 0.1]
  measure, _, asked = _measure(monkeypatch, _set('real', _LEVELS))
  found = {f.name: f for f in measure(_set('made', others))}
  assert list(found) == ['kld_level', 'kld_level_reverse',
                         'kld_level_bernoulli', 'kld_level_shuffled']
  assert found['kld_level'].value == pytest.approx(
      np.mean([_kl(a, b) for a, b in zip(_LEVELS, others)]), abs=1e-4)
  assert found['kld_level_reverse'].value == pytest.approx(
      np.mean([_kl(b, a) for a, b in zip(_LEVELS, others)]), abs=1e-4)
  yes_or_no = lambda a, b: sum(
      stats.entropy([special.expit(s * a), special.expit(-s * a)],
                    [special.expit(s * b), special.expit(-s * b)])
      for s in (1, -1))
  assert found['kld_level_bernoulli'].value == pytest.approx(
      np.mean([yes_or_no(a, b) for a, b in zip(_LEVELS, others)]), abs=1e-6)
  # Of each recording with all four clips of the other two tracks.
  strange = [np.mean([_kl(a, b) for j, b in enumerate(others)
                      if i // 2 != j // 2]) for i, a in enumerate(_LEVELS)]
  assert found['kld_level_shuffled'].value == pytest.approx(
      np.mean(strange), abs=1e-4)
  for figure in found.values():
    assert figure.low <= figure.value <= figure.high and figure.count == 6
  assert found['kld_level'].better == 'lower'
  assert asked.provenance['classifier level']['digest'] == 'f00'


def test_recordings_beside_themselves_are_far_below_shuffled_ones(monkeypatch):
  real = _set('real', _LEVELS)
  measure, level, _ = _measure(monkeypatch, real)
  found = {f.name: f.value for f in measure(real)}
  assert abs(found['kld_level']) < 1e-5
  assert found['kld_level_shuffled'] > 0.3
  heard = len(level.heard)
  measure(_set('made', _LEVELS))
  assert len(level.heard) == heard + 1  # the recordings are known


def test_clips_of_other_lengths_are_heard_as_they_are(monkeypatch):
  measure, level, _ = _measure(monkeypatch, _set('real', _LEVELS))
  measure(_set('made', _LEVELS, [1, 1, 0.5, 0.5, 0.5, 1]))
  assert level.heard == [(6, 8000), (2, 8000), (3, 4000), (1, 8000)]


def test_unusable_clips_are_counted_and_left_out(monkeypatch):
  made = _set('made', [1.0, np.nan, 0.4, 0.0, -1.5, 0.1])
  real = _set('real', _LEVELS)
  measure, _, _ = _measure(monkeypatch, real)
  found = measure(made)[0]
  assert found.count == 4 and made.counted() == {'nan': 1, 'silent': 1}
  expected = [_kl(_LEVELS[i], v) for i, v in ((0, 1.0), (2, 0.4), (4, -1.5),
                                              (5, 0.1))]
  assert found.value == pytest.approx(np.mean(expected), abs=1e-4)


def test_without_pairs_or_a_second_track_it_says_so(monkeypatch):
  measure, _, _ = _measure(monkeypatch, _set('real', _LEVELS))
  strangers = clip_sets.of_arrays(
      'made', [clip_sets.Clip('x', 'x', None)], [np.ones(8_000)], _RATE)
  (figure,) = measure(strangers)
  assert figure.value is None and 'no clip has the id' in figure.note
  found = measure(_set('made', [1.0, 2.0]))
  assert found[0].count == 2 and found[-1].name == 'kld_level_shuffled'
  assert found[-1].value is None and 'one track' in found[-1].note


def test_what_is_missing_is_said(monkeypatch):
  with pytest.raises(measures.Unavailable, match='give the recordings'):
    kld.begin(measures.Context(None))

  def fail(name):
    raise errors.UserError(f'{name} is not installed; run pip.')

  monkeypatch.setattr(classifiers, 'by_name', fail)
  with pytest.raises(measures.Unavailable, match='musicnn is not installed'):
    kld.begin(measures.Context(_set('real', _LEVELS)))
  # A classifier that was asked for is no reason to go on without it.
  with pytest.raises(errors.UserError) as caught:
    kld.begin(measures.Context(_set('real', _LEVELS), listeners=dict(
        classifier=('mine',))))
  assert not isinstance(caught.value, measures.Unavailable)


def test_two_of_one_name_are_refused(monkeypatch):
  with pytest.raises(errors.UserError, match='share a name'):
    _measure(monkeypatch, _set('real', _LEVELS),
             listeners=dict(classifier=('a', 'b')))


def test_it_is_found():
  assert measures.known()['kld'] is kld
  assert set(kld.WANTS) <= set(measures.NEEDS)
