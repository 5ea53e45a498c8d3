"""A small decoder on codes whose cost is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.metrics import modelability

SIZE = 16
SMALL = modelability.Config(
    levels=2, steps=80, learning_rate=1e-2, dim=32, num_layers=1)


def _noise(clips, seed, frames=24, levels=2):
  return np.random.default_rng(seed).integers(
      0, SIZE, (clips, frames, levels))


def _periodic(clips, seed, frames=24):
  """Level 1 counts from anywhere, level 2 is a permutation of it."""
  rng = np.random.default_rng(seed)
  first = (rng.integers(0, SIZE, clips)[:, None] + np.arange(frames)) % SIZE
  names = np.random.default_rng(0).permutation(SIZE)
  return np.stack([first, names[first]], axis=-1)


@pytest.fixture(name='measured', scope='module')
def _measured():
  return {name: modelability.measure(make(200, 1), make(20, 2), SIZE, 50, SMALL)
          for name, make in (('noise', _noise), ('periodic', _periodic))}


def test_noise_costs_what_it_holds(measured):
  result = measured['noise']
  assert result.nats.shape == (20, 2)
  assert result.by_level == pytest.approx(np.log(SIZE), rel=0.03)
  assert (result.by_level > np.log(SIZE) - 0.01).all()  # nothing to be won
  assert result.unigram == pytest.approx(np.log(SIZE), rel=0.03)
  assert result.per_second.mean() == pytest.approx(
      50 * result.by_level.sum())
  assert result.unigram_per_second == pytest.approx(50 * result.unigram.sum())


def test_what_repeats_costs_next_to_nothing(measured):
  result = measured['periodic']
  # Only where the first code begins is news: ln 16 of one in 24 frames.
  least = np.log(SIZE) / 24
  assert least - 0.01 < result.by_level[0] < least + 0.1
  assert result.by_level[1] < 0.1
  assert result.unigram == pytest.approx(np.log(SIZE), rel=0.03)


def test_the_same_again():
  train, held = _periodic(30, 3), _periodic(12, 4)
  config = modelability.Config(levels=2, steps=6, dim=16, num_layers=1)
  first, again = (modelability.measure(train, held, SIZE, 50, config)
                  for _ in range(2))
  np.testing.assert_array_equal(first.nats, again.nats)
  assert first.nats.shape == (12, 2)  # more clips than one batch holds


def test_only_the_first_levels_are_predicted():
  codes = _noise(10, 5, levels=3)
  config = modelability.Config(levels=1, steps=1, dim=16, num_layers=1)
  result = modelability.measure(codes, codes, SIZE, 12.5, config)
  # One warm-up step at rate zero: every code is as likely.
  assert result.nats == pytest.approx(np.full((10, 1), np.log(SIZE)), rel=1e-5)
  assert result.per_second == pytest.approx(12.5 * np.log(SIZE))


def test_a_code_is_predicted_from_what_the_pattern_shows_alone():
  """Of frame t and level q: what has t' + q' < t + q, or the coarser of it."""
  module = modelability.Decoder(SIZE, 3, 16, 1)
  codes = _noise(1, 6, frames=6, levels=3)
  shapes = jax.eval_shape(
      lambda: module.init(jax.random.key(0), codes))['params']
  rng = np.random.default_rng(7)
  params = jax.tree.map(
      lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32),
      shapes)  # small: attention sees all that it may
  run = jax.jit(lambda codes: module.apply({'params': params}, codes))
  before = np.asarray(run(codes))
  assert before.shape == (1, 6, 3, SIZE)
  for frame in range(6):
    for level in range(3):
      changed = codes.copy()
      changed[0, frame, level] = (changed[0, frame, level] + 5) % SIZE
      moved = np.abs(np.asarray(run(changed)) - before)[0].max(-1) > 0
      later = np.add.outer(np.arange(6), np.arange(3)) > frame + level
      np.testing.assert_array_equal(moved, later)


def test_levels_of_a_codec():
  spec = specs.CodecSpec()
  assert modelability.Config().of(spec).levels == spec.coarse_codebooks == 4
  assert modelability.Config(levels=12).of(spec).levels == 12
  with pytest.raises(errors.UserError, match="13 levels; expected 1 to the "
                     "codec's 12"):
    modelability.Config(levels=13).of(spec)
  with pytest.raises(errors.UserError, match='0 steps; expected at least 1'):
    modelability.Config(steps=0)


def test_codes_that_do_not_belong_together():
  with pytest.raises(ValueError, match='alike but for the clips'):
    modelability.measure(_noise(4, 0, 8), _noise(4, 0, 9), SIZE, 50, SMALL)
