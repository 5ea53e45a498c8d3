"""Rows in few shapes: every row once, in order, whatever fills a batch up."""

import doctest

import numpy as np
import pytest

from musiclm_jax.nn import batching
from musiclm_jax.nn import normalise

SIZES = (1, 4, 16)


@pytest.mark.parametrize('count', [1, 2, 4, 5, 16, 17, 21, 40])
def test_every_row_comes_once_and_in_order(count):
  seen, shapes = [], []
  for rows, real in batching.batches(count, SIZES):
    shapes.append(len(rows))
    seen += rows[:real].tolist()
    assert set(rows[real:].tolist()) <= {seen[-1]}
  assert seen == list(range(count))
  assert set(shapes) <= set(SIZES)
  # No batch is larger than what is left needs.
  assert shapes == [16] * (count // 16) + (
      [batching.size_for(count % 16, SIZES)] if count % 16 else [])


def test_results_are_those_of_the_rows_alone():
  shapes = []

  def function(x, scale):
    shapes.append(x.shape)
    return x.sum(-1) * scale

  rng = np.random.default_rng(0)
  x, scale = rng.normal(size=(21, 3)), rng.normal(size=21)
  found = batching.by_batches(function, [x, scale], SIZES)
  np.testing.assert_allclose(found, x.sum(-1) * scale)
  assert shapes == [(16, 3), (16, 3)]


def test_unit_vectors_and_zeros():
  x = np.float32([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]])
  np.testing.assert_allclose(
      normalise.unit(x), [[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]], atol=1e-5)


def test_examples():
  result = doctest.testmod(batching)
  assert result.attempted and not result.failed
