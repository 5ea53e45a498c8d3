"""The rotation trick against rotations built in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.nn import rotation


def _matrix(start, end):
  """The rotation in the plane of two vectors that turns one to the other."""
  u, q = start / np.linalg.norm(start), end / np.linalg.norm(end)
  side = q - (u @ q) * u
  v = side / np.linalg.norm(side)
  angle = np.arccos(np.clip(u @ q, -1.0, 1.0))
  plane = np.stack([u, v], axis=1)
  turn = np.array([[np.cos(angle), -np.sin(angle)],
                   [np.sin(angle), np.cos(angle)]])
  return np.eye(len(u)) + plane @ (turn - np.eye(2)) @ plane.T


def test_value_is_the_code_and_gradient_is_turned():
  rng = np.random.default_rng(0)
  x, codes, weights = rng.normal(size=(3, 6, 5)).astype(np.float32)
  out, back = jax.vjp(rotation.rotate, x, codes)
  np.testing.assert_array_equal(out, codes)
  by_vector, by_code = back(jnp.asarray(weights))
  np.testing.assert_array_equal(by_code, 0.0)
  for row in range(6):
    matrix = _matrix(x[row], codes[row])
    np.testing.assert_allclose(  # it is the one that turns vector to code
        np.linalg.norm(codes[row]) / np.linalg.norm(x[row]) * matrix @ x[row],
        codes[row], atol=1e-5)
    expected = matrix.T @ weights[row] * (
        np.linalg.norm(codes[row]) / np.linalg.norm(x[row]))
    np.testing.assert_allclose(by_vector[row], expected, atol=1e-4)


def test_a_vector_on_its_code_has_the_gradient_that_passes_straight():
  x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
  grad = jax.grad(lambda v: jnp.sum(rotation.rotate(v, x) * x))(x)
  np.testing.assert_allclose(grad, x, atol=1e-5)


def test_nothing_is_infinite_at_zero_or_against_the_vector():
  x = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
  codes = jnp.asarray([[1.0, 1.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
  out, back = jax.vjp(lambda v: rotation.rotate(v, codes), x)
  np.testing.assert_array_equal(out, codes)
  assert np.isfinite(back(jnp.ones_like(x))[0]).all()
