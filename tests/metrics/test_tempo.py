"""MIREX's accuracies of tempo, at the edges of the tolerance."""

import numpy as np
import pytest

from musiclm_jax.metrics import tempo


@pytest.mark.parametrize('heard, one, two', [
    (120.0, True, True), (124.8, True, True), (124.9, False, False),
    (115.2, True, True), (115.1, False, False), (240.0, False, True),
    (249.7, False, False), (360.0, False, True), (60.0, False, True),
    (62.5, False, False), (40.0, False, True), (80.0, False, False),
    (180.0, False, False), (float('nan'), False, False)])
def test_accuracies_of_120_beats_a_minute(heard, one, two):
  assert bool(tempo.accuracy1(120.0, heard)) == one
  assert bool(tempo.accuracy2(120.0, heard)) == two


def test_arrays_broadcast():
  found = tempo.accuracy2(np.array([[100.0], [90.0]]), np.array([50.0, 90, 30]))
  np.testing.assert_array_equal(
      found, [[True, False, False], [False, True, True]])
