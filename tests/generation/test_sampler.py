"""Cached decoding, legal ids, seeds and compilations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax.generation import sampler

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
  assert len(sampler.cache_sizes(layout.target.start, layout.length)) > 1
  batch = tiny_stage.batch_of(layout, tiny_stage.codes(layout, batch=1))
  found = sampler.Sampler(stage).score(batch['decoder_target_tokens'])
  logits = tiny_stage.logits(
      stage.model, stage.params, batch['decoder_input_tokens'])
  np.testing.assert_allclose(
      found, logits.reshape(found.shape), atol=1e-4)


def draw(stage, seed=0, rows=2, stop=None, settings=sampler.Draw(), made=None,
         prompt_frames=0, codes=None):
  layout = stage.layout
  codes = dict(codes or tiny_stage.codes(layout, rows))
  target = codes[layout.target.name].copy()
  target[:, prompt_frames:] = -1
  codes[layout.target.name] = target
  keys = sampler.row_keys(seed, stage.spec.name, 0, np.arange(rows))
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
      (0, None, sampler.Draw()), (1, start + 40, sampler.Draw(0.5)),
      (2, start + 8, sampler.Draw(0.0))):
    draw(stage, seed=seed, stop=stop, settings=settings, made=made)
  assert made.compilations == 1
  draw(stage, made=made, prompt_frames=25)
  assert made.compilations == 2
  draw(stage, made=made, prompt_frames=25, seed=5)
  draw(stage, made=made, seed=6)
  assert made.compilations == 2


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
    codes = sampler.draw_codes(
        jnp.tile(logits, (rows, 1)), keys, 3, temperature)
    found = np.bincount(codes, minlength=4) / rows
    expected = np.array([0.5, 0.3, 0.15, 0.05])**(1 / temperature)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)
  greedy = sampler.draw_codes(jnp.tile(logits, (rows, 1)), keys, 3, 0.0)
  assert (np.asarray(greedy) == 0).all()


@pytest.mark.parametrize('filters,kept', [
    ((2, 1.0), {0, 1}), ((0, 0.7), {0, 1}), ((0, 0.81), {0, 1, 2}),
    ((1, 0.99), {0}), ((0, 0.1), {0})])
def test_filters_keep_the_likely(filters, kept):
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
  keys = jax.vmap(jax.random.key)(jnp.arange(500))
  codes = sampler.draw_codes(jnp.tile(logits, (500, 1)), keys, 0, 1.0, filters)
  assert set(np.asarray(codes).tolist()) == kept


def test_cache_sizes_cover_the_sequence():
  for prompt, length in ((13, 763), (264, 2264), (1264, 2264), (601, 1801),
                         (1401, 1801), (763, 763)):
    ends = sampler.cache_sizes(prompt, length)
    assert ends[-1] >= length
    assert all(b > a for a, b in zip([prompt] + ends, ends))
    assert all((e - prompt) % sampler.BLOCK == 0 for e in ends)
