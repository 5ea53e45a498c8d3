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


def test_contour_is_raw_chroma_accuracy_at_the_best_transposition():
  melody = pytest.importorskip('mir_eval.melody')
  rng = np.random.default_rng(0)
  chroma = np.zeros((12, 1))
  for shift in (0, 5):
    tune = rng.integers(55, 80, 200).astype(float)
    sound = tune + shift + rng.choice([0, 0, 12, 0.4, 0.7, 3], 200)
    tune[rng.random(200) < 0.2] = np.nan
    sound[rng.random(200) < 0.3] = np.nan
    hz = [np.where(np.isfinite(x), 440 * 2**((x - 69) / 12), 0)
          for x in (tune, sound - shift)]
    parts = [(x > 0, np.where(x > 0, melody.hz2cents(np.maximum(x, 1)), 0))
             for x in hz]
    expected = melody.raw_chroma_accuracy(*parts[0], *parts[1])
    found, _ = adherence.compare(adherence.Heard(sound, chroma),
                                 adherence.Heard(tune, chroma))
    assert found == pytest.approx(expected)


def test_noise_that_has_a_pitch_once_follows_nothing():
  tune, noise = np.arange(50.0, 70.0), np.full(20, np.nan)
  noise[3] = 61.0
  chroma = np.zeros((12, 1))
  compare = lambda a, b: adherence.compare(
      adherence.Heard(a, chroma), adherence.Heard(b, chroma))[0]
  assert compare(noise, tune) == pytest.approx(1 / 20)
  assert compare(tune, np.full(20, np.nan)) is None
  assert compare(np.full(20, np.nan), tune) == 0
