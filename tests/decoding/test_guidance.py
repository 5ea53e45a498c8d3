"""Guided sampling against two runs mixed by hand; its edges; who may ask."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import guidance
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.tokens import layout as layout_lib


@pytest.fixture(name='coarse', scope='module')
def _coarse():
  """A sampler of a stage with two conditions, both optional, and tokens."""
  stage = dataclasses.replace(
      tiny_stage.trained('coarse'), optional=('mulan', 'semantic'))
  layout = stage.layout
  tokens = layout.build(tiny_stage.codes(layout, batch=2))
  return sampler_lib.Sampler(stage), tokens


def asked(tokens, layout):
  """The same with nothing of the target drawn yet."""
  tokens = tokens.copy()
  tokens[:, layout.target.start:] = layout_lib.PAD_ID
  return tokens


def without(tokens, layout, *names):
  tokens = tokens.copy()
  for name in names:
    place = layout.segment(name)
    tokens[:, place.start:place.stop] = layout_lib.PAD_ID
  return tokens


def draw(sampler, tokens, seconds=1, **settings):
  """Tokens of a first stretch of the target."""
  layout = sampler.layout
  keys = categorical.row_keys(3, 1, 0, np.arange(len(tokens)))
  start = layout.target.start
  found = sampler.sample(
      asked(tokens, layout), keys, start, start + 200 * seconds,
      categorical.Draw(**settings))
  return found[:, start:start + 200 * seconds]


def logits(sampler, tokens, scales):
  """Step-wise logits with every token given."""
  keys = categorical.row_keys(0, 1, 0, np.arange(len(tokens)))
  start = sampler.layout.target.start
  decoding = sampler.begin(
      tokens, keys, start, categorical.Draw(guidance=scales), with_logits=True)
  sampler.advance(decoding, sampler.layout.length)
  return np.asarray(decoding.logits)


def teacher_forced(sampler, tokens):
  stage = sampler.stage
  return np.asarray(jax.jit(stage.model.logits)(
      stage.params, np.pad(tokens, ((0, 0), (1, 0)))[:, :-1])).reshape(
          len(tokens), sampler.layout.target.length, -1)


@pytest.mark.parametrize('scales', [
    (('mulan', 3.0),), (('mulan', 2.5), ('semantic', 0.5))])
def test_logits_are_those_of_whole_passes_mixed_by_hand(coarse, scales):
  sampler, tokens = coarse
  everything = teacher_forced(sampler, tokens)
  expected = everything.astype(np.float64)
  for name, scale in scales:
    lacking = teacher_forced(sampler, without(tokens, sampler.layout, name))
    assert np.abs(lacking - everything).max() > 0.05
    expected = expected + (scale - 1) * (everything - lacking)
  np.testing.assert_allclose(
      logits(sampler, tokens, scales), expected, atol=5e-4)


def test_scale_one_is_the_unguided_path_bit_for_bit(coarse):
  sampler, tokens = coarse
  plain = draw(sampler, tokens)
  compiled = sampler.compilations
  np.testing.assert_array_equal(
      draw(sampler, tokens, guidance=(('mulan', 1.0), ('semantic', 1.0))),
      plain)
  assert sampler.compilations == compiled, 'the same programs'
  assert np.any(draw(sampler, tokens, guidance=(('mulan', 6.0),)) != plain)


def test_scale_zero_ignores_the_prompt(coarse):
  sampler, tokens = coarse
  other = tokens.copy()
  place = sampler.layout.segment('mulan')
  other[:, place.start:place.stop] = np.roll(
      other, 1, axis=0)[:, place.start:place.stop]
  assert np.any(other != tokens)
  zero = dict(guidance=(('mulan', 0.0),))
  found = draw(sampler, tokens, **zero)
  np.testing.assert_array_equal(found, draw(sampler, other, **zero))
  np.testing.assert_array_equal(
      found, draw(sampler, without(tokens, sampler.layout, 'mulan')))


def test_what_is_not_there_is_not_guided(coarse):
  """A request without a melody, say, costs no row for it."""
  sampler, tokens = coarse
  bare = without(tokens, sampler.layout, 'semantic')
  scales = (('mulan', 2.0), ('semantic', 2.0), ('melody', 2.0))
  assert guidance.in_force(sampler.layout, bare, scales) == (('mulan', 2.0),)
  assert guidance.in_force(sampler.layout, tokens, scales) == scales[:2]


def test_in_pieces_as_in_one(coarse):
  """As a stream draws them."""
  sampler, tokens = coarse
  layout, scales = sampler.layout, (('mulan', 3.0),)
  keys = categorical.row_keys(3, 1, 0, np.arange(2))
  start = layout.target.start
  decoding = sampler.begin(asked(tokens, layout), keys, start,
                           categorical.Draw(guidance=scales))
  for stop in (start + 40, start + 100, start + 200):
    sampler.advance(decoding, stop)
  np.testing.assert_array_equal(
      np.asarray(decoding.tokens)[:, start:start + 200],
      draw(sampler, tokens, guidance=scales))


def test_prepared_programs_are_those_of_a_guided_request(coarse):
  sampler, tokens = coarse
  guided = categorical.Draw(guidance=(('mulan', 2.0),))
  for _ in sampler.prepare(4, [sampler.layout.target.start], guided):
    pass
  before = sampler.compilations
  draw(sampler, np.repeat(tokens, 2, axis=0), guidance=guided.guidance)
  assert sampler.compilations == before


@pytest.mark.parametrize('optional, words', [
    ((), 'has not learned to go without any'),
    (('semantic',), 'to go without semantic only')])
def test_a_stage_that_never_went_without_is_not_guided(
    coarse, optional, words):
  sampler, tokens = coarse
  stage = dataclasses.replace(sampler.stage, optional=optional)
  with pytest.raises(errors.UserError, match=words):
    draw(sampler_lib.Sampler(stage), tokens, guidance=(('mulan', 2.0),))


def test_settings_of_each_stage_and_of_the_melody():
  settings = settings_lib.make(
      guidance_semantic=3, guidance_coarse=0.0, guidance_melody=2.0)
  draws = settings.draws()
  assert draws['semantic'].guidance == (('mulan', 3.0), ('melody', 2.0))
  assert draws['coarse'].guidance == (('mulan', 0.0), ('melody', 2.0))
  assert draws['fine'].guidance == (('melody', 2.0),)
  assert all(d.guidance == () for d in settings_lib.Settings().draws().values())
  for value in (-1, 21, float('nan'), 'much'):
    with pytest.raises(errors.UserError, match='guidance_semantic'):
      settings_lib.make(guidance_semantic=value)


def test_a_bundle_says_what_it_is_drawn_with(tmp_path):
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import specs  # pylint: disable=g-import-not-at-top
  bundle_lib.write_manifest(tmp_path, specs.TokenSpec())
  assert bundle_lib.Bundle(tmp_path).defaults == {}
  path = tmp_path / 'defaults.json'
  path.write_text(json.dumps(dict(guidance_semantic=3.0)))
  defaults = bundle_lib.Bundle(tmp_path).defaults
  assert settings_lib.make(defaults=defaults).guidance_semantic == 3.0
  said = settings_lib.make(defaults=defaults, guidance_semantic=1.0)
  assert said.guidance_semantic == 1.0
  for wrong in (dict(guidance=3), dict(guidance_semantic=-1), dict(seconds='')):
    path.write_text(json.dumps(wrong))
    with pytest.raises(errors.UserError, match='defaults.json'):
      bundle_lib.Bundle(tmp_path).defaults  # pylint: disable=expression-not-assigned


@pytest.mark.parametrize('defaults, stages', [
    ({}, ['semantic', 'coarse', 'fine']),
    (dict(levels=4), ['semantic', 'coarse']),
    (dict(levels=5), ['semantic', 'coarse', 'fine'])])
def test_what_is_prepared_is_what_a_bundle_draws(defaults, stages):
  """A stage that the bundle leaves out by default compiles when it is asked."""
  from musiclm_jax import specs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.systems.musiclm import model as model_lib  # pylint: disable=g-import-not-at-top
  bundle = types.SimpleNamespace(
      tokens=specs.TokenSpec(), defaults=dict(defaults, guidance_melody=2.0),
      has=lambda name: name in ('semantic', 'coarse', 'fine'))
  model = model_lib.Model(bundle)
  model._pipeline = types.SimpleNamespace(prepare=lambda rows, draws: draws)  # pylint: disable=protected-access
  draws = model.prepare()
  assert list(draws) == stages
  assert all(draw.guidance == () for draw in draws.values()), 'no melody'
