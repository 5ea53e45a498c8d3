"""Scores by blocks beside those of plain logits, values and gradients."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import cross_entropy


def _inputs(rows=2, length=21, levels=3, classes=40, width=8,
            dtype=jnp.float32):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  labels = jnp.asarray(rng.integers(0, classes, (rows, length, levels)))
  return (draw(rows, length, levels, width).astype(dtype),
          draw(levels, classes, width), labels)


def _by_hand(hidden, tables, labels):
  """In float32, of inputs rounded as products take them."""
  hidden, tables = (x.astype(hidden.dtype).astype(jnp.float32)
                    for x in (hidden, tables))
  logits = jnp.einsum('bnqd,qkd->bnqk', hidden, tables,
                      precision=jax.lax.Precision.HIGHEST)
  return cross_entropy.Scores(
      logits.mean(-1), logits.max(-1), jax.nn.logsumexp(logits, -1),
      jnp.take_along_axis(logits, labels[..., None], -1)[..., 0])


def _close(found, expected, rounding):
  assert found.shape == expected.shape
  found, expected = (np.asarray(x, np.float64) for x in (found, expected))
  np.testing.assert_allclose(
      found, expected, rtol=rounding, atol=rounding * np.abs(expected).max())


def _total(scores, weights):
  """Something of all that has a gradient, of unequal weights."""
  return (weights * (jnp.square(scores.log_z) - 1.5 * scores.chosen +
                     0.3 * scores.average + scores.top)).sum()


@pytest.mark.parametrize('dtype, rounding', [
    (jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)])
@pytest.mark.parametrize('levels, block', [
    (1, 0), (1, 4), (1, 20), (3, 0), (3, 1), (3, 7), (3, 21)])
def test_values_and_gradients_are_those_of_plain_logits(
    levels, block, dtype, rounding):
  hidden, tables, labels = _inputs(levels=levels, dtype=dtype)
  expected = _by_hand(hidden, tables, labels)
  found = jax.jit(cross_entropy.scores, static_argnums=3)(
      hidden, tables, labels, block)
  for one, other in zip(found, expected, strict=True):
    assert one.dtype == jnp.float32
    _close(one, other, rounding)
  weights = jnp.asarray(
      np.random.default_rng(1).uniform(size=labels.shape), jnp.float32)
  gradient = lambda scores: jax.jit(jax.grad(
      lambda *x: _total(scores(*x, labels), weights), (0, 1)))(hidden, tables)
  found = gradient(lambda *x: cross_entropy.scores(*x, block))
  # `top` counts for accuracy only.
  expected = gradient(lambda *x: (
      lambda s: s._replace(top=jax.lax.stop_gradient(s.top)))(_by_hand(*x)))
  assert [x.dtype for x in found] == [dtype, jnp.float32]
  for one, other in zip(found, expected, strict=True):
    _close(one, other, rounding)


def test_positions_without_a_weight_have_no_gradient():
  """Nor has what fills the last block, which is of no position at all."""
  hidden, tables, labels = _inputs()
  weights = jnp.zeros(labels.shape).at[:, 5:9].set(1.0)
  gradient = jax.grad(lambda *x: _total(
      cross_entropy.scores(*x, labels, 4), weights), (0, 1))
  of_hidden, of_tables = gradient(hidden, tables)
  assert (np.abs(of_hidden).max(axis=(0, 2, 3)) > 0).tolist() == [
      5 <= n < 9 for n in range(21)]
  part = slice(5, 9)
  _, expected = jax.grad(lambda *x: _total(
      cross_entropy.scores(*x, labels[:, part], 4), 1.0), (0, 1))(
          hidden[:, part], tables)
  _close(of_tables, expected, 1e-5)


def test_large_logits_do_not_overflow():
  hidden, tables, labels = _inputs()
  for scale in (1e3, -1e3):
    run = lambda *x: _total(cross_entropy.scores(*x, labels, 4), 1.0)
    value, gradient = jax.value_and_grad(run, (0, 1))(hidden * scale, tables)
    assert np.isfinite(value)
    assert all(np.isfinite(x).all() for x in gradient)


def _largest(block):
  """Numbers in the largest array of the compiled gradient."""
  hidden, tables, labels = _inputs(2, 512, 2, 640, 8)
  run = lambda *x: _total(cross_entropy.scores(*x, labels, block), 1.0)
  text = jax.jit(jax.value_and_grad(run, (0, 1))).lower(
      hidden, tables).compile().as_text()
  return max(math.prod(map(int, shape.split(','))) for shape in re.findall(
      r'\b(?:f32|bf16|f16|pred|s32)\[([\d,]+)\]', text))


def test_the_logits_of_all_positions_never_stand_in_memory():
  whole = 2 * 512 * 2 * 640
  assert _largest(0) >= whole
  assert _largest(32) == whole // 16
