"""Flutter of tones whose modulation is known."""

import numpy as np
import pytest

from musiclm_jax.metrics import roughness

RATE = 24_000
TIME = np.arange(4 * RATE) / RATE


def _tone(depth=0.0, hz=50.0):
  return (1 + depth * np.sin(2 * np.pi * hz * TIME)) * np.sin(
      2 * np.pi * 1_000 * TIME)


def test_a_swing_of_known_depth():
  """A swing by m of the mean has m^2 / 2 of its energy."""
  found = roughness.flutter_db(
      np.stack([_tone(0.5, 25.0), _tone(0.25, 25.0), _tone(0.5)]), RATE)
  # The Hann window of 256 samples smooths fast swings: its own transform.
  turns = np.array([25.0, 25.0, 50.0]) * 256 / RATE
  smoothing = np.sinc(turns) / (1 - turns**2)
  wanted = 20 * np.log10(smoothing * [0.5, 0.25, 0.5]) - 3.01
  np.testing.assert_allclose(found, wanted, atol=0.6)


def test_steady_and_slow_is_smooth():
  steady, slow = roughness.flutter_db(
      np.stack([_tone(), _tone(0.5, 4.0)]), RATE)
  assert steady < -40 and slow < -25


def test_level_does_not_count():
  both = np.stack([_tone(0.3), 0.01 * _tone(0.3)])
  found = roughness.flutter_db(both, RATE)
  assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_frames_with_unrelated_phases_are_rough():
  """The same magnitudes, each frame with phases of its own: what to hear for."""
  rng = np.random.default_rng(0)
  hop, size = 480, 1920
  window = np.hanning(size + 1)[:-1]
  made = np.zeros(len(TIME) + size)
  for start in range(0, len(TIME), hop):
    phase = rng.uniform(0, 2 * np.pi)
    made[start:start + size] += window * np.sin(
        2 * np.pi * 1_000 * np.arange(size) / RATE + phase)
  added = roughness.added_db(
      _tone()[None], made[None, :len(TIME)], RATE)
  assert added[0] > 20


def test_too_short():
  with pytest.raises(ValueError, match='at least'):
    roughness.flutter_db(np.zeros((1, 1_000)), RATE)
