"""The measure of facts, with ears that hear what was written into the sound."""

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import fact_judges
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.measures import facts

RATE = fact_judges.RATE_HZ
COUNT = 40
FAMILIES = ('flutes', 'brass', 'keyboards', 'voice')


def _facts(k):
  return dict(tempo_bpm=str(60 + 3 * k), key=('C', 'Gm', 'D major')[k % 3],
              family=FAMILIES[k % 4], drums='kit' if k % 2 else '',
              register=('low', 'high')[k % 2], mean_pitch=50 + k)


def _sound(k, seconds=2):
  """[N] whose samples say which facts it has."""
  return np.full(seconds * RATE, (k + 1) / 100, np.float32)


def _said(audio):
  return int(round(float(audio[0]) * 100)) - 1


def _ears(name):
  """Ears that are right, whatever they are asked."""
  vector = lambda k: np.eye(4)[k % 4].repeat(3)
  hear = {
      'tempo_librosa': lambda k: 60.0 + 3 * k, 'tempo_essentia': lambda k: 1.0,
      'key_librosa': lambda k: (0, 19, 2)[k % 3], 'key_essentia': lambda k: 0,
      'onsets': lambda k: 1.0 * (k % 2), 'pitch': lambda k: 50.0 + k,
      'timbre': vector}[name]
  return lambda audio: hear(_said(audio))


@pytest.fixture(name='ears', autouse=True)
def _use_ears(monkeypatch):
  monkeypatch.setattr(fact_judges, 'make_ear', _ears)


def _set(name, heard, count=COUNT, facts_of=_facts):
  return clip_sets.of_arrays(name, [
      clip_sets.Clip(str(k), f't{k // 2}', lambda rate: None,
                     facts=facts_of(k) if facts_of else {})
      for k in range(count)], [_sound(k) for k in heard], RATE)


def _begin(reference, lines=None, **listeners):
  context = measures.Context(
      reference, listeners=dict(dict(
          tempo=('librosa',), key=('librosa',), family=('timbre',)),
          **listeners), say=(lines if lines is not None else []).append)
  return facts.begin(context), context


def _by_name(figures):
  return {figure.name: figure for figure in figures}


def test_right_clips_and_shuffled_ones():
  reference = _set('recordings', range(COUNT))
  measure, context = _begin(reference)
  right = _by_name(measure(reference))
  assert set(right) == {
      'tempo_accuracy1', 'tempo_accuracy2', 'key', 'key_mirex', 'mode',
      'family_timbre', 'percussion', 'register', 'mean_pitch'}
  for name, figure in right.items():
    if name != 'register':  # of the pitch, which here says nothing of it
      assert figure.value == 1, name
      # "C" tells no mode.
      assert figure.count == (26 if name == 'mode' else COUNT), name
      assert 'recordings 1.00' in figure.note
  order = np.random.default_rng(0).permutation(COUNT)
  wrong = _by_name(measure(_set('shuffled', order)))
  # Drawn from a pile of 40 tempi, 4 % apart at the slow end.
  assert wrong['tempo_accuracy1'].value < 0.2
  assert wrong['key'].value < 0.6 and wrong['family_timbre'].value < 0.5
  assert wrong['key'].low <= wrong['key'].value <= wrong['key'].high
  assert 'p 0.0005' in right['key'].note
  assert 'p 0.0005' not in wrong['key'].note
  assert context.provenance['facts']['known']['tempo'] == COUNT


def test_chance_by_hand():
  reference = _set('recordings', range(COUNT))
  measure, _ = _begin(reference)
  same = _by_name(measure(_set('one sound', [0] * COUNT)))
  # 14 of the 40 are in C; all clips are heard in C.
  assert same['key'].value == pytest.approx(14 / 40)
  assert 'constant 0.35' in same['key'].note
  assert 'p 1.0000' in same['key'].note


def test_a_weak_judge_is_seen():
  lines = []
  reference = _set('recordings', [0] * COUNT)  # as if it heard one sound
  measure, _ = _begin(reference, lines)
  note = _by_name(measure(reference))['percussion'].note
  assert 'a weak judge' in note
  assert lines[0] == ('facts of 40 clips: tempo 40, key 40, mode 26, family 40, '
                      'percussion 40, register 40, mean_pitch 40')


def test_clips_without_facts_have_those_of_their_recordings():
  measure, _ = _begin(_set('recordings', range(COUNT)))
  found = _by_name(measure(_set('ours', range(COUNT), facts_of=None)))
  assert found['tempo_accuracy1'].value == 1


def test_what_cannot_be_used_is_in_no_figure():
  reference = _set('recordings', range(COUNT))
  measure, _ = _begin(reference)
  broken = _set('broken', range(COUNT))
  broken = clip_sets.ClipSet('broken', [
      c if k > 9 else clip_sets.of_arrays(
          'nan', [c], [np.full(RATE * 2, np.nan)], RATE).clips[0]
      for k, c in enumerate(broken.clips)])
  found = _by_name(measure(broken))
  assert found['key'].count == 30 and broken.counted() == dict(nan=10)


def test_without_recordings_what_needs_none_is_judged():
  measure, _ = _begin(None)
  found = _by_name(measure(_set('ours', range(COUNT))))
  assert found['tempo_accuracy1'].value == found['mode'].value == 1
  assert 'recordings' not in found['key'].note
  assert found['percussion'].value is None
  assert 'has to be fitted on recordings' in found['percussion'].note
  assert measure(_set('nothing known', range(9), 9, facts_of=None)) == []


def test_too_few_clips_have_no_figure():
  measure, _ = _begin(_set('recordings', range(COUNT)))
  found = _by_name(measure(_set('few', range(5), 5)))
  assert found['key'].value is None
  assert found['key'].note == '5 clips to judge; expected at least 8'


def test_what_is_wrong_is_one_line():
  with pytest.raises(measures.Unavailable, match='the 9 recordings have no fac'):
    _begin(_set('recordings', range(9), 9, facts_of=None))
  with pytest.raises(errors.UserError, match="unknown judge of tempo 'drummer'"):
    _begin(None, tempo=('drummer',))
  with pytest.raises(errors.UserError, match='takes one, a corpus'):
    _begin(None, family=('musicnn=/somewhere',))


def test_a_judge_that_is_not_there_says_so(monkeypatch):
  def missing(name):
    if name == 'onsets':
      raise errors.UserError('no ears.')
    return _ears(name)
  monkeypatch.setattr(fact_judges, 'make_ear', missing)
  lines = []
  measure, _ = _begin(_set('recordings', range(COUNT)), lines)
  found = _by_name(measure(_set('ours', range(COUNT))))
  assert found['percussion'].value is None
  assert found['percussion'].note == 'no ears.'
  assert found['key'].value == 1 and 'facts: no ears.' in lines
