"""Dropout of attention's probabilities."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class WeightDropout:
  """Which probabilities are dropped; the others grow by 1 / (1 - rate).

  Attributes:
    rng: a key of `jax.random`.
    rate: share that is dropped.
    by_key: a head drops the same keys for all queries of a sequence, as T5X
      does. That is to drop their values, which costs almost nothing.
  """

  rng: jax.Array
  rate: float
  by_key: bool = False

  def __call__(self, weights: jax.Array, index: int = 0) -> jax.Array:
    """Weights, each decided by itself; `index`: of the chunk that they are.

    A kernel that never has an array of them (nn/kernels/tpu_attention.py) takes
    `rng` and `rate`, and drops as many, but others.
    """
    rng = jax.random.fold_in(self.rng, index)
    return weights * self._factors(rng, weights.shape)

  def of_keys(self, batch: int, heads: int, length: int) -> jax.Array:
    """[B, H, L] float32, 0 for keys that are dropped, else 1 / (1 - rate)."""
    return self._factors(self.rng, (batch, heads, length))

  def _factors(self, rng, shape):
    keep = jax.random.bernoulli(rng, 1.0 - self.rate, shape)
    return jnp.where(keep, 1.0 / (1.0 - self.rate), 0.0)


def of_values(value: jax.Array, dropout: WeightDropout | None):
  """What `dropout` does by key is done to values [B, H, L, D].

  Returns:
    (values, what is left to do to weights).
  """
  if dropout is None or not dropout.by_key:
    return value, dropout
  factors = dropout.of_keys(*value.shape[:3])[..., None]
  return (value * factors).astype(value.dtype), None
