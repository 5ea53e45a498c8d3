"""Dropout: of attention's probabilities, and of whole sequences.

  WeightDropout    each probability of attention by itself
  KeyDropout       a key for all queries
  LayerDropout     what a layer drops by sequence: features and keys

The numbers of the last are few, so they are drawn for all layers of a stack at
once: a draw takes an accelerator several small kernels, which a layer of its own
waits for however few numbers come of them.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

from musiclm_jax.nn import partitioning


@dataclasses.dataclass(frozen=True)
class WeightDropout:
  """Which probabilities are dropped; the others grow by 1 / (1 - rate).

  Attributes:
    rng: a key of `jax.random`.
    rate: share that is dropped.
  """

  rng: jax.Array
  rate: float

  def __call__(self, weights: jax.Array, index: int = 0) -> jax.Array:
    """Weights, each decided by itself; `index`: of the chunk that they are.

    A kernel that never has an array of them (nn/kernels/tpu_attention.py) takes
    `rng` and `rate`, and drops as many, but others.
    """
    rng = jax.random.fold_in(self.rng, index)
    keep = jax.random.bernoulli(rng, 1.0 - self.rate, weights.shape)
    return weights * _factors(keep, self.rate)


@dataclasses.dataclass(frozen=True)
class KeyDropout:
  """A head drops the same keys for all queries of a sequence, as T5X does.

  That is to drop their values, which costs almost nothing.

  Attributes:
    kept: [B, H, L] bool.
    rate: share that is dropped.
  """

  kept: jax.Array
  rate: float

  @property
  def factors(self) -> jax.Array:
    """[B, H, L] float32, 0 for keys that are dropped, else 1 / (1 - rate)."""
    return _factors(self.kept, self.rate)


Dropout = WeightDropout | KeyDropout


def of_values(value: jax.Array,
              dropout: Dropout | None) -> tuple[jax.Array, WeightDropout | None]:
  """What is dropped by key is dropped of values [B, H, L, D].

  Returns:
    (values, what is left to do to weights).
  """
  if not isinstance(dropout, KeyDropout):
    return value, dropout
  return (value * dropout.factors[..., None]).astype(value.dtype), None


@struct.dataclass
class LayerDropout:
  """What a layer keeps of each sequence, bool; of all layers with axes [N, ...].

  Attributes:
    keys: [B, H, L] of attention.
    attended: [B, E] features of what attention adds.
    inner: [B, M] features within the feed-forward.
    fed: [B, E] features of what it adds.
  """

  keys: jax.Array
  attended: jax.Array
  inner: jax.Array
  fed: jax.Array


def of_layers(make_rng: Callable[[], jax.Array], config: Any, batch: int,
              length: int, dim: int) -> LayerDropout:
  """The `LayerDropout` of a whole stack.

  Args:
    make_rng: another key at each call.
    config: a `transformer.StackConfig`.
    batch: sequences.
    length: of them.
    dim: features.
  """
  def draw(*axes):
    names, sizes = zip(*axes)
    kept = jax.random.bernoulli(
        make_rng(), 1.0 - config.dropout_rate,
        (config.num_layers, batch, *sizes))
    return partitioning.with_sharding_constraint(
        kept, (partitioning.LAYERS, partitioning.BATCH, *names))

  features = partitioning.EMBED, dim
  return LayerDropout(
      draw((partitioning.HEADS, config.num_heads),
           (partitioning.LENGTH, length)),
      draw(features), draw((partitioning.MLP, config.mlp_dim)), draw(features))


def by_sequence(x: jax.Array, kept: jax.Array, rate: float) -> jax.Array:
  """[B, L, F], [B, F] bool -> [B, L, F]; features at all positions or none."""
  return jnp.where(kept[:, None], x / (1.0 - rate), 0.0).astype(x.dtype)


def _factors(keep, rate):
  return jnp.where(keep, 1.0 / (1.0 - rate), 0.0)
