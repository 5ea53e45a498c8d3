"""Micro-batches give the gradient, the metrics and the step of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.systems.musiclm.stages import model
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import accumulate
from musiclm_jax.training import optim


def stage_batch(stage, rows=8):
  """Tracks that end at different places, so that micro-batches differ."""
  codes = tiny_stage.codes(stage.layout, batch=rows)
  target = codes[stage.spec.name]
  for row in range(rows):
    target[row, target.shape[1] * (row + 1) // rows:] = -1
  return tiny_stage.batch_of(stage.layout, codes)


@pytest.mark.parametrize('name, microbatch', [('fine', 2)] + [
    pytest.param(name, microbatch, marks=pytest.mark.slow)
    for name in ('semantic', 'coarse', 'fine') for microbatch in (2, 4)
    if (name, microbatch) != ('fine', 2)])
def test_a_stage_steps_as_with_the_large_batch(name, microbatch):
  stage = tiny_stage.stage_model(name, seconds=1)
  stage = model.StageModel(
      stage.spec, stage.config, z_loss=1e-2, label_smoothing=0.1)
  optimizer = optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=1, eps=1e-3)
  batch = stage_batch(stage)
  results = []
  for size in (0, microbatch):
    trainable = trainer.StageTrainable(stage, optimizer, size)
    state = jax.jit(trainable.init)(jax.random.key(0), batch)
    results.append(jax.jit(trainable.update)(state, batch, jax.random.key(1)))
  (whole, whole_metrics), (parts, part_metrics) = results
  moved = max(float(jnp.abs(a - b).max()) for a, b in zip(
      jax.tree.leaves(whole.params), jax.tree.leaves(state.params)))
  assert moved > 1e-3
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6),
               parts, whole)
  assert set(part_metrics) == set(whole_metrics)
  for key, value in whole_metrics.items():
    np.testing.assert_allclose(part_metrics[key], value, rtol=2e-5)


def test_a_weighted_mean_by_hand():
  x = np.arange(12, dtype=np.float32).reshape(6, 2)
  w = np.array([1, 0, 2, 1, 0, 4], np.float32)

  def loss(params, rows, rng):
    assert rng is None
    values = rows['x'] @ params
    value = (values * rows['w']).sum() / jnp.maximum(rows['w'].sum(), 1e-9)
    return value, {'loss': value}

  grads, metrics = accumulate.gradients(
      loss, lambda rows: rows['w'].sum(), jnp.array([1.0, -2.0]),
      dict(x=x, w=w), None, 2)
  np.testing.assert_allclose(grads, (x * w[:, None]).sum(0) / w.sum(),
                             rtol=1e-6)
  np.testing.assert_allclose(
      metrics['loss'], ((x @ [1, -2]) * w).sum() / w.sum(), rtol=1e-6)


def test_dropout_draws_anew_for_every_micro_batch():
  stage = tiny_stage.stage_model('semantic', seconds=1, dropout_rate=0.5)
  row = tiny_stage.batch_of(stage.layout, tiny_stage.codes(
      stage.layout, batch=1))
  batch = {k: np.repeat(v, 2, axis=0) for k, v in row.items()}
  params = tiny_stage.init(stage)
  def loss(size, rows):
    return float(accumulate.gradients(
        stage.loss, trainer._target_tokens, params, rows, jax.random.key(0),  # pylint: disable=protected-access
        size)[1]['loss'])
  one = float(stage.loss(params, row, jax.random.fold_in(
      jax.random.key(0), 0))[1]['loss'])
  assert abs(loss(1, batch) - one) > 1e-4  # two rows, two masks


def test_a_micro_batch_must_divide_the_batch():
  stage = tiny_stage.stage_model('semantic', seconds=1)
  trainable = trainer.StageTrainable(stage, microbatch=3)
  batch = stage_batch(stage)
  state = jax.eval_shape(trainable.init, jax.random.key(0), batch)
  with pytest.raises(errors.UserError, match='microbatch is 3'):
    jax.eval_shape(trainable.update, state, batch, jax.random.key(0))
