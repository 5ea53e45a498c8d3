"""Note F1 by hand, and melodies as lists of notes."""

import numpy as np
import pytest

from musiclm_jax.metrics import notes

ASKED = np.array([[0.0, 0.5, 60], [0.5, 1.0, 64], [1.0, 1.5, 67]])


def _mir_eval():
  pytest.importorskip('mir_eval')


def test_by_hand():
  _mir_eval()
  heard = np.array([[0.04, 0.2, 60],  # in time
                    [0.57, 1.0, 64],  # 70 ms late
                    [1.0, 1.1, 67], [1.0, 1.1, 72]])
  found = notes.score(ASKED, heard)
  assert (found.precision, found.recall) == (2 / 4, pytest.approx(2 / 3))
  assert found.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
  assert notes.score(ASKED, ASKED) == notes.Found(1, 1, 1)
  assert notes.score(ASKED, ASKED + [0, 0, 1]).f1 == 0


def test_another_key_and_octave():
  _mir_eval()
  moved = ASKED + np.array([[0, 0, 5], [0, 0, -7], [0, 0, 17]])
  assert notes.score(ASKED, moved).f1 == 0
  assert notes.best_score(ASKED, moved).f1 == 1
  twice = np.concatenate([moved, moved + [0, 0, 12]])
  assert notes.best_score(ASKED, twice).f1 == 1
  assert notes.best_score(ASKED, ASKED[:, [0, 1, 2]] * [1, 1, 0] + [0, 0, 60]
                          ).f1 == pytest.approx(1 / 3)


def test_no_notes_agree_with_nothing():
  none = np.zeros((0, 3))
  assert notes.score(ASKED, none).f1 == notes.best_score(none, ASKED).f1 == 0


def test_triples_of_a_clip():
  triples = [[0.0, 0.5, 70], [10.0, 0.5, 71], ['12.5', '1', '72'],
             [20.0, 0.5, 73], [15.0, 0.0, 74]]
  np.testing.assert_allclose(
      notes.of_triples(triples, 10, 10), [[0, 0.5, 71], [2.5, 3.5, 72]])
  assert notes.of_triples([]).shape == (0, 3)
  for wrong in ([[1, 2]], [['a', 1, 2]], 5, ['abc']):
    with pytest.raises(ValueError, match='triples'):
      notes.of_triples(wrong)


def test_hz():
  np.testing.assert_allclose(notes.hz([57, 69, 81]), [220, 440, 880])
