"""A stage learns one batch by heart, and its state has what the loop needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler
from musiclm_jax.systems.musiclm.stages import model
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import mesh
from musiclm_jax.training import optim


def overfit(steps=250):
  stage = tiny_stage.stage_model(
      'coarse', seconds=1, embed_dim=32, num_heads=2, head_dim=16, mlp_dim=64)
  trainable = trainer.StageTrainable(stage, optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=20, schedule='cosine',
      total_steps=steps, final_fraction=0.02, weight_decay=0.0))
  codes = tiny_stage.codes(stage.layout, seed=3)
  batch = tiny_stage.batch_of(stage.layout, codes)
  state = jax.jit(trainable.init)(jax.random.key(0), batch)
  update = jax.jit(trainable.update)
  first = None
  for step in range(steps):
    state, metrics = update(state, batch, jax.random.key(step))
    first = first or metrics
  return trainable, state, batch, codes, first, metrics


def test_overfits_one_batch_and_samples_it_back():
  trainable, state, batch, codes, first, last = overfit()
  assert abs(float(first['loss']) - np.log(16)) < 1.0
  assert float(last['loss']) < 0.05 and float(last['accuracy']) > 0.99
  assert int(state.step) == 250
  evaluated = jax.jit(trainable.evaluate)(state, batch, jax.random.key(0))
  assert float(evaluated['loss']) < 0.05
  # Greedy sampling from the conditions alone gives the learned target.
  stage = model.TrainedStage(trainable.model, state.params)
  layout = stage.layout
  empty = dict(codes, coarse=np.full_like(codes['coarse'], -1))
  keys = categorical.row_keys(0, 1, 0, np.arange(2))
  tokens = sampler.Sampler(stage).sample(
      layout.build(empty), keys, layout.target.start,
      draw=categorical.Draw(temperature=0.0))
  np.testing.assert_array_equal(layout.split(tokens)['coarse'], codes['coarse'])


def test_state_shards_like_its_parameters():
  trainable = trainer.StageTrainable(tiny_stage.stage_model('fine'))
  state = jax.eval_shape(
      lambda: trainable.init(jax.random.key(0), None))
  axes = trainable.logical_axes(state)
  grid = mesh.make_mesh((1, 1))
  shardings = mesh.state_shardings(grid, state, axes)
  assert jax.tree.structure(shardings) == jax.tree.structure(state)
  spec = shardings.params['decoder']['layers_0']['mlp']['wi_0']['kernel'].spec
  assert tuple(spec) == ('fsdp', 'model')


def test_export_is_what_a_bundle_stores():
  trainable = trainer.StageTrainable(tiny_stage.stage_model('semantic'))
  state = jax.jit(trainable.init)(jax.random.key(0), None)
  exported = trainable.export(state, None)
  assert exported['kind'] == 'semantic'
  assert exported['spec'] == trainable.model.spec
  assert exported['config'] == trainable.model.config
  assert set(exported['weights']) == {
      'token_embedding', 'logits_embedding', 'decoder'}


def test_dropout_takes_the_rng():
  stage = tiny_stage.stage_model('semantic', dropout_rate=0.3)
  trainable = trainer.StageTrainable(stage)
  batch = tiny_stage.batch_of(stage.layout, tiny_stage.codes(stage.layout))
  state = jax.jit(trainable.init)(jax.random.key(0), batch)
  update = jax.jit(trainable.update)
  loss = lambda seed: float(
      update(state, batch, jax.random.key(seed))[1]['loss'])
  assert loss(0) != loss(1)
  assert jnp.isfinite(loss(2))


def test_input_noise_replaces_its_share_of_the_target_alone():
  stage = tiny_stage.stage_model('coarse')
  layout = stage.layout
  codes = tiny_stage.codes(layout, batch=8)
  codes['coarse'][:, -10:] = -1  # padding stays padding
  inputs = tiny_stage.batch_of(layout, codes)['decoder_input_tokens']
  noisy = trainer.StageTrainable(stage, input_noise=0.25)._noisy  # pylint: disable=protected-access
  found = np.asarray(noisy(jnp.asarray(inputs), jax.random.key(0)))
  start = layout.target.start + 1
  np.testing.assert_array_equal(found[:, :start], inputs[:, :start])
  part = inputs[:, start:] != 0
  changed = (found != inputs)[:, start:]
  assert not np.any(changed & ~part)
  # A code in sixteen is drawn again as it was.
  share = changed.sum() / part.sum()
  assert abs(share - 0.25 * 15 / 16) < 3 * np.sqrt(0.25 * 0.75 / part.sum())
  layout.target.to_codes(found[:, start:-3])  # of the right levels


def test_input_noise_leaves_targets_and_evaluation_alone():
  stage = tiny_stage.stage_model('semantic')
  batch = tiny_stage.batch_of(stage.layout, tiny_stage.codes(stage.layout))
  plain, noisy = (trainer.StageTrainable(stage, input_noise=share)
                  for share in (0.0, 0.5))
  state = plain.init(jax.random.key(0), batch)
  losses = [float(t.update(state, batch, jax.random.key(1))[1]['loss'])
            for t in (plain, noisy)]
  assert losses[0] != losses[1]
  same = [float(t.evaluate(state, batch, None)['loss'])
          for t in (plain, noisy)]
  assert same[0] == same[1] == pytest.approx(losses[0], rel=1e-5)
