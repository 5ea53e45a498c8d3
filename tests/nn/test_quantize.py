"""Residual codes and RVQ against NumPy, and what training needs of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import quantize


def _clusters(num_clusters, per_cluster, dim, seed=0, spread=0.01):
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(num_clusters, dim)) * 5.0
  noise = rng.normal(size=(num_clusters, per_cluster, dim)) * spread
  return centres, (centres[:, None] + noise).reshape(-1, dim)


def test_rvq_round_trip_by_hand():
  codebooks = np.zeros((2, 2, 2), np.float32)
  codebooks[0] = [[0, 0], [4, 0]]
  codebooks[1] = [[1, 0], [0, 1]]
  vectors = np.array([[5.0, 0.1], [0.2, 1.2]], np.float32)
  codes = quantize.rvq_encode(vectors, codebooks)
  np.testing.assert_array_equal(codes, [[1, 0], [0, 1]])
  np.testing.assert_array_equal(
      quantize.rvq_decode(codes, codebooks), [[5, 0], [0, 1]])
  np.testing.assert_array_equal(
      quantize.rvq_decode(codes[:, :1], codebooks), [[4, 0], [0, 0]])


def test_decode_refuses_more_levels_than_codebooks():
  with pytest.raises(ValueError, match='3 levels'):
    quantize.rvq_decode(np.zeros((5, 3), int), np.zeros((2, 4, 6)))


def _rvq(num_codebooks=3, size=8, dim=4, seed=0):
  rng = np.random.default_rng(seed)
  scale = 0.5**np.arange(num_codebooks)[:, None, None]
  codebooks = jnp.asarray(
      rng.normal(size=(num_codebooks, size, dim)) * scale, jnp.float32)
  return quantize.Rvq(codebooks, jnp.ones((num_codebooks, size)), codebooks)


def test_quantize_uses_each_example_its_own_number_of_levels():
  rvq = _rvq()
  x = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
  out = jax.jit(quantize.quantize)(x, rvq.codebooks, jnp.asarray([1, 2, 3]))
  np.testing.assert_array_equal(
      out.codes, quantize.rvq_encode(x, rvq.codebooks))
  for example, levels in enumerate((1, 2, 3)):
    np.testing.assert_allclose(
        out.vectors[example],
        quantize.rvq_decode(out.codes[example, :, :levels], rvq.codebooks),
        atol=1e-5)
  distances = []
  for example, levels in enumerate((1, 2, 3)):
    for q in range(1, levels + 1):
      near = quantize.rvq_decode(out.codes[example, :, :q], rvq.codebooks)
      distances.append(np.square(x[example] - near).mean())
  assert float(out.commitment) == pytest.approx(np.mean(distances), rel=1e-4)


def test_gradient_passes_straight_through():
  rvq = _rvq()
  x = np.random.default_rng(2).normal(size=(2, 5, 4)).astype(np.float32)
  weights = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
  levels = jnp.asarray([1, 3])
  grad = jax.grad(lambda v: jnp.sum(
      weights * quantize.quantize(v, rvq.codebooks, levels).vectors))(x)
  np.testing.assert_allclose(grad, weights, atol=1e-6)
  grad = jax.grad(lambda c: jnp.sum(
      weights * quantize.quantize(x, c, levels).vectors))(rvq.codebooks)
  np.testing.assert_array_equal(grad, 0.0)
  # The commitment pulls a vector towards its code.
  one = jnp.asarray([1])
  pull = jax.grad(lambda v: quantize.quantize(
      v, rvq.codebooks, one).commitment)(x[:1])
  gap = x[:1] - quantize.quantize(x[:1], rvq.codebooks, one).vectors
  np.testing.assert_allclose(pull, 2 * gap / gap.size, atol=1e-6)


def test_update_is_an_exponential_average():
  config = quantize.RvqConfig(decay=0.9, dead_code_ratio=0.0)
  rvq = _rvq(num_codebooks=2)
  x = np.random.default_rng(4).normal(size=(2, 5, 4)).astype(np.float32)
  out = jax.jit(quantize.quantize)(x, rvq.codebooks, jnp.asarray([2, 2]))
  new = jax.jit(config.update)(jax.random.key(0), rvq, out)
  residual = x.reshape(-1, 4)
  for level in range(2):
    ids = np.asarray(out.codes).reshape(-1, 2)[:, level]
    for code in range(8):
      count = 0.9 + 0.1 * np.sum(ids == code)
      total = (0.9 * np.asarray(rvq.codebooks[level, code]) +
               0.1 * residual[ids == code].sum(0))
      np.testing.assert_allclose(new.counts[level, code], count, rtol=1e-5)
      np.testing.assert_allclose(
          new.codebooks[level, code], total / count, atol=1e-5)
    residual = residual - np.asarray(rvq.codebooks[level])[ids]


def test_dead_entries_become_frames_of_the_batch():
  config = quantize.RvqConfig(decay=0.5, dead_code_ratio=0.3)
  rvq = _rvq(num_codebooks=1)
  far = rvq.codebooks.at[0, 3].set(1e3)
  rvq = quantize.Rvq(far, rvq.counts.at[0, 3].set(1e-3), far * 1e-3)
  x = np.random.default_rng(5).normal(size=(4, 8, 4)).astype(np.float32)
  out = jax.jit(quantize.quantize)(x, rvq.codebooks, jnp.full(4, 1))
  new = jax.jit(config.update)(jax.random.key(0), rvq, out)
  gap = np.abs(x.reshape(-1, 4) - np.asarray(new.codebooks[0, 3])).max(-1)
  assert gap.min() < 1e-5
  assert float(new.counts[0, 3]) == pytest.approx(32 / 8)


def test_the_threshold_of_dead_entries_scales_with_the_batch():
  """The same frames twice: the same entries die, though counts are doubled."""
  config = quantize.RvqConfig(decay=0.5, dead_code_ratio=0.9)
  rvq = _rvq(num_codebooks=1)
  x = np.random.default_rng(6).normal(size=(4, 8, 4)).astype(np.float32)
  dead = []
  for copies in (1, 2, 16):
    counts = jnp.full((1, 8), copies * 4.0)  # the mean: 32 frames, 8 entries
    state = quantize.Rvq(rvq.codebooks, counts, rvq.codebooks * copies * 4.0)
    out = quantize.quantize(
        np.tile(x, (copies, 1, 1)), rvq.codebooks, jnp.full(4 * copies, 1))
    new = jax.jit(config.update)(jax.random.key(0), state, out)
    used = np.bincount(np.asarray(out.codes).ravel(), minlength=8)
    expected = 0.5 * copies * 4.0 + 0.5 * used < 0.9 * copies * 4.0
    gap = np.abs(new.codebooks[0] - rvq.codebooks[0]).max(-1)
    np.testing.assert_array_equal(
        np.asarray(new.counts[0])[expected], copies * 4.0)
    frames = x.reshape(-1, 4)
    is_frame = [np.abs(frames - e).max(-1).min() < 1e-5
                for e in np.asarray(new.codebooks[0])[expected]]
    assert all(is_frame) and gap.max() > 0
    dead.append(list(expected))
  assert dead[0] == dead[1] == dead[2] and 0 < sum(dead[0]) < 8


def test_levels_are_drawn_per_example():
  draw = lambda rate: np.asarray(quantize.RvqConfig(
      dropout_rate=rate).draw_levels(jax.random.key(0), 6000, 12))
  counts = np.bincount(draw(1.0), minlength=13)
  assert counts[0] == 0 and counts[1:].min() > 400
  assert np.all(draw(0.0) == 12)
  assert 0.5 < np.mean(draw(0.5) == 12) < 0.6


def test_moving_averages_find_clusters():
  centres, vectors = _clusters(6, 40, 3)
  vectors = jnp.asarray(vectors.reshape(8, 30, 3), jnp.float32)
  config = quantize.RvqConfig(decay=0.8, dead_code_ratio=0.1)

  @jax.jit
  def step(rvq, rng):
    out = quantize.quantize(vectors, rvq.codebooks, jnp.full(8, 1))
    return config.update(rng, rvq, out)

  rvq = _rvq(num_codebooks=1, size=8, dim=3)
  for i in range(60):
    rvq = step(rvq, jax.random.key(i))
  gap = np.linalg.norm(centres[:, None] - np.asarray(rvq.codebooks[0]), axis=-1)
  assert gap.min(axis=1).max() < 0.1


def test_perplexity_of_even_and_of_single_use():
  counts = np.array([[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0]])
  np.testing.assert_allclose(quantize.perplexity(counts), [4, 1], rtol=1e-4)


def test_gradient_that_is_rotated():
  """Forward the code, backward the gradient turned from code to vector."""
  rvq = _rvq()
  rng = np.random.default_rng(7)
  x, weights = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
  levels = jnp.asarray([1, 3])
  config = quantize.RvqConfig(gradient='rotation')
  run = lambda v: config.quantize(v, rvq, {}, levels)
  straight = quantize.quantize(x, rvq.codebooks, levels)
  np.testing.assert_allclose(run(x).vectors, straight.vectors, atol=1e-6)
  grad = jax.grad(lambda v: jnp.sum(weights * run(v).vectors))(x)
  code = np.asarray(straight.vectors)
  norm = lambda v: np.linalg.norm(v, axis=-1)
  size = norm(code) / norm(x)
  # Lengths scale, and the angle to the vector is that to the code.
  np.testing.assert_allclose(norm(grad), size * norm(weights), rtol=1e-4)
  np.testing.assert_allclose(
      np.sum(grad * x, -1) / norm(x),
      size * np.sum(weights * code, -1) / norm(code), atol=1e-4)


def test_few_levels_are_favoured():
  draw = lambda power: np.asarray(quantize.RvqConfig(
      dropout_power=power).draw_levels(jax.random.key(0), 20_000, 12))
  for power in (0.5, 2.0, 3.0):
    drawn = draw(power)
    assert drawn.min() == 1 and drawn.max() == 12
    for levels in (1, 3, 6, 11):  # as many or fewer: u^power under n / 12
      expected = (levels / 12)**(1 / power)
      assert np.mean(drawn <= levels) == pytest.approx(expected, abs=0.015)
  even = np.asarray(quantize.RvqConfig().draw_levels(
      jax.random.key(0), 20_000, 12))
  assert np.bincount(even)[1:] == pytest.approx(20_000 / 12, rel=0.1)


@pytest.mark.parametrize('settings, message', [
    (dict(kind='emma'), "quantizer's kind 'emma'.*ema, projected"),
    (dict(gradient='none'), "quantizer's gradient 'none'"),
    (dict(dropout_power=0.0), 'dropout_power is 0.0; expected more than 0'),
    (dict(projected_dim=0), 'projected_dim is 0; expected at least 1'),
])
def test_settings_that_cannot_be(settings, message):
  with pytest.raises(errors.UserError, match=message):
    quantize.RvqConfig(**settings)
