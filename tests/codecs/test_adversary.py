"""Discriminators as settings: balance, warm-up, probability, runaway."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_codec

from musiclm_jax import errors
from musiclm_jax.codecs import adversary
from musiclm_jax.codecs import losses
from musiclm_jax.codecs import runaway
from musiclm_jax.codecs import trainer
from musiclm_jax.training import gates
from musiclm_jax.training import loop
from musiclm_jax.training import optim

AUDIO = small_codec.tones()['audio']
FAKE = (AUDIO * 0.5 + 0.01).astype(np.float32)


def _discriminators_only(codec):
  """A state without a generator: nothing else is needed here."""
  params = codec._discriminators.init(jax.random.key(1), AUDIO)['params']
  return trainer.CodecState(
      step=jnp.int32(0), params={}, opt_state=(), rvq=None,
      discriminator_params=params,
      discriminator_opt_state=codec.discriminator_optimizer.make().init(params),
      watch=codec.runaway.start())


@pytest.fixture(name='state', scope='module')
def _state():
  return _discriminators_only(small_codec.make()).replace(step=jnp.int32(5))


def _adversarial(codec):
  """(state, key) -> (gradient by fake, metrics, state), compiled."""
  def run(state, key):
    gradients, _ = codec._reconstruction_gradient(AUDIO, FAKE)
    return adversary.update(codec, codec._discriminators, state, AUDIO, FAKE,
                            gradients, key)
  return jax.jit(run)


def _gradients(codec, state):
  """{loss: gradient by fake}, each by itself."""
  apply = lambda x: codec._discriminators.apply(
      {'params': state.discriminator_params}, x)
  parts = dict(
      spectral=lambda x: codec.spectral.distance(
          AUDIO, x, small_codec.RATE),
      adversarial=lambda x: losses.hinge_generator(apply(x)[0]),
      feature=lambda x: losses.feature_matching(apply(AUDIO)[1], apply(x)[1]))
  return {name: np.asarray(jax.jit(jax.grad(f))(FAKE), np.float64)
          for name, f in parts.items()}


def _moved(a, b):
  return any(not np.array_equal(x, y) for x, y in zip(
      jax.tree.leaves(a.discriminator_params),
      jax.tree.leaves(b.discriminator_params)))


def test_weighted_sum_of_gradients(state):
  codec = small_codec.make()
  assert dataclasses.asdict(codec.weights) == dict(
      spectral=1.0, adversarial=1.0, feature=100.0, commitment=0.25,
      waveform=0.0, complex=0.0, phase=0.0, balanced=False)
  got, _, _ = _adversarial(codec)(state, jax.random.key(0))
  parts = _gradients(codec, state)
  expected = (parts['spectral'] + parts['adversarial'] +
              100.0 * parts['feature'])
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_balanced_gradients_have_the_shares_of_their_weights(state):
  weights = trainer.LossWeights(
      spectral=1.0, adversarial=4.0, feature=3.0, balanced=True)
  codec = small_codec.make(weights=weights)
  got, _, _ = _adversarial(codec)(state, jax.random.key(0))
  parts = _gradients(codec, state)
  expected = sum(
      share / 8.0 * parts[name] / np.linalg.norm(parts[name])
      for name, share in (('spectral', 1), ('adversarial', 4), ('feature', 3)))
  np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)
  # Before the start the reconstruction has all of it.
  early, _, _ = _adversarial(dataclasses.replace(
      codec, discriminator_start_step=6))(state, jax.random.key(0))
  assert np.linalg.norm(early) == pytest.approx(1.0, rel=1e-4)
  np.testing.assert_allclose(
      early, parts['spectral'] / np.linalg.norm(parts['spectral']),
      rtol=1e-3, atol=1e-6)


def test_the_discriminators_descend_their_hinge_loss(state):
  codec = small_codec.make(discriminator_optimizer=optim.OptimizerConfig(
      name='adam', learning_rate=0.01, warmup_steps=0, schedule='constant',
      b1=0.0, b2=0.0))  # a step of 0.01 against each sign

  def hinge(params):
    apply = lambda x: codec._discriminators.apply({'params': params}, x)[0]
    return losses.hinge_discriminator(apply(AUDIO), apply(FAKE))

  value, grads = jax.jit(jax.value_and_grad(hinge))(state.discriminator_params)
  _, metrics, new = _adversarial(codec)(state, jax.random.key(0))
  assert float(metrics['discriminator']) == pytest.approx(
      float(value), rel=1e-5)
  for old, now, grad in zip(*map(jax.tree.leaves, (
      state.discriminator_params, new.discriminator_params, grads))):
    step = np.asarray(now) - np.asarray(old)
    large = np.abs(np.asarray(grad)) > 1e-5
    np.testing.assert_allclose(
        step[large], -0.01 * np.sign(np.asarray(grad))[large], atol=1e-4)


def test_update_probability_is_a_function_of_the_key(state):
  run = _adversarial(small_codec.make(
      discriminator_update_probability=2 / 3))
  learns = []
  for step in range(120):
    key = jax.random.fold_in(jax.random.key(7), step)
    _, metrics, new = run(state, key)
    learns.append(bool(metrics['discriminator_updates']))
    assert _moved(state, new) == learns[-1]
    # The generator hears them at every step.
    assert metrics['adversarial'] > 0
    if step < 20:
      assert bool(run(state, key)[1]['discriminator_updates']) == learns[-1]
  assert 0.55 < np.mean(learns) < 0.78
  always = _adversarial(small_codec.make())
  for step in range(20):
    key = jax.random.fold_in(jax.random.key(7), step)
    assert always(state, key)[1]['discriminator_updates'] == 1


def test_what_plays_no_part_need_not_be_there():
  off = small_codec.make(discriminators=None, discriminator_start_step=-1)
  assert not off.adversarial
  with pytest.raises(errors.UserError, match='step is 0 and there are no') as e:
    small_codec.make(discriminators=None)
  assert '\n' not in str(e.value)


@pytest.mark.parametrize('probability', [0.0, 1.5])
def test_bad_probabilities_are_user_errors(probability):
  with pytest.raises(errors.UserError, match='update_probability'):
    small_codec.make(discriminator_update_probability=probability)


def _observe(config, rows):
  """`Watch.active` after each of rows (loss, accuracy, adversarial)."""
  observe, watch, active = jax.jit(config.observe), config.start(), []
  for row in rows:
    watch = observe(watch, *map(jnp.float32, row))
    active.append(bool(watch.active))
  return active, watch


def test_runaway_needs_both_signs_for_long_enough():
  config = runaway.RunawayConfig(steps=10)
  growing = [2.0 + 0.1 * i for i in range(40)]
  wins = [(0.01, 0.9, a) for a in growing]
  active, watch = _observe(config, wins)
  # The first step has nothing to grow from.
  assert active == [i >= 10 for i in range(40)]
  fast, slow = growing[0], growing[0]
  for value in growing[1:]:
    fast, slow = 0.9 * fast + 0.1 * value, 0.99 * slow + 0.01 * value
  assert float(watch.adversarial) == pytest.approx(fast, rel=1e-5)
  assert float(watch.adversarial_before) == pytest.approx(slow, rel=1e-5)
  accurate = [(1.0, 0.999, a) for a in growing]
  assert any(_observe(config, accurate)[0])
  even = [(1.5, 0.7, a) for a in growing]
  falling = [(0.01, 0.999, a) for a in growing[::-1]]
  for rows in (even, falling, wins[:10]):
    assert not any(_observe(config, rows)[0])


def test_it_is_over_once_the_generator_has_caught_up():
  config = runaway.RunawayConfig(steps=5)
  rows = [(0.01, 0.9, 2.0 + 0.1 * i) for i in range(20)]
  rows += [(0.01, 0.9, 4.0)] * 30  # rests: wins, but runs away no further
  rows += [(0.8, 0.8, 2.0)] * 10
  active, _ = _observe(config, rows)
  assert all(active[5:50]) and not any(active[55:])


def test_pausing_leaves_the_discriminators_alone(state):
  ran_away = state.replace(watch=state.watch.replace(
      seen=jnp.int32(900), loss=jnp.float32(0.0), accuracy=jnp.float32(1.0),
      adversarial=jnp.float32(5.0), adversarial_before=jnp.float32(3.0),
      active=jnp.array(True)))
  for action, moves in (('pause', False), ('stop', True), ('off', True)):
    codec = small_codec.make(runaway=runaway.RunawayConfig(
        action=action, loss=0.5))
    _, metrics, new = _adversarial(codec)(ran_away, jax.random.key(0))
    assert metrics['discriminator_runaway'] == 1
    assert _moved(ran_away, new) == moves
    assert metrics['discriminator_updates'] == moves


@dataclasses.dataclass(frozen=True)
class _Standstill(trainer.CodecTrainable):
  """Discriminators against a generator that only makes a constant."""

  def init(self, rng, batch):
    return _discriminators_only(self)

  def update(self, state, batch, rng):
    _, metrics, state = adversary.update(
        self, self._discriminators, state, batch['audio'],
        jnp.full_like(batch['audio'], 0.3),
        {'spectral': jnp.zeros_like(batch['audio'])}, rng)
    return state.replace(step=state.step + 1), dict(
        metrics, loss=metrics['adversarial'])


def _train(model_dir, action):
  codec = _Standstill(
      model=None, discriminators=small_codec.JudgesConfig(),
      discriminator_start_step=0,
      discriminator_optimizer=optim.OptimizerConfig(
          name='adam', learning_rate=0.02, warmup_steps=0,
          schedule='constant'),
      runaway=runaway.RunawayConfig(action=action, loss=0.5, steps=10))
  return loop.train(codec, small_codec.Tones(), str(model_dir), 150,
                    eval_every=0, checkpoint_every=0, log_every=5)


def _events(model_dir):
  return json.loads((model_dir / 'run.json').read_text()).get('events', [])


def test_a_runaway_discriminator_pauses_in_training(tmp_path):
  result = _train(tmp_path, 'pause')
  event = _events(tmp_path)[0]
  assert (event['kind'], event['gate']) == ('warning', 'discriminator_runaway')
  assert 'pause until it has caught up' in event['what']
  # With a generator that stands still the pause never ends.
  assert bool(result.state.watch.active)
  moments = result.state.discriminator_opt_state
  counts = {int(x) for x in jax.tree.leaves(moments)
            if jnp.issubdtype(x.dtype, jnp.integer)}
  assert len(counts) == 1 and 10 < counts.pop() <= event['step']


def test_a_runaway_discriminator_stops_the_run(tmp_path):
  with pytest.raises(gates.Tripped) as caught:
    _train(tmp_path, 'stop')
  assert 'discriminator_runaway is' in str(caught.value)
  assert 'learn too fast' in str(caught.value)
  assert '\n' not in str(caught.value)
