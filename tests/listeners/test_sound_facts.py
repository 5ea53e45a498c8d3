"""Listeners of tempo, key, pitch and drums, on sounds whose answer is known."""

import importlib.util

import numpy as np
import pytest

from musiclm_jax.listeners import drums
from musiclm_jax.listeners import keys as key_listeners
from musiclm_jax.listeners import pitch
from musiclm_jax.listeners import tempo
from musiclm_jax.metrics import keys
from musiclm_jax.metrics import tempo as tempo_metrics

RATE = 24_000


def chord(notes, seconds):
  """[N]: MIDI notes at once, with partials, decaying."""
  time = np.arange(int(seconds * RATE)) / RATE
  return sum(np.sin(2 * np.pi * 440 * 2**((n - 69) / 12) * k * time) / k**1.5
             for n in notes for k in (1, 2, 3)) * np.exp(-2 * time) * 0.05


def clicks(bpm, seconds=8, seed=0):
  rng = np.random.default_rng(seed)
  sound = np.zeros(int(seconds * RATE), np.float32)
  burst = np.exp(-np.arange(1200) / 200)
  for start in np.arange(0, seconds - 0.1, 60 / bpm):
    place = int(start * RATE)
    sound[place:place + 1200] += 0.5 * burst * rng.normal(size=1200)
  return sound


def cadences(tonic, third):
  """[N]: I IV V I, twice."""
  minor = third == 3
  degrees = [(0, third, 7), (5, 8 if minor else 9, 12), (7, 11, 14),
             (0, third, 7)]
  return np.concatenate([chord([60 + tonic + d for d in degree], 0.75)
                         for degree in degrees * 2]).astype(np.float32)


@pytest.mark.parametrize('name', tempo.JUDGES)
def test_tempo_of_clicks(name):
  if name not in tempo.installed():
    pytest.skip(f'{name} is not installed')
  for bpm in (96, 132):
    heard = tempo.judge(name)(clicks(bpm), RATE)
    assert tempo_metrics.accuracy2(bpm, heard), heard


@pytest.mark.parametrize('name', key_listeners.JUDGES)
def test_key_of_cadences(name):
  if name not in key_listeners.installed():
    pytest.skip(f'{name} is not installed')
  hear = {'librosa': lambda a: keys.estimate(key_listeners.chroma(a, RATE)),
          'essentia': lambda a: keys.parse(
              key_listeners.essentia_name(a, RATE))}[name]
  assert hear(cadences(2, 4)) == keys.parse('D major')
  assert hear(cadences(7, 3)) == keys.parse('G minor')


def test_pitch_of_a_melody():
  if not importlib.util.find_spec('swift_f0'):
    pytest.skip('pYIN is tried where adherence is')
  sound = np.concatenate([np.concatenate([chord([n], 0.5)]) for n in (
      60, 72)] + [np.zeros(RATE)]).astype(np.float32)
  found = pitch.contour(sound, RATE)
  assert len(found) == 100
  assert np.nanmedian(found[:25]) == pytest.approx(60, abs=0.2)
  assert np.nanmedian(found[25:50]) == pytest.approx(72, abs=0.2)
  assert np.isnan(found[60:]).all()
  assert pitch.mean(sound, RATE) == pytest.approx(66, abs=2)
  assert np.isnan(pitch.mean(np.zeros(RATE, np.float32), RATE))


def test_drums_are_more_than_a_melody():
  tune = cadences(0, 4)
  with_drums = tune + 0.5 * clicks(160, len(tune) / RATE)[:len(tune)]
  assert drums.onsets(with_drums, RATE) > 2 * drums.onsets(tune, RATE)
