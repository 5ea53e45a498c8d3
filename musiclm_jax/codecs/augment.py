"""Changes of the training audio: another loudness, two clips at once (ours).

  audio [B, N] -> each example times its own gain
    -> a share of them plus the example before them in the batch
    -> scaled down where a sample would leave -1..1

A codec of few hours of music hears more loudnesses and more sounds at a time
than they hold. Evaluation and previews hear the recordings as they are.
"""

import dataclasses

import jax
import jax.numpy as jnp

from musiclm_jax import errors


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """What is changed; as it stands, nothing.

  Attributes:
    gain_db: (lowest, highest) gain; each example's is drawn evenly between.
    mixed_share: share of the examples that are mixed with another one.
  """

  gain_db: tuple = (0.0, 0.0)
  mixed_share: float = 0.0

  def __post_init__(self):
    object.__setattr__(self, 'gain_db', tuple(self.gain_db))
    if len(self.gain_db) != 2 or not self.gain_db[0] <= self.gain_db[1]:
      raise errors.UserError(
          f'gain_db is {self.gain_db}; expected (lowest, highest), in dB.')
    if not 0.0 <= self.mixed_share <= 1.0:
      raise errors.UserError(
          f'mixed_share is {self.mixed_share}; expected 0 to 1.')

  @property
  def active(self) -> bool:
    """Whether anything is changed at all."""
    return any(self.gain_db) or self.mixed_share > 0.0

  def apply(self, rng: jax.Array, audio: jax.Array) -> jax.Array:
    """[B, N] audio, changed as the key says; a batch of one is not mixed."""
    if not self.active:
      return audio
    gain_rng, mix_rng = jax.random.split(rng)
    low, high = self.gain_db
    rows = len(audio), 1
    decibels = jax.random.uniform(gain_rng, rows, minval=low, maxval=high)
    audio = audio * 10.0**(decibels / 20.0)
    if rows[0] > 1:
      # The example before it serves as the other one: batches are drawn at
      # random, so that it is as good as any.
      mixed = jax.random.bernoulli(mix_rng, self.mixed_share, rows)
      audio = audio + mixed * jnp.roll(audio, 1, axis=0)
    peak = jnp.max(jnp.abs(audio), axis=1, keepdims=True)
    return audio / jnp.maximum(peak, 1.0)
