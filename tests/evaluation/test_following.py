"""Followed melodies and asked-for drums, on sounds that are known."""

import numpy as np

from musiclm_jax.evaluation import following

_RATE = 24_000


def _tune(pitches, seconds=6.0):
  """[N] a tone for each MIDI pitch, of equal lengths."""
  each = int(seconds * _RATE / len(pitches))
  time = np.arange(each) / _RATE
  return np.concatenate([
      0.3 * np.sin(2 * np.pi * 440 * 2**((p - 69) / 12) * time)
      for p in pitches]).astype(np.float32)


_TUNES = [_tune(p) for p in (
    (60, 64, 67, 72, 67, 64), (69, 62, 69, 71, 65, 60),
    (72, 71, 67, 62, 64, 60), (61, 68, 63, 70, 66, 73))]


def test_clips_that_are_their_melodies():
  section, figures = following.melodies(_TUNES, _TUNES, _RATE)
  assert figures['melody_chroma_own'] > 0.95
  assert figures['melody_contour_own'] > 0.9
  assert figures['melody_chroma_own_low'] > figures[
      'melody_chroma_shuffled_high']
  assert section.verdict == 'melodies are followed'


def test_clips_that_follow_others():
  section, figures = following.melodies(
      _TUNES[1:] + _TUNES[:1], _TUNES, _RATE)
  assert figures['melody_chroma_difference_high'] < 0.1
  assert section.verdict == 'melodies are not followed'


def _with_clicks(tune, every=0.5, seed=0):
  rng = np.random.default_rng(seed)
  sound = tune.copy()
  for start in range(0, len(sound) - 600, int(every * _RATE)):
    sound[start:start + 600] += 0.5 * rng.normal(size=600) * np.exp(
        -np.arange(600) / 100)
  return sound


def test_drums_where_they_are_asked_for():
  pairs = [(_with_clicks(t, seed=i), t) for i, t in enumerate(_TUNES)]
  section, figures = following.drums(pairs, _RATE, judge=0.9)
  assert figures['drums_right'] == 1.0
  assert section.verdict == 'drums can be asked for'
  swapped = [pair[::-1] for pair in pairs]
  section, figures = following.drums(swapped, _RATE)
  assert figures['drums_right'] == 0.0
  assert section.verdict.endswith('cannot be heard')


def test_prompts_differ_in_the_drums_alone():
  found = following.prompts(24)
  assert len(set(found)) == 24
  for asked, not_asked in found:
    assert asked.replace('hand drums', 'no percussion') == not_asked
