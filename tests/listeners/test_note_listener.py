"""Notes out of activations, and out of sounds where basic-pitch is installed."""

import numpy as np
import pytest

from musiclm_jax.listeners import notes


def _activations(frames=200):
  return np.zeros((frames, 88)), np.zeros((frames, 88)), np.arange(frames) / 100


def test_a_note_lasts_until_its_activation_ceases():
  onsets, sounding, seconds = _activations()
  onsets[20, 39] = 0.8
  onsets[19, 39] = 0.6  # no peak
  sounding[20:80, 39] = 0.9
  sounding[50:55, 39] = 0.0  # too short a gap
  sounding[100:120, 39] = 0.9  # after a long one, without an onset
  np.testing.assert_allclose(
      notes.decode(onsets, sounding, seconds), [[0.2, 0.8, 60]])


def test_a_note_struck_again_and_what_is_no_note():
  onsets, sounding, seconds = _activations()
  onsets[[10, 60], 48] = 0.9
  sounding[10:100, 48] = 0.5
  onsets[10, 5] = 0.9  # an onset of nothing
  onsets[30, 6] = 0.9
  sounding[30:38, 6] = 0.9  # too short
  sounding[30:90, 7] = 0.2  # too faint
  onsets[30, 7] = 0.9
  np.testing.assert_allclose(notes.decode(onsets, sounding, seconds),
                             [[0.1, 0.6, 69], [0.6, 1.0, 69]])
  assert notes.decode(*_activations()).shape == (0, 3)


def test_a_scale_of_tones():
  if notes.model_path() is None:
    pytest.skip(notes.INSTALL)
  rate, played = 24_000, (60, 64, 67, 72, 71, 55)
  time = np.arange(rate // 2) / rate
  sound = np.concatenate([
      sum(np.sin(2 * np.pi * 440 * 2**((n - 69) / 12) * k * time) / k**2
          for k in (1, 2, 3, 4)) * np.exp(-3 * time) for n in played])
  found = notes.transcribe(0.3 * sound.astype(np.float32), rate)
  for k, note in enumerate(played):
    near = np.abs(found[:, 0] - k / 2) < 0.05
    assert note in found[near, 2], (k, found)


def test_activations_are_the_packages_own():
  if notes.model_path() is None:
    pytest.skip(notes.INSTALL)
  ours = notes.activations(
      0.3 * np.random.default_rng(0).normal(size=70_000), notes.RATE_HZ)
  # 172 frames a window of 43,844 samples, 30 of them shared.
  assert ours[0].shape == ours[1].shape == (len(ours[2]), 88)
  assert np.all(np.diff(ours[2]) > 0)
  assert ours[2][-1] == pytest.approx(70_000 / notes.RATE_HZ, abs=0.02)
