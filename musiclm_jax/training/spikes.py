"""Steps on batches that are out of the ordinary, left out.

One bad batch can undo hours of training: its loss is far above the others', and
so are its gradients. Such a step changes neither parameters nor moments; the
run goes on with the next batch. A loss that stays high is no spike: the running
mean follows it, a little at a time, and training resumes.
"""

import flax.struct
import jax
import jax.numpy as jnp
import optax

_DECAY = 0.98  # ours: of the running mean; about the last 50 steps count
_SETTLED = 50  # ours: steps before which nothing is a spike
_LEAST_SHARE = 0.01  # ours: of the mean; a smaller deviation counts as this


@flax.struct.dataclass
class SpikeState:
  """Of `skip`: what losses were usual."""

  inner: optax.OptState
  mean: jax.Array  # [] float32, of the loss
  variance: jax.Array  # [] float32, of the loss
  seen: jax.Array  # [] int32, steps
  skipped: jax.Array  # [] int32, of them


def skip(optimizer: optax.GradientTransformation,
         deviations: float) -> optax.GradientTransformationExtraArgs:
  """`optimizer`, but steps with a loss that is far too high change nothing.

  Its `update` takes the step's `loss`; without one the norm of the gradients
  stands in.

  Args:
    optimizer: an optax transformation.
    deviations: how many standard deviations above the running mean are too
      high. A gradient that is not finite is always skipped.
  """
  optimizer = optax.with_extra_args_support(optimizer)

  def init(params):
    zero = jnp.zeros((), jnp.float32)
    count = jnp.zeros((), jnp.int32)
    return SpikeState(optimizer.init(params), zero, zero, count, count)

  def update(grads, state, params=None, *, loss=None, **extra):
    norm = optax.global_norm(grads)
    value = jnp.asarray(norm if loss is None else loss, jnp.float32)
    deviation = jnp.maximum(
        jnp.sqrt(state.variance), _LEAST_SHARE * jnp.abs(state.mean))
    limit = jnp.where(state.seen < _SETTLED, jnp.inf,
                      state.mean + deviations * deviation)
    keep = (value <= limit) & jnp.isfinite(norm)
    updates, inner = optimizer.update(
        grads, state.inner, params, loss=loss, **extra)
    updates = jax.tree.map(lambda x: jnp.where(keep, x, 0.0), updates)
    inner = jax.tree.map(
        lambda new, old: jnp.where(keep, new, old), inner, state.inner)
    return updates, SpikeState(
        inner, *_followed(state, jnp.minimum(value, limit)),
        seen=state.seen + 1, skipped=state.skipped + 1 - keep)

  return optax.GradientTransformationExtraArgs(init, update)


def _followed(state, value):
  """(mean, variance) after one more loss; one that is NaN leaves no trace."""
  # At first each loss counts the same, later the newest ones do.
  rate = jnp.maximum(1.0 - _DECAY, 1.0 / (state.seen + 1))
  change = jnp.where(jnp.isfinite(value), value - state.mean, 0.0)
  mean = state.mean + rate * change
  return mean, (1.0 - rate) * (state.variance + rate * change**2)
