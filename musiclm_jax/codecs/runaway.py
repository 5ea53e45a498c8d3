"""Does the discriminator run away from the generator? Measured step by step.

  hinge loss near 0, or nearly all logits on the right side, while the
  generator's adversarial loss grows, for so many steps on end -> runaway

Everything is part of the training state, so that a resumed run judges as one
that never stopped. All of it is ours; the paper names no such measure.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from musiclm_jax import errors

ACTIONS = ('pause', 'stop', 'off')
_FAST, _SLOW = 0.9, 0.99  # decays of the averages


@flax.struct.dataclass
class Watch:
  """What is known of the two sides; averages are over steps."""

  seen: jax.Array  # int32: steps with discriminators
  loss: jax.Array  # fast average of the discriminators' hinge loss
  accuracy: jax.Array  # fast average of the share of logits on the right side
  adversarial: jax.Array  # fast average of the generator's adversarial loss
  adversarial_before: jax.Array  # slow average of the same
  steps: jax.Array  # int32: steps on end that it ran away
  active: jax.Array  # bool: it has run away, and still wins


@dataclasses.dataclass(frozen=True)
class RunawayConfig:
  """When the discriminators run away, and what is done about it.

  Attributes:
    action: 'pause' leaves the discriminators as they are until they no longer
      win; 'stop' ends the run (by a gate of the loop); 'off' does nothing.
    loss: they win where their average loss is under this; at chance it is 2.
    accuracy: or where this share of their logits is on the right side.
    growth: the generator loses ground where its average adversarial loss is
      over this many times what it was some hundred steps ago.
    steps: steps on end that both must hold.
  """

  action: str = 'pause'
  loss: float = 0.1
  accuracy: float = 0.99
  growth: float = 1.0
  steps: int = 200

  def __post_init__(self):
    if self.action not in ACTIONS:
      raise errors.choice('runaway action', self.action, ACTIONS)
    if self.steps < 1:
      raise errors.UserError(
          f'runaway steps is {self.steps}; expected at least 1, or the action '
          f'"off".')

  def start(self) -> Watch:
    """The `Watch` of a run that begins."""
    zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
    return Watch(seen=none, loss=zero, accuracy=zero, adversarial=zero,
                 adversarial_before=zero, steps=none, active=jnp.array(False))

  def observe(self, watch: Watch, loss: jax.Array, accuracy: jax.Array,
              adversarial: jax.Array) -> Watch:
    """The `Watch` after a step.

    Args:
      watch: as it was before.
      loss: the discriminators' hinge loss at this step.
      accuracy: share of logits with the right sign, 0..1.
      adversarial: the generator's hinge loss at this step.
    """
    def mean(decay, old, new):
      return jnp.where(watch.seen == 0, new, decay * old + (1 - decay) * new)

    loss = mean(_FAST, watch.loss, loss)
    accuracy = mean(_FAST, watch.accuracy, accuracy)
    before = mean(_SLOW, watch.adversarial_before, adversarial)
    adversarial = mean(_FAST, watch.adversarial, adversarial)
    wins = (loss < self.loss) | (accuracy > self.accuracy)
    steps = jnp.where(
        wins & (adversarial > self.growth * before), watch.steps + 1, 0)
    # Paused, the discriminators cannot grow further away: what ends a pause is
    # that the generator has caught up.
    active = wins & (watch.active | (steps >= self.steps))
    return Watch(watch.seen + 1, loss, accuracy, adversarial, before, steps,
                 active)

  def pauses(self, watch: Watch) -> jax.Array:
    """Whether the discriminators are to rest at the step after `watch`."""
    if self.action == 'pause':
      return watch.active
    return jnp.array(False)
