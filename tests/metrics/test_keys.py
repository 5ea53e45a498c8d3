"""Names, scores and estimates of keys."""

import itertools

import numpy as np
import pytest
from scipy import stats

from musiclm_jax.metrics import keys


@pytest.mark.parametrize('name, number', [
    ('C', 0), ('c', 0), ('C major', 0), ('Bb major', 10), ('B flat major', 10),
    ('B♭', 10), ('B minor', 23), ('Bm', 23), ('bb minor', 22), ('Gm', 19),
    ('F#m', 18), ('F sharp minor', 18), ('F-sharp minor', 18), ('Cb', 11),
    ('A dorian', 21), ('E flat mixolydian', 3), ('D:min', None), ('H', None),
    ('C blues', None), ('', None), ('7', None)])
def test_names(name, number):
  if number is None:
    with pytest.raises(ValueError, match='is no'):
      keys.parse(name)
  else:
    assert keys.parse(name) == number


def test_modes():
  assert keys.parse('D', 'minor') == 14 and keys.parse('D major', 'minor') == 2
  assert keys.mode_in('D') is None and keys.mode_in('Dm') == 1
  with pytest.raises(ValueError, match="'sad' is no mode"):
    keys.parse_mode('sad')


def test_points_by_hand():
  points = lambda a, b: float(keys.weighted(keys.parse(a), keys.parse(b)))
  assert points('A minor', 'A minor') == 1
  assert points('A minor', 'E minor') == 0.5  # a fifth above
  assert points('A minor', 'D minor') == 0  # a fifth below
  assert points('A minor', 'C') == points('C', 'A minor') == 0.3
  assert points('A minor', 'A') == 0.2
  assert points('C', 'E minor') == 0


def test_points_are_those_of_mir_eval():
  key = pytest.importorskip('mir_eval.key')
  names = ['C', 'C#', 'D', 'Eb', 'E', 'F', 'F#', 'G', 'Ab', 'A', 'Bb', 'B']
  names = [f'{n} {mode}' for mode in ('major', 'minor') for n in names]
  for a, b in itertools.product(range(24), range(24)):
    assert keys.weighted(a, b) == key.weighted_score(names[a], names[b])


@pytest.mark.parametrize('profile', sorted(keys.PROFILES))
def test_estimates_are_the_best_correlation(profile):
  rng = np.random.default_rng(0)
  for _ in range(20):
    chroma = rng.random(12)
    found = [stats.pearsonr(np.roll(p, k), chroma).statistic
             for p in keys.PROFILES[profile] for k in range(12)]
    assert keys.estimate(chroma, profile) == np.argmax(found)


def test_scales_and_their_tonic_chords():
  for tonic in range(12):
    for mode, scale, third in ((0, (0, 2, 4, 5, 7, 9, 11), 4),
                               (1, (0, 2, 3, 5, 7, 8, 11), 3)):
      chroma = np.zeros(12)
      chroma[list(scale)] = 1
      chroma[[0, third, 7]] += 1
      assert keys.estimate(np.roll(chroma, tonic)) == tonic + 12 * mode
