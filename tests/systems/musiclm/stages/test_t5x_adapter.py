"""A stage under T5X: the same steps as under our loop. Needs T5X installed."""

import types

from flax import core
import jax
from jax import numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.nn import partitioning
from musiclm_jax.systems.musiclm.stages import model as model_lib
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import optim
from musiclm_jax.training import step as step_lib

pytestmark = pytest.mark.t5x
OPTIMIZER = optim.OptimizerConfig(
    learning_rate=1e-2, warmup_steps=2, weight_decay=0.1, eps=1e-3)


@pytest.fixture(name='adapter', scope='module')
def _adapter():
  pytest.importorskip('t5x')
  # pylint: disable-next=g-import-not-at-top
  from musiclm_jax.systems.musiclm.stages import t5x_adapter
  return t5x_adapter


def stage_of(name, **settings):
  """With every term of the loss."""
  stage = tiny_stage.stage_model(name, seconds=1, **settings)
  return model_lib.StageModel(
      stage.spec, stage.config, z_loss=1e-3, label_smoothing=0.1)


def batch_of(stage, seed, ends=True):
  codes = tiny_stage.codes(stage.layout, batch=4, seed=seed)
  if ends:
    codes[stage.spec.name][1, -5:] = -1  # a track that ends
  return tiny_stage.batch_of(stage.layout, codes)


def our_steps(trainable, batches):
  """(metrics of each step, evaluation, initial and final parameters)."""
  mesh, rules = mesh_lib.make_mesh((1, 1)), partitioning.with_rules(())
  with step_lib.context(mesh, rules):
    program = step_lib.build(trainable, batches[0], mesh, rules, seed=0)
    state = program.init(program.place(batches[0]))
    first = jax.device_get(state.params)
    rows = []
    for batch in batches:
      state, metrics = program.update(state, program.place(batch))
      rows.append(jax.device_get(metrics))
    evaluated = program.evaluate(state, program.place(batches[0]), 0)
  return rows, jax.device_get(evaluated), first, jax.device_get(state.params)


def t5x_steps(adapter, trainable, batches, first, parts):
  """The same from T5X's trainer, from the parameters `first`.

  It makes `parts` of a batch, whatever the leaf says.
  """
  # pylint: disable=g-import-not-at-top
  from t5x import partitioning as t5x_partitioning
  from t5x import train_state as train_state_lib
  from t5x import trainer as t5x_trainer
  # pylint: enable=g-import-not-at-top
  model = adapter.T5XStage(trainable)
  adapter.stage_trainer(trainer_like(parts, adapter.learning_rate_fn(trainable)),
                        model=model)
  variables = model.get_initial_variables(jax.random.PRNGKey(0), {})
  assert jax.tree.map(np.shape, variables['params'].unfreeze()) == jax.tree.map(
      np.shape, first)
  state = train_state_lib.FlaxOptimTrainState.create(
      model.optimizer_def, variables.copy({'params': jax.tree.map(
          jnp.asarray, first)}))
  update = jax.jit(lambda state, batch, rate: t5x_trainer.train_with_lr(
      state, batch, rate, jax.random.PRNGKey(1), model, parts))
  rows = []
  partitioner = t5x_partitioning.PjitPartitioner(
      num_partitions=adapter.num_partitions((1, 1)),
      logical_axis_rules=adapter.logical_axis_rules((1, 1)))
  with partitioner.mesh:
    for step, batch in enumerate(batches):
      state, metrics = update(
          state, batch, adapter.learning_rate_fn(trainable)(step))
      rows.append(computed(metrics))
    _, evaluated = jax.jit(model.eval_fn)(state.params, batches[0])
  return rows, computed(evaluated), core.unfreeze(state.params)


def trainer_like(parts, rate):
  """What a trainer of T5X keeps of its settings."""
  def make(model):
    del model
    return types.SimpleNamespace(_num_microbatches=parts, _learning_rate_fn=rate)
  return make


def computed(metrics):
  return {name: float(metric.compute()) for name, metric in metrics.items()
          if not name.startswith('timing/')}


@pytest.mark.parametrize('name, settings, microbatch, parts', [
    ('semantic', dict(head='vocab'), 0, None), ('coarse', {}, 0, None),
    ('coarse', {}, 0, 4), ('fine', dict(scan_layers=True, remat='full'), 2, 2)])
def test_both_loops_take_the_same_steps(
    adapter, name, settings, microbatch, parts):
  stage = stage_of(name, **settings)
  # T5X averages over microbatches, not over tokens: the same without padding.
  batches = [batch_of(stage, seed, ends=not parts) for seed in range(3)]
  trainable = trainer.StageTrainable(stage, OPTIMIZER, microbatch)
  rows, evaluated, first, last = our_steps(trainable, batches)
  t5x_rows, t5x_evaluated, t5x_last = t5x_steps(
      adapter, trainable, batches, first, parts)
  assert rows[2]['loss'] < rows[0]['loss'] - 0.01
  for ours, theirs in zip(rows + [evaluated], t5x_rows + [t5x_evaluated]):
    assert set(evaluated) <= set(theirs)
    for key in evaluated:
      assert theirs[key] == pytest.approx(ours[key], rel=1e-5, abs=1e-6), key
  for ours, theirs in zip(t5x_rows, rows):
    assert ours['learning_rate'] == pytest.approx(theirs['learning_rate'])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               t5x_last, last)


def test_adafactor_has_its_shardings(adapter):
  trainable = trainer.StageTrainable(
      stage_of('semantic'), optim.OptimizerConfig('adafactor'))
  model = adapter.T5XStage(trainable)
  variables = model.get_initial_variables(jax.random.PRNGKey(0), {})
  optimizer = model.optimizer_def.create(variables['params'])
  axes = model.optimizer_def.derive_logical_axes(
      optimizer, jax.tree.map(lambda _: None, variables['params']))
  assert axes.state.param_states is not None


def test_a_spike_changes_nothing(adapter):
  """T5X gives an optimiser no loss: the norm of the gradients decides."""
  definition = adapter.optimizer(optim.OptimizerConfig(skip_deviations=8.0))
  params = {'w': jnp.ones((4, 3)), 'b': jnp.zeros(3)}
  optimizer = definition.create(params)
  apply = jax.jit(lambda optimizer, size: optimizer.apply_gradient(
      jax.tree.map(lambda x: jnp.full(x.shape, size), params)))
  for step in range(60):
    optimizer = apply(optimizer, 1.0 + 0.01 * (step % 7))
  after = apply(optimizer, 1e4)
  jax.tree.map(np.testing.assert_array_equal, after.target, optimizer.target)
  assert (after.state.param_states.skipped, after.state.step) == (1, 61)
  moved = apply(after, 1.0).target
  assert np.abs(moved['w'] - after.target['w']).max() > 0
  spec = jax.sharding.PartitionSpec
  axes = {'w': spec('embed', 'mlp'), 'b': spec('mlp')}
  found = definition.derive_logical_axes(optimizer, axes).state.param_states
  assert found.mean is None and found.skipped is None
  assert axes in jax.tree.leaves(
      found.inner, is_leaf=lambda x: isinstance(x, dict))


def test_scores_and_predictions(adapter):
  stage = stage_of('coarse')
  params = tiny_stage.init(stage)
  batch = jax.tree.map(jnp.asarray, batch_of(stage, 0, ends=False))
  target = stage.layout.target

  def decode(model, params, tokens, rng):
    del model, params, rng
    return tokens[:, target.start:target.stop] * 0 + target.first_id

  plain = adapter.T5XStage(trainer.StageTrainable(stage))
  with pytest.raises(ValueError, match='no decode_fn'):
    plain.predict_batch(params, batch)
  model = adapter.T5XStage(trainer.StageTrainable(stage), decode)
  level = np.tile(np.arange(target.num_codebooks), target.num_frames)
  drawn = target.first_id + 0 * level
  tokens, aux = model.predict_batch_with_aux(params, batch)
  np.testing.assert_array_equal(tokens, np.broadcast_to(drawn, tokens.shape))
  sequence = np.array(batch['decoder_target_tokens'])
  sequence[:, target.start:target.stop] = drawn
  shifted = np.pad(sequence, ((0, 0), (1, 0)))[:, :-1]
  scores = model.score_batch(params, dict(
      decoder_input_tokens=shifted, decoder_target_tokens=sequence,
      decoder_loss_weights=batch['decoder_loss_weights']))
  np.testing.assert_allclose(aux['scores'], scores, rtol=1e-6)


def test_rules_name_the_axes_that_t5x_has(adapter):
  rules = dict(adapter.logical_axis_rules({'data': -1}))
  assert rules['batch'] == 'data' and rules['mlp'] == 'model'
  assert rules['embed'] is None
  assert set(rules.values()) <= {'data', 'model', None}
  own = adapter.logical_axis_rules({'data': -1}, [('mlp', None)])
  assert own[0] == ('mlp', None)


def test_microbatches(adapter):
  batches = type('Batches', (), dict(batch_size=8))()
  count = lambda size: adapter.num_microbatches(
      trainer.StageTrainable(microbatch=size), batches)
  assert count(0) is None and count(2) == 4
  with pytest.raises(errors.UserError, match='microbatch is 3 for a batch of 8'):
    count(3)


def test_another_learning_rate_is_refused(adapter):
  trainable = trainer.StageTrainable(stage_of('semantic'), OPTIMIZER)
  model = adapter.T5XStage(trainable)
  own = adapter.learning_rate_fn(trainable)
  assert float(own(1)) == float(OPTIMIZER.schedule_fn()(1))
  adapter.stage_trainer(trainer_like(4, own), model=model)
  assert model.microbatches == 4
  for other in (lambda step: 1e-3, adapter.LearningRate(optim.OptimizerConfig())):
    with pytest.raises(errors.UserError, match='OptimizerConfig.learning_rate'):
      adapter.stage_trainer(trainer_like(4, other), model=model)


def test_it_has_the_metrics_that_t5x_users_look_for(adapter):
  """By T5X's own function, on the logits and losses of the same batch."""
  # pylint: disable-next=g-import-not-at-top
  from t5x import models as t5x_models
  stage = stage_of('coarse', head='vocab')
  batch = jax.tree.map(jnp.asarray, batch_of(stage, 0))
  params = tiny_stage.init(stage)
  _, found = adapter.T5XStage(trainer.StageTrainable(stage)).loss_fn(
      params, batch, None)
  mean, means = stage.loss(params, batch)
  weights = batch['decoder_loss_weights']
  count = weights.sum()
  expected = t5x_models.compute_base_metrics(
      jnp.zeros((*weights.shape, 2)), batch['decoder_target_tokens'], weights,
      mean * count, means['z_loss_per_token'] * count)
  assert means['z_loss_per_token'] > 0
  assert set(expected) <= set(found)
  fraction = float(count / weights.size)
  assert 0.3 < fraction < 0.95
  for name, metric in expected.items():
    if name in ('accuracy', 'loss') or name.startswith('timing/'):
      continue  # ours by our rules: `loss` is the mean of the target tokens
    if hasattr(metric, 'steps'):  # a mean of steps, of which there was one
      assert float(found[name].total) == pytest.approx(
          float(metric.total), rel=1e-5), name
    else:
      assert float(found[name].compute()) == pytest.approx(
          float(metric.compute()), rel=1e-5), name


@pytest.mark.parametrize('path, expected', [
    ('runs/x', '{cwd}/runs/x'), ('/runs//x', '/runs/x'), ('~/x', '{home}/x'),
    ('gs://bucket/x', 'gs://bucket/x'), ('', ''), ([], []), (None, None)])
def test_paths_are_absolute(adapter, path, expected, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', '/home/someone')
  if expected:
    expected = expected.format(cwd=tmp_path, home='/home/someone')
  assert adapter.absolute(path) == expected
