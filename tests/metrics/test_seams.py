"""Joins that can be heard stand out, others do not."""

import numpy as np
import pytest

from musiclm_jax.metrics import seams

RATE = 24_000
JOINS = (2.0, 4.0, 6.0)


@pytest.fixture(name='music', scope='module')
def _music():
  """Eight seconds of plucked notes of changing loudness."""
  rng = np.random.default_rng(0)
  time = np.arange(RATE // 5) / RATE
  notes = [rng.uniform(0.2, 1) * np.exp(-9 * time) * np.sin(
      2 * np.pi * 220 * 2**(rng.integers(0, 24) / 12) * time)
           for _ in range(44)]
  sound = np.concatenate(notes)[1_234:][:8 * RATE]
  return sound + 1e-3 * rng.standard_normal(len(sound))


def test_joins_that_are_none_do_not_stand_out(music):
  found = seams.measure(music, RATE, JOINS)
  np.testing.assert_array_equal(found.seconds, JOINS)
  assert found.clean and found.click_p > 0.05 and found.spectral_p > 0.05


def test_a_spike_is_a_click(music):
  broken = music.copy()
  broken[4 * RATE + 3] += 0.3
  found = seams.measure(broken, RATE, JOINS)
  assert found.click_p < 0.01 and not found.clean
  assert found.click_ranks[1] < 0.002 < found.click_ranks[[0, 2]].min()


def test_another_sound_from_a_join_on_stands_out(music):
  rng = np.random.default_rng(1)
  broken = music.copy()
  broken[6 * RATE:] = 0.3 * rng.standard_normal(2 * RATE)
  found = seams.measure(broken, RATE, JOINS)
  assert found.spectral_p < 0.01 and not found.clean
  assert np.argmin(found.spectral_ranks) == 2


def test_chance_is_chance():
  """Of noise, where every moment is alike, ranks are uniform."""
  noise = np.random.default_rng(2).standard_normal(8 * RATE)
  found = seams.measure(noise, RATE, np.arange(0.5, 7.5, 0.1))
  for ranks in (found.click_ranks, found.spectral_ranks):
    assert len(ranks) == 70
    assert 0.35 < ranks.mean() < 0.65


def test_joins_too_near_the_ends_do_not_count(music):
  found = seams.measure(music, RATE, (0.01, 8.0, 9.0))
  assert not len(found.seconds) and found.clean and found.click_p == 1.0
