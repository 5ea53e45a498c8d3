"""Attention of the encoders beside SciPy's softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from musiclm_jax.nn import attention


def _inputs(seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  query = rng.normal(size=(2, 5, 3, 4))
  key, value = rng.normal(size=(2, 2, 7, 3, 4))
  mask = np.arange(7) < np.array([[7], [4]])
  return scale * query, key, value, mask


def _expected(query, key, value, mask):
  out = np.zeros(query.shape)
  for b, h in np.ndindex(query.shape[0], query.shape[2]):
    seen = mask[b]
    scores = query[b, :, h] @ key[b, seen, h].T / np.sqrt(query.shape[-1])
    out[b, :, h] = scipy.special.softmax(scores, axis=-1) @ value[b, seen, h]
  return out


@pytest.mark.parametrize('scale', [1.0, 300.0])  # exp of the latter overflows
def test_against_scipy(scale):
  query, key, value, mask = _inputs(scale=scale)
  np.testing.assert_allclose(
      attention.attend(query, key, value, mask),
      _expected(query, key, value, mask), atol=2e-5)
  np.testing.assert_allclose(
      attention.attend(query, key, value),
      _expected(query, key, value, np.ones_like(mask)), atol=2e-5)


def test_gradient_is_that_of_a_softmax():
  query, key, value, mask = map(jnp.asarray, _inputs())

  def plain(query, key, value):
    scores = jnp.einsum('bqhd,bkhd->bhqk', query, key) / 2.0
    scores = jnp.where(mask[:, None, None, :], scores, -jnp.inf)
    return jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(scores), value)

  def total(function):
    return lambda *args: jnp.sum(jnp.sin(function(*args)))

  ours = jax.grad(total(lambda *a: attention.attend(*a, mask)), (0, 1, 2))
  theirs = jax.grad(total(plain), (0, 1, 2))
  for a, b in zip(ours(query, key, value), theirs(query, key, value)):
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_dropped_weights_are_not_made_up_for_by_the_others():
  """Dropout acts on the normalised weights."""
  query, key, value, mask = _inputs()
  halves = attention.attend(query, key, value, mask, lambda w: w / 2)
  np.testing.assert_allclose(
      halves, _expected(query, key, value, mask) / 2, atol=2e-5)
