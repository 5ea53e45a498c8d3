"""Music that follows a melody, in its key or another, and music that does not."""

import importlib.util

import numpy as np
import pytest

from musiclm_jax.evaluation import adherence

RATE = 24_000
TUNE = (0, 4, 7, 5, 2, 9, 7, 0, 11, 4)


def sung(notes, seconds=0.3, harmonics=(1.0, 0.4, 0.2)):
  """[N]: notes in semitones above A3."""
  time = np.arange(int(seconds * RATE)) / RATE
  return np.concatenate([
      sum(a * np.sin(2 * np.pi * 220 * 2**(n / 12) * (k + 1) * time)
          for k, a in enumerate(harmonics)) * np.sin(np.pi * time / seconds)
      for n in notes]).astype(np.float32) * 0.3


@pytest.mark.parametrize('shift', [0, 3])
def test_the_same_tune_in_another_sound(shift, monkeypatch):
  # pYIN comes with the base install.
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  other = sung([n + shift for n in TUNE], harmonics=(1.0, 0.1, 0.5, 0.3))
  found = adherence.measure(other, sung(TUNE), RATE)
  assert found.tracker == 'librosa pYIN'
  assert found.frames > 80
  assert found.contour > 0.8 > 0.5 > found.contour_chance
  assert found.chroma > 0.7 > found.chroma_chance


def test_another_tune_is_at_chance_and_silence_has_no_contour(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  rng = np.random.default_rng(0)
  found = adherence.measure(
      sung(rng.integers(0, 12, len(TUNE))), sung(TUNE), RATE)
  assert found.contour < 0.5
  nothing = adherence.measure(np.zeros(3 * RATE), sung(TUNE), RATE)
  assert nothing.contour is None and nothing.frames == 0
