"""A stage task's metrics, by hand."""

import numpy as np
import pytest

from musiclm_jax.tokens import task_metrics

TARGETS = [[5, 6, 7, 0], [8, 9, 0, 0]]


def test_scores_are_spread_over_the_real_tokens():
  found = task_metrics.nats_per_token(TARGETS, np.array([-3.0, -7.0]))
  assert found == {'nats_per_token': pytest.approx(2.0)}


def test_agreement_counts_real_tokens_only():
  predictions = [np.array([5, 6, 1, 0]), [8, 2, 0, 0]]
  found = task_metrics.agreement(TARGETS, predictions)
  assert found == {'agreement': pytest.approx(3 / 5)}


def test_nothing_but_padding():
  assert task_metrics.agreement([[0]], [[0]]) == {'agreement': 0.0}
  assert task_metrics.nats_per_token([[0]], [0.0]) == {'nats_per_token': 0.0}
