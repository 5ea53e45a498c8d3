"""Agreement of answers with what was asked for, on cases worked by hand."""

import itertools

import numpy as np
import pytest

from musiclm_jax.metrics import pairing


def _equal(asked, heard):
  return asked == heard


def test_a_case_by_hand():
  found = pairing.agreement(
      _equal, list('aaab'), list('aabb'), ['1', '2', '3', '4'])
  assert found.value == 0.75 and found.count == 4
  # Others' answers: a, a and a of the rows a, b, b; rows in order 1/3, 1/3, 2/3
  # and 1/3 of three others.
  assert found.shuffled == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 1 / 3) / 4)
  assert found.constant == 0.75  # always "a"
  assert found.chance == 0.75
  assert found.low <= 0.75 <= found.high


def test_p_value_by_enumeration():
  rng = np.random.default_rng(0)
  table = rng.random((5, 5)) + np.eye(5) * 0.3
  means = [np.mean([table[i, j] for i, j in enumerate(order)])
           for order in itertools.permutations(range(5))]
  exact = np.mean(np.array(means) >= np.trace(table) / 5 - 1e-12)
  assert pairing.p_value(table, list('abcde'), permutations=20_000
                         ) == pytest.approx(exact, abs=0.01)


def test_clips_of_one_track_are_not_independent_trials():
  # A fact and an answer for each of 8 tracks, nothing to do with each other,
  # and 12 clips of each track: permuting clips would find most significant.
  rng = np.random.default_rng(1)
  tracks = np.repeat(np.arange(8), 12)
  by_track, by_clip = [], []
  for trial in range(60):
    asked, heard = (rng.integers(0, 3, 8)[tracks] for _ in range(2))
    table = (asked[:, None] == heard[None]).astype(float)
    by_track.append(pairing.p_value(table, tracks, trial, 200))
    by_clip.append(pairing.p_value(table, np.arange(96), trial, 200))
  assert np.mean(np.array(by_track) < 0.05) < 0.15
  assert np.mean(np.array(by_clip) < 0.05) > 0.3


def test_answers_that_fit_are_significant_and_others_count_not_as_shuffled():
  asked = np.arange(20) % 4
  found = pairing.agreement(_equal, asked, asked, np.arange(20))
  assert found.value == 1 and found.p_value == 1 / (pairing.PERMUTATIONS + 1)
  assert found.shuffled == pytest.approx(4 / 19)
  # What another clip of the same track is like, says nothing of chance.
  same = pairing.agreement(_equal, asked, asked, asked)
  assert same.shuffled == 0


def test_numbers_of_answers():
  with pytest.raises(ValueError, match='3 clips came with 2 answers'):
    pairing.agreement(_equal, [1, 2, 3], [1, 2], ['a', 'b', 'c'])
