"""Baselines of a stage's loss on codes whose entropy is known."""

import numpy as np
import pytest

from musiclm_jax.metrics import token_baselines as baselines

K = 32


def _independent(probabilities, shape, seed=0):
  return np.random.default_rng(seed).choice(
      len(probabilities), size=shape, p=probabilities)


def _copying(stay, shape, seed=0):
  """A chain that keeps its code with probability `stay`, else any code."""
  rng = np.random.default_rng(seed)
  codes = rng.integers(0, K, shape)
  keep = rng.random(shape) < stay
  for t in range(1, shape[1]):
    codes[:, t] = np.where(keep[:, t], codes[:, t - 1], codes[:, t])
  return codes


def test_entropy_of_known_distributions():
  p = np.array([0.5, 0.25, 0.125, 0.125])
  codes = _independent(p, (40, 200, 1))
  assert baselines.entropy(codes, 4)[0] == pytest.approx(
      -(p * np.log(p)).sum(), abs=0.01)
  uniform = np.random.default_rng(1).integers(0, K, (40, 200, 2))
  np.testing.assert_allclose(
      baselines.entropy(uniform, K), np.log(K), atol=0.005)
  assert baselines.entropy(np.zeros((2, 9, 1), int), K)[0] == 0


def test_padding_counts_nowhere():
  codes = np.random.default_rng(0).integers(0, K, (8, 60, 2))
  padded = np.pad(codes, ((0, 0), (0, 20), (0, 0)), constant_values=-1)
  for measure in (lambda c: baselines.entropy(c, K),
                  lambda c: baselines.usage(c, K), baselines.repeat_share,
                  lambda c: baselines.Bigram.fit(codes, K).nats(c)):
    np.testing.assert_allclose(measure(padded), measure(codes))


def test_usage_and_repeats():
  codes = np.stack([np.arange(8) % 4, np.zeros(8, int)], -1)[None]
  np.testing.assert_allclose(baselines.usage(codes, 8), [0.5, 0.125])
  np.testing.assert_allclose(baselines.repeat_share(codes), [0, 1])


def test_independent_codes_cost_their_unigram():
  p = np.random.default_rng(3).dirichlet(np.ones(K))
  fit, test = (_independent(p, (60, 200, 1), seed) for seed in (0, 1))
  nats = baselines.Bigram.fit(fit, K).nats(test)[0]
  assert nats == pytest.approx(-(p * np.log(p)).sum(), abs=0.03)


def test_unseen_uniform_codes_cost_ln_k():
  fit, test = (np.random.default_rng(s).integers(0, K, (30, 100, 2))
               for s in (0, 1))
  np.testing.assert_allclose(
      baselines.Bigram.fit(fit, K).nats(test), np.log(K), atol=0.03)


def test_copies_are_caught():
  stay = 0.9
  fit, test = (_copying(stay, (40, 200, 1), seed) for seed in (0, 1))
  same, other = stay + (1 - stay) / K, (1 - stay) / K
  truth = -(same * np.log(same) + (K - 1) * other * np.log(other))
  # The codes of a copying chain look uniform to a unigram ...
  assert baselines.entropy(test, K)[0] > 0.98 * np.log(K)
  # ... and the baseline finds what is left of them.
  nats = baselines.Bigram.fit(fit, K).nats(test)[0]
  assert nats == pytest.approx(truth, abs=0.05)


def test_a_deterministic_successor_is_found():
  rng = np.random.default_rng(0)
  table = rng.permutation(K)
  start = rng.integers(0, K, 40)
  codes = np.empty((40, 100, 1), int)
  codes[:, 0, 0] = start
  for t in range(1, 100):
    codes[:, t, 0] = table[codes[:, t - 1, 0]]
  assert baselines.Bigram.fit(codes, K).nats(codes[:, 1:])[0] < 0.1


@pytest.mark.parametrize('with_above', [False, True])
def test_the_level_above_is_a_context(with_above):
  rng = np.random.default_rng(0)
  first = rng.integers(0, K, (40, 100))
  table = rng.permutation(K)
  if with_above:  # the target's only level follows from the condition
    nats = baselines.Bigram.fit(table[first][..., None], K, first).nats(
        table[first][..., None], first)
    assert nats[0] < 0.1
    blind = baselines.Bigram.fit(table[first][..., None], K)
    assert blind.nats(table[first][..., None])[0] > 2
  else:
    codes = np.stack([first, table[first]], -1)
    nats = baselines.Bigram.fit(codes, K).nats(codes)
    assert nats[0] > 2 and nats[1] < 0.1


def test_one_sequence_cannot_be_fitted():
  with pytest.raises(ValueError, match='1 sequences'):
    baselines.Bigram.fit(np.zeros((1, 5, 1), int), K)


def test_what_a_code_is_guessed_from_by_hand():
  codes = np.array([[[1, 2], [3, 4], [5, 6]]])
  before, higher = baselines._contexts(codes, None)  # pylint: disable=protected-access
  assert before.tolist() == [[[-1, -1], [1, 2], [3, 4]]]
  # Of the first level: the last of the frame before.
  assert higher.tolist() == [[[-1, 1], [2, 3], [4, 5]]]
  recent = baselines._recent(np.array([[7, 7, 8, 7, -1, 7]]))  # pylint: disable=protected-access
  np.testing.assert_allclose(recent, [[0, 1, 0, 2 / 3, 0, 3 / 4]])
