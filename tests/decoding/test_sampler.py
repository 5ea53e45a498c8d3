"""Cached decoding, legal ids, seeds and compilations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler
from musiclm_jax.systems.musiclm import tracks

NAMES = ('semantic', 'coarse', 'fine')


@pytest.mark.parametrize('name,head', [
    ('semantic', 'target'), ('coarse', 'target'), ('fine', 'target'),
    ('fine', 'vocab')])
def test_cached_equals_teacher_forced(name, head):
  stage = tiny_stage.trained(name, head=head)
  layout = stage.layout
  codes = tiny_stage.codes(layout)
  if name == 'coarse':
    codes['semantic'][1, 30:] = -1  # padding in the condition
  batch = tiny_stage.batch_of(layout, codes)
  found = sampler.Sampler(stage).score(batch['decoder_target_tokens'])
  logits = tiny_stage.logits(
      stage.model, stage.params, batch['decoder_input_tokens'])
  logits = logits.reshape(2, layout.target.length, -1)
  if head == 'vocab':
    low, high = layout.legal_ranges()
    logits = np.stack([logits[:, p, low[q]:high[q]] for p, q in enumerate(
        range(layout.target.start, layout.length))], axis=1)
  assert np.std(logits) > 0.1
  np.testing.assert_allclose(found, logits, atol=1e-4)


def test_cached_equals_teacher_forced_over_several_cache_sizes():
  stage = tiny_stage.trained('coarse', seconds=4, num_layers=1)
  layout = stage.layout
  assert len(sampler.cache_sizes(layout.length)) > 1
  batch = tiny_stage.batch_of(layout, tiny_stage.codes(layout, batch=1))
  found = sampler.Sampler(stage).score(batch['decoder_target_tokens'])
  logits = tiny_stage.logits(
      stage.model, stage.params, batch['decoder_input_tokens'])
  np.testing.assert_allclose(
      found, logits.reshape(found.shape), atol=1e-4)


@pytest.mark.parametrize('levels', [0, 2])
def test_times_are_the_same_cached_and_forced(levels):
  """With a matrix large enough that a time that is off by one would show."""
  stage = tiny_stage.trained('fine', time_features=8)
  layout = stage.layout
  params = dict(stage.params, time_embedding=3 * stage.params['time_embedding'])
  stage = dataclasses.replace(stage, params=params)
  batch = tiny_stage.batch_of(layout, tiny_stage.codes(layout))
  logits = tiny_stage.logits(
      stage.model, params, batch['decoder_input_tokens'])
  tokens = batch['decoder_target_tokens']
  if not levels:
    found = sampler.Sampler(stage).score(tokens)
    np.testing.assert_allclose(
        found, logits.reshape(found.shape), atol=1e-4)
    return
  # The first frame's levels are what they are without the others.
  begun = sampler.Sampler(stage)
  decoding = begun.begin(
      tokens, categorical.row_keys(0, 2, 0, np.arange(2)),
      layout.target.start, categorical.Draw(levels=levels), with_logits=True)
  begun.advance(decoding, layout.target.start + layout.target.num_codebooks)
  np.testing.assert_allclose(np.asarray(decoding.logits)[:, :levels],
                             logits[:, 0, :levels], atol=1e-4)


@pytest.mark.parametrize('weights, most', [
    pytest.param('bfloat16', 0.02, marks=pytest.mark.slow), ('int8', 0.02)])
def test_rounder_weights_cost_little(weights, most):
  stage = tiny_stage.trained('semantic')
  batch = tiny_stage.batch_of(stage.layout, tiny_stage.codes(stage.layout))
  tokens = batch['decoder_target_tokens']
  expected = float(stage.model.loss(stage.params, batch)[0])
  np.testing.assert_allclose(
      sampler.Sampler(stage).loss(tokens), [expected], atol=1e-4)
  found = sampler.Sampler(stage, weights).loss(tokens)
  assert 0 < abs(found[0] - expected) < most


def test_unknown_weights():
  with pytest.raises(errors.UserError, match="unknown weights 'int4'; known: b"):
    sampler.Sampler(tiny_stage.trained('semantic'), 'int4')


def draw(stage, seed=0, rows=2, stop=None, settings=categorical.Draw(), made=None,
         prompt_frames=0, codes=None):
  layout = stage.layout
  codes = dict(codes or tiny_stage.codes(layout, rows))
  target = codes[layout.target.name].copy()
  target[:, prompt_frames:] = -1
  codes[layout.target.name] = target
  keys = categorical.row_keys(seed, 0, 0, np.arange(rows))
  prompt = layout.target.start + prompt_frames * layout.target.num_codebooks
  made = made or sampler.Sampler(stage)
  return made.sample(layout.build(codes), keys, prompt, stop, settings)


@pytest.mark.parametrize('name', NAMES)
def test_every_token_is_legal_and_conditions_stay(name):
  stage = tiny_stage.trained(name, num_layers=1)
  tokens = draw(stage)
  low, high = stage.layout.legal_ranges()
  assert ((tokens >= low) & (tokens < high)).all()
  codes = tiny_stage.codes(stage.layout)
  split = stage.layout.split(tokens)
  for condition in stage.spec.conditions:
    np.testing.assert_array_equal(split[condition], codes[condition])


def test_seeds_rows_and_batches():
  stage = tiny_stage.trained('coarse', seconds=1, num_layers=1)
  made = sampler.Sampler(stage)
  first = draw(stage, made=made)
  np.testing.assert_array_equal(first, draw(stage, made=made))
  assert (first != draw(stage, seed=1, made=made)).any()
  target = slice(stage.layout.target.start, None)
  assert (first[0, target] != first[1, target]).any()
  # Three rows are padded to four; the fourth changes nothing.
  codes = tiny_stage.codes(stage.layout, 4)
  four = draw(stage, rows=4, made=made, codes=codes)
  three = draw(stage, rows=3, made=made,
               codes={k: v[:3] for k, v in codes.items()})
  np.testing.assert_array_equal(three, four[:3])


def test_programs_are_compiled_once_for_each_shape():
  stage = tiny_stage.trained('coarse', seconds=1, num_layers=1)
  made = sampler.Sampler(stage)
  start = stage.layout.target.start
  for seed, stop, settings in (
      (0, None, categorical.Draw()), (1, start + 40, categorical.Draw(0.5)),
      (2, start + 8, categorical.Draw(0.0))):
    draw(stage, seed=seed, stop=stop, settings=settings, made=made)
  assert made.compilations == 2  # one to read a prompt, one to go on
  draw(stage, made=made, prompt_frames=10)
  assert made.compilations == 2  # the prompt has the same padded length
  draw(stage, made=made, prompt_frames=40)
  assert made.compilations == 3
  draw(stage, made=made, prompt_frames=39, seed=5)
  draw(stage, made=made, seed=6)
  assert made.compilations == 3


def test_prepared_is_whatever_a_window_takes():
  stage = tiny_stage.trained('coarse', seconds=4, num_layers=1)
  made = sampler.Sampler(stage)
  prompts = tracks.prompts(made)
  assert prompts == [stage.layout.target.start + 200 * s for s in range(3)]
  steps = sum(1 for _ in made.prepare(2, prompts))
  compilations = made.compilations
  assert steps == compilations > len(made.sizes)
  for frames in (0, 50, 100):
    draw(stage, made=made, prompt_frames=frames)
  assert made.compilations == compilations
  assert not list(made.prepare(2, [])) and made.compilations == compilations


@pytest.mark.parametrize('levels', [0, 1, 3])
def test_pieces_are_the_whole(levels):
  """Also where a piece ends within a block, and over several cache sizes."""
  stage = tiny_stage.trained('coarse', seconds=4, num_layers=1)
  layout, made = stage.layout, sampler.Sampler(stage)
  settings = categorical.Draw(levels=levels)
  codes = dict(tiny_stage.codes(layout), coarse=np.full((2, 200, 4), -1))
  tokens, start = layout.build(codes), layout.target.start
  keys = categorical.row_keys(0, 1, 0, np.arange(2))
  whole = made.sample(tokens, keys, start, draw=settings)
  decoding = made.begin(tokens, keys, start, settings)
  compilations = made.compilations
  for frames in (1, 2, 9, 10, 77, 200):
    made.advance(decoding, start + 4 * frames)
    assert decoding.position == start + 4 * frames
    np.testing.assert_array_equal(
        np.asarray(decoding.tokens)[:, :decoding.position],
        whole[:, :decoding.position])
  assert (np.asarray(decoding.tokens) == whole).all()
  assert made.compilations == compilations


def test_fewer_levels_are_the_sequence_without_the_others():
  """Greedy draws against the network itself, whose keys of levels that are
  left out are hidden and whose frames begin with the last level drawn."""
  stage = tiny_stage.trained('coarse', seconds=1, num_layers=1)
  target = stage.layout.target
  kept = 3
  tokens = draw(stage, settings=categorical.Draw(0.0, levels=kept))
  drawn = target.to_codes(tokens[:, target.start:])
  assert (drawn[..., :kept] >= 0).all() and (drawn[..., kept:] == -1).all()
  inputs = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
  frames = target.start + 4 * np.arange(1, target.num_frames)
  inputs[:, frames] = tokens[:, frames - 1 - (4 - kept)]
  for frame in range(target.num_frames):  # hidden, and never asked
    inputs[:, target.start + 4 * frame + kept:target.start + 4 * frame + 4] = 0
  logits = tiny_stage.logits(stage.model, stage.params, inputs)
  best = logits.reshape(2, target.num_frames, 4, -1).argmax(-1)
  np.testing.assert_array_equal(drawn[..., :kept], best[..., :kept])


def test_all_levels_are_the_usual_program():
  stage = tiny_stage.trained('fine', num_layers=1)
  made = sampler.Sampler(stage)
  first, count = draw(stage, made=made), made.compilations
  np.testing.assert_array_equal(
      first, draw(stage, made=made, settings=categorical.Draw(levels=8)))
  assert made.compilations == count


def test_stop_and_prefix():
  stage = tiny_stage.trained('coarse', seconds=1, num_layers=1)
  start = stage.layout.target.start
  whole, short = draw(stage), draw(stage, stop=start + 48)
  np.testing.assert_array_equal(short[:, :start + 48], whole[:, :start + 48])
  assert (short[:, start + 48:] == 0).all()
  codes = tiny_stage.codes(stage.layout)
  tokens = draw(stage, prompt_frames=20)
  found = stage.layout.split(tokens)['coarse']
  np.testing.assert_array_equal(found[:, :20], codes['coarse'][:, :20])
  assert (found[:, 20:] >= 0).all()


def test_draws_follow_the_distribution():
  """Frequencies of 4,000 draws against the softmax, at two temperatures."""
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
  rows = 4000
  keys = jax.vmap(jax.random.key)(jnp.arange(rows))
  for temperature in (1.0, 0.5):
    codes = categorical.draw_codes(
        jnp.tile(logits, (rows, 1)), keys, 3, temperature)
    found = np.bincount(codes, minlength=4) / rows
    expected = np.array([0.5, 0.3, 0.15, 0.05])**(1 / temperature)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)
  greedy = categorical.draw_codes(jnp.tile(logits, (rows, 1)), keys, 3, 0.0)
  assert (np.asarray(greedy) == 0).all()


@pytest.mark.parametrize('filters,kept', [
    ((2, 1.0), {0, 1}), ((0, 0.7), {0, 1}), ((0, 0.81), {0, 1, 2}),
    ((1, 0.99), {0}), ((0, 0.1), {0})])
def test_filters_keep_the_likely(filters, kept):
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
  keys = jax.vmap(jax.random.key)(jnp.arange(500))
  codes = categorical.draw_codes(jnp.tile(logits, (500, 1)), keys, 0, 1.0, filters)
  assert set(np.asarray(codes).tolist()) == kept


def test_cache_sizes_cover_the_sequence():
  for length in (239, 763, 1801, 2264):
    sizes = sampler.cache_sizes(length)
    assert all(b > a for a, b in zip(sizes, sizes[1:]))
    for prompt in range(0, length + 1, 7):
      # Whole blocks from any prompt on reach the end without leaving the cache.
      blocks = -(-(length - prompt) // sampler.BLOCK)
      assert prompt + blocks * sampler.BLOCK <= sizes[-1]
