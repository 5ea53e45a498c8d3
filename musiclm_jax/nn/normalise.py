"""Vectors at length 1, whatever they stand for."""

import jax
import jax.numpy as jnp

_EPS = 1e-12  # of a squared norm


def unit(x: jax.Array) -> jax.Array:
  """`x` [..., D] at length 1 along the last axis; zeros stay zeros."""
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + _EPS)
