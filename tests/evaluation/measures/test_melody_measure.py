"""Melodies that are followed, in the key or another, and others."""

import json

import numpy as np
import pytest

from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.measures import melody
from musiclm_jax.listeners import notes as note_listener
from musiclm_jax.listeners import pitch
from musiclm_jax.metrics import notes

RATE = 24_000
NOTE_SECONDS = 0.5


def _played(tune, harmonics=(1, .5, .3)):
  time = np.arange(int(NOTE_SECONDS * RATE)) / RATE
  return np.concatenate([
      sum(a * np.sin(2 * np.pi * 440 * 2**((n - 69) / 12) * (k + 1) * time)
          for k, a in enumerate(harmonics)) * np.exp(-2 * time)
      for n in tune]).astype(np.float32) * 0.3


TUNES = [tuple(np.random.default_rng(k).integers(60, 76, 8)) for k in range(4)]


def _set(name, sounds, **facts):
  return clip_sets.of_arrays(name, [
      clip_sets.Clip(str(k), str(k), lambda rate: None, facts={
          name: values[k] for name, values in facts.items()})
      for k in range(len(sounds))], sounds, RATE)


@pytest.fixture(name='quick', autouse=True)
def _quick(monkeypatch):
  """Without basic-pitch unless a test wants it."""
  if pitch.tracker() != pitch.SWIFT:
    pytest.skip('pYIN is tried where adherence is')
  monkeypatch.setattr(note_listener, 'model_path', lambda: None)


def _figures(measure, clips):
  return {figure.name: figure for figure in measure(clips)}


def test_followed_transposed_and_not():
  context = measures.Context(_set('recordings', [_played(t) for t in TUNES]))
  measure = melody.begin(context)
  moved = [_played(np.add(t, 3), (1, .2, .6)) for t in TUNES]
  ours = _figures(measure, _set('ours', moved))
  others = _figures(measure, _set('others', moved[1:] + moved[:1]))
  for name in ('melody_contour', 'melody_chroma'):
    assert ours[name].value > 0.85 and ours[name].count == 4
    assert others[name].value < 0.6
    # The interval of the difference from other tracks' melodies.
    assert float(ours[name].note.split('[')[1].split(',')[0]) > 0.1
  assert ours['melody_notes'].value is None
  assert 'pip install' in ours['melody_notes'].note
  assert ours['melody_embedding'].value is None
  assert context.provenance['melody']['pitch'] == pitch.SWIFT
  strangers = clip_sets.ClipSet('x', [
      clip_sets.Clip('none', 'none', lambda rate: _played(TUNES[0]))])
  assert _figures(measure, strangers)['melody_chroma'].note == (
      'no clip has the id of a recording')


def test_a_bundles_melody_embedder(bundle):
  measure = melody.begin(measures.Context(
      _set('recordings', [_played(t) for t in TUNES]), bundle=bundle))
  found = _figures(measure, _set('ours', [_played(t) for t in TUNES]))
  assert found['melody_embedding'].value == pytest.approx(1, abs=1e-4)
  note = found['melody_embedding'].note
  assert float(note.split('shuffled ')[1].split(',')[0]) < 1


def test_notes_that_are_asked_for(monkeypatch):
  pytest.importorskip('mir_eval')
  ends = np.arange(8) * NOTE_SECONDS
  written = [np.column_stack([ends, ends + 0.4, t]) for t in TUNES]

  def transcribe(audio, rate):  # hears the tune that is played, a note too much
    best = max(range(4), key=lambda k: float(
        np.dot(audio[:20_000], _played(TUNES[k])[:20_000])))
    return np.concatenate([written[best], [[9.0, 9.5, 40]]])
  monkeypatch.setattr(note_listener, 'model_path', lambda: 'there')
  monkeypatch.setattr(note_listener, 'transcribe', transcribe)
  triples = [json.dumps([[float(a), float(b - a), int(c)] for a, b, c in w])
             for w in written]
  reference = _set('recordings', [_played(t) for t in TUNES], melody=triples)
  measure = melody.begin(measures.Context(reference))
  found = _figures(measure, reference)['melody_notes']
  assert found.value == pytest.approx(16 / 17)  # 8 of 8, and of 9 heard
  assert 'recordings 0.941' in found.note
  without = melody.begin(measures.Context(
      _set('recordings', [_played(t) for t in TUNES])))
  assert _figures(without, reference)['melody_notes'].value == 1
  assert notes.installed()


def test_nonsense_for_a_melody_is_said_once():
  lines = []
  reference = _set('recordings', [_played(t) for t in TUNES],
                   melody=['[[1, 2]]', 'x', '', None])
  melody.begin(measures.Context(reference, say=lines.append))
  assert "of 2 clips, such as '0', is no list" in lines[0]


def test_without_recordings():
  with pytest.raises(measures.Unavailable, match='--reference'):
    melody.begin(measures.Context(None))
