"""Steps whose loss leaps change nothing; a loss that stays high is followed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import toy_trainable

from musiclm_jax.training import optim
from musiclm_jax.training import spikes

PARAMS = {'w': jnp.ones((3,))}
GRADS = {'w': jnp.array([1.0, -2.0, 0.5])}


def run(losses, deviations=6.0):
  """[n] how far each step moved, and the last state."""
  optimizer = spikes.skip(optax.adam(0.1), deviations)
  state, moved = optimizer.init(PARAMS), []
  update = jax.jit(lambda state, loss: optimizer.update(
      GRADS, state, PARAMS, loss=loss))
  for loss in losses:
    updates, state = update(state, loss)
    moved.append(float(jnp.abs(updates['w']).max()))
  return np.array(moved), state


def usual(count, seed=0):
  return 3.0 + 0.1 * np.random.default_rng(seed).normal(size=count)


def test_a_leap_is_skipped_and_leaves_the_moments():
  losses = usual(80)
  losses[70] = 6.0
  moved, state = run(losses)
  assert list(np.flatnonzero(moved == 0.0)) == [70]
  assert (int(state.skipped), int(state.seen)) == (1, 80)
  # Adam has seen 79 equal gradients, as in a run without the bad batch.
  _, without = run(np.delete(losses, 70))
  jax.tree.map(np.testing.assert_array_equal, state.inner, without.inner)


def test_noise_and_a_falling_loss_are_kept():
  moved, _ = run(np.concatenate([usual(100), np.linspace(3, 0.1, 60)]))
  assert moved.min() > 0.0


def test_nothing_is_known_about_an_untrained_model():
  moved, _ = run(np.array([10.0, 3.0, 50.0, 3.0]))
  assert moved.min() > 0.0


def test_a_loss_that_stays_high_is_followed():
  moved, state = run(np.concatenate([usual(60), np.full(60, 8.0)]))
  assert moved[60] == 0.0 and moved[-1] > 0.0
  assert 1 <= int(state.skipped) < 40


def test_infinite_gradients_are_skipped_from_the_first_step():
  optimizer = spikes.skip(optax.sgd(0.1), 6.0)
  state = optimizer.init(PARAMS)
  updates, state = optimizer.update(
      {'w': jnp.array([jnp.inf, 0.0, 0.0])}, state, PARAMS, loss=1.0)
  assert not np.any(updates['w']) and int(state.skipped) == 1


def test_without_a_loss_the_gradients_norm_stands_in():
  optimizer = spikes.skip(optax.sgd(0.1), 6.0)
  state = optimizer.init(PARAMS)
  for step in range(61):
    scale = 50.0 if step == 60 else 1.0 + 0.01 * (step % 3)
    updates, state = optimizer.update(
        {'w': scale * GRADS['w']}, state, PARAMS)
  assert not np.any(updates['w']) and int(state.skipped) == 1


def test_the_config_switches_it_on_and_counts():
  config = optim.OptimizerConfig(warmup_steps=1, skip_deviations=6.0)
  state = config.start(PARAMS)
  step = jax.jit(lambda state, loss: config.step(state, GRADS, {'loss': loss}))
  for loss in list(usual(60)) + [9.0]:
    before = state.params
    state, metrics = step(state, loss)
  np.testing.assert_array_equal(state.params['w'], before['w'])
  assert int(metrics['steps_skipped']) == 1 and int(state.step) == 61
  off = dataclasses.replace(config, skip_deviations=0.0)
  assert 'steps_skipped' not in off.step(
      off.start(PARAMS), GRADS, {'loss': jnp.float32(1)})[1]
  # Its moments have axes, so that they lie on a mesh like any others.
  toy = toy_trainable.Toy(optimizer=config)
  batch = next(toy_trainable.ToySource().batches(0))
  abstract = jax.eval_shape(toy.init, jax.random.key(0), batch)
  axes = toy.logical_axes(abstract)
  inner = axes.opt_state.inner[1][0]
  assert inner.mu['w'] == ('embed', 'mlp') and axes.opt_state.mean is None
