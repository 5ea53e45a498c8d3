"""The discriminators' part of a training step, whatever they are.

  audio, fake -> discriminators -> logits, features
    hinge and feature matching -> gradient by fake, for the generator
    hinge -> the discriminators' own step, where they learn

A configuration of discriminators is a frozen dataclass with `build()`: a Flax
module, [B, N] audio -> (list of logits, list of lists of features), one entry
for each discriminator.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from musiclm_jax.codecs import losses

_NAMES = ('adversarial', 'feature', 'discriminator', 'real_logits',
          'discriminator_accuracy', 'discriminator_runaway',
          'discriminator_updates')


def update(codec: Any, judge: Any, state: Any, audio: jax.Array,
           fake: jax.Array, gradients: dict[str, jax.Array],
           rng: jax.Array) -> tuple[jax.Array, dict[str, jax.Array], Any]:
  """Both sides of the game, from one reconstruction.

  Args:
    codec: a `trainer.CodecTrainable`.
    judge: its discriminators, a Flax module.
    state: a `trainer.CodecState`.
    audio: [B, N].
    fake: its reconstruction.
    gradients: {loss: gradient by `fake`} of the reconstruction.
    rng: key, decides whether the discriminators learn at this step.

  Returns:
    The combined gradient by `fake`, metrics, and the state with updated
    discriminators; before their start, the reconstruction's gradient, zeros
    and the state as it came.
  """
  apply = lambda params, x: judge.apply({'params': params}, x)

  def on(_):
    params = state.discriminator_params
    # Each side runs once; generator and discriminators share the results.
    real, back_from_real = jax.vjp(lambda p: apply(p, audio), params)
    fakes, back_from_fake = jax.vjp(apply, params, fake)
    values, back = jax.vjp(lambda logits, features: dict(
        adversarial=losses.hinge_generator(logits),
        feature=losses.feature_matching(real[1], features)), *fakes)
    gradient = codec.weights.combine(
        gradients, values, lambda w: back_from_fake(back(w))[1])
    loss, by_logits = jax.value_and_grad(
        losses.hinge_discriminator, argnums=(0, 1))(real[0], fakes[0])
    accuracy = _accuracy(real[0], fakes[0])
    watch = codec.runaway.observe(
        state.watch, loss, accuracy, values['adversarial'])

    def learn(_):
      zeros = jax.tree.map(jnp.zeros_like, (real[1], fakes[1]))
      grads = jax.tree.map(
          jnp.add, back_from_real((by_logits[0], zeros[0]))[0],
          back_from_fake((by_logits[1], zeros[1]))[0])
      updates, opt_state = codec.discriminator_optimizer.make().update(
          grads, state.discriminator_opt_state, params)
      return optax.apply_updates(params, updates), opt_state

    rest = lambda _: (params, state.discriminator_opt_state)
    learns = jax.random.bernoulli(rng, codec.discriminator_update_probability)
    learns &= ~codec.runaway.pauses(watch)
    metrics = dict(
        values, discriminator=loss, real_logits=_mean(real[0]),
        discriminator_accuracy=accuracy,
        discriminator_runaway=jnp.float32(watch.active),
        discriminator_updates=jnp.float32(learns))
    return (gradient, metrics, watch,
            *jax.lax.cond(learns, learn, rest, None))

  def off(_):
    return (codec.weights.combine(gradients),
            {name: jnp.zeros(()) for name in _NAMES}, state.watch,
            state.discriminator_params, state.discriminator_opt_state)

  gradient, metrics, watch, params, opt_state = jax.lax.cond(
      state.step >= codec.discriminator_start_step, on, off, None)
  return gradient, metrics, state.replace(
      watch=watch, discriminator_params=params,
      discriminator_opt_state=opt_state)


def _accuracy(real, fake):
  """Share of logits with the right sign, mean over discriminators."""
  return 0.5 * (_mean([x > 0 for x in real]) + _mean([x < 0 for x in fake]))


def _mean(arrays):
  """Mean over arrays of their means."""
  return sum(jnp.mean(a) for a in arrays) / len(arrays)
