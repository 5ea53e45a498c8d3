"""One token from its logits, by a random key that depends on nothing else."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Draw:
  """How a token is drawn from its logits.

  Attributes:
    temperature: divides the logits; 0 takes the largest.
    top_k: keep the k most likely ids; 0 keeps all.
    top_p: keep the most likely ids until their probabilities reach top_p; 1
      keeps all. Probabilities are those after the temperature.
    levels: draw the first ones of each frame only, and go on as if the others
      were not there; 0 draws all. Stages are trained on all of them, so the
      draw is from what the stage makes of a frame it has never seen.
    guidance: pairs of a condition's name and its scale (decoding/guidance.py);
      conditions that are not named, or that the stage lacks, are as trained.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  levels: int = 0
  guidance: tuple = ()

  @property
  def filtered(self) -> bool:
    return self.top_k > 0 or self.top_p < 1.0


def row_keys(seed: int, stream: int, window: Any, samples: Any) -> jax.Array:
  """Random keys, one for each row: a function of its arguments alone.

  Args:
    seed: the user's.
    stream: int, which of a system's models draws.
    window: int, index of the window, or one for each row.
    samples: [B] index of each row's sample.
  """
  key = jax.random.fold_in(jax.random.key(seed % (1 << 32)), stream)
  samples = jnp.asarray(samples, jnp.uint32)
  windows = jnp.broadcast_to(jnp.asarray(window, jnp.uint32), samples.shape)
  fold = lambda w, s: jax.random.fold_in(jax.random.fold_in(key, w), s)
  return jax.vmap(fold)(windows, samples)


def draw_codes(logits: jax.Array, keys: jax.Array, position: jax.Array,
               temperature: jax.Array,
               filters: tuple | None = None) -> jax.Array:
  """[B, K] logits -> [B] codes.

  Args:
    logits: [B, K] float32.
    keys: [B] random keys; with the position they decide the draw.
    position: int32 scalar.
    temperature: float32 scalar; 0 takes the largest.
    filters: None or (top_k, top_p) scalars.
  """
  scaled = logits / jnp.maximum(temperature, 1e-6)
  if filters is not None:
    scaled = _filter(scaled, *filters)
  noise = jax.vmap(lambda key: jax.random.gumbel(
      jax.random.fold_in(key, position), logits.shape[1:]))(keys)
  noisy = jnp.where(temperature > 0, scaled + noise, logits)
  return jnp.argmax(noisy, axis=-1).astype(jnp.int32)


def _filter(logits, top_k, top_p):
  """Puts ids outside the top k and the top p out of reach."""
  size = logits.shape[-1]
  order = jnp.sort(logits, axis=-1)[:, ::-1]
  last = jnp.where(top_k > 0, jnp.minimum(top_k, size), size) - 1
  smallest = jnp.take(order, last, axis=-1)
  probabilities = jax.nn.softmax(order, axis=-1)
  before = jnp.cumsum(probabilities, axis=-1) - probabilities
  kept = jnp.where(before < top_p, order, jnp.inf).min(axis=-1)
  smallest = jnp.maximum(smallest, kept)
  return jnp.where(logits >= smallest[:, None], logits, -jnp.inf)
