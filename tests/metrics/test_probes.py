"""Linear probes on data whose answer is known."""

import math

import numpy as np
import pytest
from scipy import sparse

from musiclm_jax.metrics import probes


def _two_classes(count, apart, dims, seed, scale=1.0):
  """Unit Gaussians whose means lie `apart` along the first dimension."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(2, size=count)
  inputs = rng.normal(size=(count, dims))
  inputs[:, 0] += apart * (labels - 0.5)
  return probes.Examples(inputs * scale, labels, np.arange(count))


def test_a_probe_reaches_the_best_there_is():
  """Of two Gaussians 2 deviations apart, Phi(1) of the draws can be told."""
  best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
  splits = [_two_classes(n, 2.0, 5, i) for i, n in enumerate((2000, 500, 4000))]
  result = probes.probe(*splits)
  assert abs(result.accuracy - best) < 0.025
  low, high = result.interval()
  assert low < result.accuracy < high
  np.testing.assert_allclose(
      high - low, 2 * 1.96 * math.sqrt(best * (1 - best) / 4000), rtol=0.1)
  assert abs(result.chance - 0.5) < 0.03


def test_units_change_nothing():
  plain, scaled = (
      probes.probe(*(_two_classes(n, 2.0, 3, i, scale)
                     for i, n in enumerate((200, 100, 500))))
      for scale in (1.0, np.array([1e-3, 1.0, 1e3])))
  np.testing.assert_allclose(scaled.accuracy, plain.accuracy, atol=0.01)
  assert scaled.penalty == plain.penalty


def test_noise_stays_at_chance_and_wants_the_strongest_penalty():
  splits = [_two_classes(n, 0.0, 200, i) for i, n in enumerate((100, 300, 500))]
  result = probes.probe(*splits)
  low, high = result.interval()
  assert low < 0.5 < high
  assert result.penalty == probes.PENALTIES[0]


def test_validation_chooses_the_penalty():
  """Labels that a few of very many inputs tell: neither extreme is best."""
  strong, weak = probes.PENALTIES[0], probes.PENALTIES[-1]
  splits = [_two_classes(n, 4.0, 60, i) for i, n in enumerate((80, 300, 500))]
  result = probes.probe(*splits)
  assert weak < result.penalty < strong
  assert 0.8 < result.accuracy < 0.977  # all that there is to know


def test_sparse_tokens_name_their_labels():
  """Token k is label k // 2, but token 6 was never heard with a label."""
  rng = np.random.default_rng(0)

  def split(count, size):
    tokens = rng.integers(size, size=count)
    rows = sparse.csr_matrix(
        (np.ones(count), (np.arange(count), tokens)), (count, 8))
    return probes.Examples(
        rows, np.array(['a', 'b', 'c', 'd'])[tokens // 2], np.arange(count))

  train, test = split(300, 6), split(400, 8)
  result = probes.probe(train, split(50, 8), test, standardise=False)
  known = test.labels != 'd'  # which the probe cannot name
  np.testing.assert_array_equal(result.correct, known)
  assert 0.65 < result.accuracy < 0.85


def test_an_interval_is_as_wide_as_its_groups_are_few():
  rng = np.random.default_rng(1)
  values = rng.integers(2, size=400)
  low, high = probes.grouped_interval(values, np.arange(400))
  p = values.mean()
  np.testing.assert_allclose(
      [low, high], p + 1.96 * np.sqrt(p * (1 - p) / 400) * np.array([-1, 1]),
      atol=0.01)
  # Twenty tunes, all clips of a tune named alike: 20 trials, not 400.
  alike, tunes = np.repeat(np.arange(20) % 2, 20), np.repeat(np.arange(20), 20)
  low, high = probes.grouped_interval(alike, tunes)
  np.testing.assert_allclose(
      [low, high], 0.5 + 1.96 * np.sqrt(0.25 / 20) * np.array([-1, 1]),
      atol=0.035)
  assert probes.grouped_interval(np.ones(9), np.arange(9) % 3) == (1.0, 1.0)


def test_the_best_constant_is_the_most_frequent_label():
  assert probes.most_frequent(np.array(['a', 'b', 'b', 'c'])) == 0.5


def test_mistakes_are_named():
  one = probes.Examples(np.zeros((3, 1)), np.zeros(3), np.arange(3))
  with pytest.raises(ValueError, match='one label; expected two'):
    probes.probe(one, one, one)
  with pytest.raises(ValueError, match='3 rows came with 2 labels'):
    probes.Examples(np.zeros((3, 1)), np.zeros(2), np.arange(3))
