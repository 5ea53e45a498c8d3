"""Retrieval figures on scores whose answer is known."""

import itertools

import numpy as np
import pytest

from musiclm_jax.metrics import retrieval


def test_perfect_and_reversed():
  assert retrieval.recall(np.eye(5), 1) == 1
  assert retrieval.mean_average_precision(np.eye(5)) == 1
  assert retrieval.recall(-np.eye(5), 4) == 0
  assert retrieval.mean_average_precision(-np.eye(5)) == pytest.approx(0.2)


def test_ranks_by_hand():
  scores = np.array([[0.5, 0.9, 0.1], [0.0, 0.3, 0.2], [0.9, 0.8, 0.7]])
  np.testing.assert_array_equal(retrieval.ranks(scores), [1, 0, 2])
  assert retrieval.mean_average_precision(scores) == pytest.approx(
      (1 / 2 + 1 + 1 / 3) / 3)


def test_constant_scores_find_nothing():
  assert retrieval.recall(np.ones((6, 6)), 5) == 0


def test_random_scores_sit_at_chance():
  rng = np.random.default_rng(0)
  runs = [rng.standard_normal((20, 20)) for _ in range(300)]
  assert np.mean([retrieval.recall(s, 10) for s in runs]) == pytest.approx(
      retrieval.recall_chance(20, 10), abs=0.02)
  assert np.mean([retrieval.mean_average_precision(s) for s in runs]
                ) == pytest.approx(
                    retrieval.average_precision_chance(20), abs=0.01)


def test_shuffled_captions_take_the_own_to_the_shuffled_value():
  rng = np.random.default_rng(1)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  text = unit(rng.standard_normal((200, 16)))
  audio = unit(text + 0.3 * rng.standard_normal((200, 16)))
  own, others = retrieval.own_and_shuffled(text @ audio.T)
  assert own.mean() > 0.5 > abs(others.mean()) + 0.4
  own, others = retrieval.own_and_shuffled(np.roll(text, 1, axis=0) @ audio.T)
  low, high = retrieval.bootstrap_interval(own - others)
  assert low < 0 < high


def test_own_and_shuffled_by_hand():
  own, others = retrieval.own_and_shuffled(np.array([[3., 1, 2], [0, 5, 1],
                                                     [2, 2, 9]]))
  np.testing.assert_allclose(own, [3, 5, 9])
  np.testing.assert_allclose(others, [1.5, 0.5, 2])


def test_interval_covers_the_mean():
  values = np.random.default_rng(2).standard_normal(400) + 3
  low, high = retrieval.bootstrap_interval(values)
  assert low < values.mean() < high
  assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_several_right_items_by_hand():
  scores = np.array([[0.9, 0.8, 0.1, 0.5], [0.9, 0.8, 0.1, 0.5],
                     [0.5, 0.5, 0.1, 0.2]])
  right = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 0]], bool)
  # In order: right wrong right wrong; wrong right right wrong; a tie.
  np.testing.assert_array_equal(retrieval.best_ranks(scores, right), [0, 1, 1])
  assert retrieval.recall(scores, 1, right) == pytest.approx(1 / 3)
  assert retrieval.recall(scores, 2, right) == 1
  assert retrieval.mean_average_precision(scores, right) == pytest.approx(
      np.mean([(1 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, 1 / 2]))


def test_one_right_item_is_the_diagonal():
  scores = np.random.default_rng(3).standard_normal((9, 9))
  own = np.eye(9, dtype=bool)
  assert retrieval.recall(scores, 2, own) == retrieval.recall(scores, 2)
  assert retrieval.mean_average_precision(scores, own) == pytest.approx(
      retrieval.mean_average_precision(scores))
  assert retrieval.recall_chance(9, 2) == pytest.approx(2 / 9)


@pytest.mark.parametrize('right', [1, 2, 4, 5])
def test_chance_is_the_mean_over_all_orders(right):
  orders = np.array(list(itertools.permutations(range(5))), float)
  mine = np.broadcast_to(np.arange(5) < right, orders.shape)
  for k in (1, 3, 10):
    assert retrieval.recall_chance(5, k, right) == pytest.approx(
        retrieval.recall(orders, k, mine))
  assert retrieval.average_precision_chance(5, right) == pytest.approx(
      retrieval.mean_average_precision(orders, mine))


def test_chance_of_queries_that_differ_is_their_mean():
  found = retrieval.recall_chance(6, 2, np.array([1, 3]))
  assert found == pytest.approx(np.mean([
      retrieval.recall_chance(6, 2, r) for r in (1, 3)]))
