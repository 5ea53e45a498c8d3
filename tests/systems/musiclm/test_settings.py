"""Every number has a range, and messages call it as the caller does."""

import dataclasses

import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.systems.musiclm import settings


def test_defaults_are_the_papers():
  draws = settings.make().draws()
  assert {k: d.temperature for k, d in draws.items()} == dict(
      semantic=1.0, coarse=0.95, fine=0.4)
  assert tuple(draws) == settings.STAGES == (
      'semantic', 'coarse', 'fine')  # their places are part of the random keys
  assert not any(d.filtered or d.levels for d in draws.values())


def test_every_stage_has_its_own():
  draws = settings.make(
      temperature_coarse=0, top_k_semantic=9, top_p_fine=0.5, seed=None).draws()
  assert draws['coarse'].temperature == 0.0
  assert draws['semantic'].top_k == 9 and not draws['coarse'].filtered
  assert draws['fine'].top_p == 0.5


@pytest.mark.parametrize('values, message', [
    (dict(seconds=0), 'seconds is 0; expected 1 to 600'),
    (dict(seconds=600.5), 'seconds is 600.5'),
    (dict(seconds=float('nan')), 'seconds is nan'),
    (dict(seconds='ten'), "seconds is text ('ten'); expected a number of 1 to"),
    (dict(seconds=True), 'seconds is true or false; expected a number'),
    (dict(vary=1), 'vary is a number; expected one of semantics, acoustics'),
    (dict(samples=2.0), 'samples is 2.0; expected a whole number'),
    (dict(seed=1.5), 'seed is 1.5; expected a whole number'),
    (dict(samples=0), 'samples is 0; expected a whole number of 1 to 64'),
    (dict(samples=65), 'samples is 65'),
    (dict(samples=2.5), 'samples is 2.5'),
    (dict(best_of=-1), 'best_of is -1'),
    (dict(samples=4, best_of=3), 'best_of is 3; expected at least the 4'),
    (dict(vary='tempo'), "unknown vary 'tempo'; known: acoustics, semantics"),
    (dict(vary='acoustics'), 'expected samples or best_of of at least 2'),
    (dict(levels=-1), 'levels is -1'),
    (dict(like_weight=1.1), 'like_weight is 1.1; expected 0 to 1'),
    (dict(temperature_fine=-0.1), 'temperature_fine is -0.1; expected 0 to 10'),
    (dict(temperature_semantic=float('inf')), 'temperature_semantic is inf'),
    (dict(top_k_coarse=-1), 'top_k_coarse is -1'),
    (dict(top_k_coarse=0.5), 'top_k_coarse is 0.5'),
    (dict(top_p_fine=0), 'top_p_fine is 0; expected 0.001 to 1'),
    (dict(temperature_medium=1), "unknown setting 'temperature_medium'"),
])
def test_mistakes(values, message):
  with pytest.raises(errors.UserError) as error:
    settings.make(**values)
  assert message in str(error.value)


def test_messages_use_the_callers_names():
  with pytest.raises(errors.UserError, match='--temperature-fine is -1'):
    settings.make(settings.option, temperature_fine=-1)
  with pytest.raises(errors.UserError, match='--vary acoustics.*--samples'):
    settings.make(settings.option, vary='acoustics')


def test_levels_are_those_of_the_codec():
  spec = specs.CodecSpec()
  assert settings.check_levels(0, spec) == 12
  assert settings.check_levels(4, spec) == 4
  for levels in (3, 13):
    with pytest.raises(errors.UserError, match='expected 4 to 12, or 0'):
      settings.check_levels(levels, spec)


def test_what_changed_makes_the_same_settings():
  changed = settings.make(seconds=2.5, seed=7, vary='acoustics', samples=3,
                          temperature_fine=0.25)
  assert settings.make().changed() == 'seed=0'
  pairs = dict(p.split('=') for p in changed.changed().split())
  kinds = {f.name: f.type for f in dataclasses.fields(settings.Settings)}
  again = settings.make(**{k: kinds[k](v) for k, v in pairs.items()})
  assert again == changed and len(pairs) == 5
