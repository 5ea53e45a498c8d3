"""Optimisers against hand values."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musiclm_jax import errors
from musiclm_jax.training import optim


def test_rsqrt_peaks_at_the_end_of_warmup():
  rate = optim.OptimizerConfig(learning_rate=0.2, warmup_steps=10,
                               schedule='rsqrt').schedule_fn()
  assert float(rate(0)) == pytest.approx(0.02)
  assert float(rate(9)) == pytest.approx(0.2)
  assert float(rate(39)) == pytest.approx(0.1)


def test_cosine_ends_at_the_final_fraction():
  rate = optim.OptimizerConfig(
      learning_rate=1.0, warmup_steps=10, schedule='cosine', total_steps=110,
      final_fraction=0.1).schedule_fn()
  assert float(rate(9)) == pytest.approx(1.0)
  assert float(rate(59)) == pytest.approx(0.55, abs=1e-5)
  assert float(rate(109)) == pytest.approx(0.1, abs=1e-5)
  assert float(rate(500)) == pytest.approx(0.1, abs=1e-5)


def test_constant_without_warmup_starts_at_the_peak():
  rate = optim.OptimizerConfig(learning_rate=0.3, warmup_steps=0,
                               schedule='constant').schedule_fn()
  assert float(rate(0)) == pytest.approx(0.3)
  assert float(rate(999)) == pytest.approx(0.3)


def _by_hand(config, step):
  """The rate of a step, counted from 0, by the formula of its schedule."""
  done, warmup = step + 1, max(1, config.warmup_steps)
  if config.schedule == 'rsqrt':
    share = min(done / warmup, math.sqrt(warmup / done))
  elif config.schedule == 'constant':
    share = min(done / warmup, 1.0)
  else:
    fallen = (done - config.warmup_steps) / (
        config.total_steps - config.warmup_steps)
    fallen = min(max(fallen, 0.0), 1.0)
    half = 0.5 * (1.0 + math.cos(math.pi * fallen))
    share = min(done / warmup, config.final_fraction +
                (1.0 - config.final_fraction) * half)
  return config.learning_rate * share


@pytest.mark.parametrize('warmup', [0, 1, 7, 400])
@pytest.mark.parametrize('schedule, final', [
    ('rsqrt', 0.0), ('constant', 0.0), ('cosine', 0.0), ('cosine', 0.1),
    ('cosine', 1.0)])
def test_schedules_are_their_formulas_at_every_step(schedule, final, warmup):
  config = optim.OptimizerConfig(
      learning_rate=0.7, warmup_steps=warmup, schedule=schedule,
      total_steps=1000, final_fraction=final)
  rate = config.schedule_fn()
  steps = np.r_[:1010, 10**5, 10**8]
  expected = [_by_hand(config, int(step)) for step in steps]
  found = jax.jit(jax.vmap(rate))(jnp.asarray(steps, jnp.int32))
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
  for step in (0, 6, 399, 999):  # a plain int is a step as well
    assert float(rate(step)) == pytest.approx(
        _by_hand(config, step), abs=1e-6)


def _first_update(config, grads, params):
  optimizer = config.make()
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  return optax.apply_updates(params, updates)


def test_adamw_decays_matrices_but_not_biases():
  config = optim.OptimizerConfig(learning_rate=0.1, warmup_steps=0,
                                 schedule='constant', weight_decay=0.5)
  params = {'kernel': jnp.full((2, 2), 2.0), 'bias': jnp.full((2,), 2.0)}
  grads = {'kernel': jnp.full((2, 2), 0.01), 'bias': jnp.full((2,), -0.01)}
  new = _first_update(config, grads, params)
  # Adam's first step is rate * sign(gradient); decay adds rate * wd * value.
  np.testing.assert_allclose(new['kernel'], 2 - 0.1 - 0.1 * 0.5 * 2, rtol=1e-4)
  np.testing.assert_allclose(new['bias'], 2 + 0.1, rtol=1e-4)


def test_two_adam_steps_equal_the_formula():
  config = optim.OptimizerConfig(
      name='adam', learning_rate=0.1, warmup_steps=0, schedule='constant',
      clip_norm=0.0, b1=0.5, b2=0.9)
  optimizer = config.make()
  params, x = {'w': jnp.array([1.0])}, 1.0
  state, m, v = optimizer.init(params), 0.0, 0.0
  for t, g in enumerate([3.0, -1.0], 1):
    updates, state = optimizer.update({'w': jnp.array([g])}, state, params)
    params = optax.apply_updates(params, updates)
    m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
    x -= 0.1 * (m / (1 - 0.5**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-8)
  assert float(params['w'][0]) == pytest.approx(x, rel=1e-5)


def test_clipping_scales_to_the_global_norm():
  config = optim.OptimizerConfig(clip_norm=1.0)
  chain = config.make()
  params = {'w': jnp.zeros(2)}
  # Adam's moments see the clipped gradient: 3/5 and 4/5 of norm 1.
  _, state = chain.update({'w': jnp.array([30.0, 40.0])}, chain.init(params),
                          params)
  adam = [s for s in _leaves(state) if isinstance(s, optax.ScaleByAdamState)][0]
  np.testing.assert_allclose(adam.mu['w'], [0.06, 0.08], rtol=1e-5)


def _leaves(state):
  if isinstance(state, tuple) and not hasattr(state, '_fields'):
    return [leaf for part in state for leaf in _leaves(part)]
  return [state]


def test_adafactor_lowers_a_quadratic():
  config = optim.OptimizerConfig(name='adafactor', learning_rate=0.05,
                                 warmup_steps=0, schedule='constant')
  optimizer, params = config.make(), {'w': jnp.ones((4, 4))}
  state = optimizer.init(params)
  for _ in range(50):
    updates, state = optimizer.update(params, state, params)
    params = optax.apply_updates(params, updates)
  assert float(jnp.max(jnp.abs(params['w']))) < 0.1


@pytest.mark.parametrize('kwargs', [
    dict(name='sgdd'), dict(schedule='linear'), dict(schedule='cosine')])
def test_bad_settings_are_user_errors(kwargs):
  with pytest.raises(errors.UserError):
    optim.OptimizerConfig(**kwargs)


@dataclasses.dataclass(frozen=True)
class _Pair:
  """Two optimisers, one of them within a tuple, beside other things."""

  first: optim.OptimizerConfig
  others: tuple
  width: int = 3


def test_rates_scale_at_any_depth_and_nothing_else_changes():
  a, b = (optim.OptimizerConfig(learning_rate=r, warmup_steps=7) for r in (
      0.4, 0.02))
  pair = _Pair(a, (b, 'text'))
  half = optim.scale_rates(pair, 0.5)
  assert half == _Pair(dataclasses.replace(a, learning_rate=0.2),
                       (dataclasses.replace(b, learning_rate=0.01), 'text'))
  assert optim.scale_rates(pair, 1.0) is pair
  assert optim.scale_rates(pair.others[1], 0.5) == 'text'
  # Every point of every schedule is scaled.
  for step in (0, 6, 100):
    assert float(half.first.schedule_fn()(step)) == pytest.approx(
        0.5 * float(a.schedule_fn()(step)))


def test_muon_turns_kernels_into_rotations_and_leaves_the_rest_to_adamw():
  config = optim.OptimizerConfig(
      name='muon', learning_rate=0.1, warmup_steps=0, schedule='constant',
      weight_decay=0.0)
  rng = np.random.default_rng(0)
  shapes = {'kernel': (48, 16), 'bias': (16,), 'token_embedding': (8, 4)}
  params = {k: jnp.asarray(rng.normal(size=v), jnp.float32)
            for k, v in shapes.items()}
  grads = {k: jnp.asarray(rng.normal(size=v), jnp.float32) * 1e-3
           for k, v in shapes.items()}
  new = _first_update(config, grads, params)
  update = np.asarray(params['kernel'] - new['kernel'])
  left, sizes, right = np.linalg.svd(update, full_matrices=False)
  u, _, v = np.linalg.svd(np.asarray(grads['kernel']), full_matrices=False)
  # Singular values are nearly alike, where those of the gradient are not; the
  # directions are the gradient's.
  assert sizes.max() / sizes.min() < 1.8
  np.testing.assert_allclose(
      left @ right, u @ v, atol=0.02)
  # One that is orthogonal has mean square 1 / 48; 0.2 is asked for.
  np.testing.assert_allclose(
      np.sqrt(np.mean(update**2)), 0.1 * 0.2, rtol=0.25)
  # Adam's first step is rate * sign(gradient); Nesterov adds the next one's
  # share, b1 (1 - b1) / (1 - b1^2).
  nesterov = 1 + 0.9 * 0.1 / 0.19
  for name in ('bias', 'token_embedding'):
    np.testing.assert_allclose(
        params[name] - new[name], 0.1 * nesterov * np.sign(grads[name]),
        rtol=1e-3)


def test_muon_takes_stacked_layers_one_by_one():
  config = optim.OptimizerConfig(
      name='muon', learning_rate=0.1, warmup_steps=0, schedule='constant',
      weight_decay=0.0, clip_norm=0.0)
  rng = np.random.default_rng(1)
  params = {'kernel': jnp.zeros((3, 8, 8))}
  grads = {'kernel': jnp.asarray(rng.normal(size=(3, 8, 8)), jnp.float32)}
  whole = _first_update(config, grads, params)['kernel']
  for i in range(3):
    part = lambda tree: {'kernel': tree['kernel'][i]}
    np.testing.assert_allclose(
        whole[i], _first_update(config, part(grads), part(params))['kernel'],
        atol=1e-5)
