"""Scanned and unrolled layers: one function, one checkpoint, one bundle."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.decoding import decoder
from musiclm_jax.decoding import sampler
from musiclm_jax.nn import layer_stacks
from musiclm_jax.systems.musiclm.stages import model
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import checkpoints
from musiclm_jax.training import mesh
from musiclm_jax.training import optim


def stacked(trained):
  """The same stage under `lax.scan`."""
  config = dataclasses.replace(trained.config, scan_layers=True)
  return model.TrainedStage(
      model.StageModel(trained.spec, config), layer_stacks.stack(trained.params))


def test_both_layouts_have_one_forward_pass_and_one_decoder():
  plain = tiny_stage.trained('coarse', num_layers=3)
  scanned = stacked(plain)
  batch = tiny_stage.batch_of(plain.layout, tiny_stage.codes(plain.layout))
  inputs = batch['decoder_input_tokens']
  expected = tiny_stage.logits(plain.model, plain.params, inputs)
  found = tiny_stage.logits(scanned.model, scanned.params, inputs)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  scores = sampler.Sampler(scanned).score(batch['decoder_target_tokens'])
  np.testing.assert_allclose(
      scores, expected.reshape(scores.shape), atol=1e-4)
  assert scanned.model.num_params() == plain.model.num_params()


def test_logical_axes_name_the_layers():
  stage = tiny_stage.stage_model('fine', scan_layers=True)
  axes = stage.logical_axes()['decoder']['layers']
  assert axes['mlp']['wi_0']['kernel'] == ('layers', 'embed', 'mlp')
  assert axes['pre_mlp_layer_norm']['scale'] == ('layers', 'embed')


def test_a_bundle_has_unrolled_layers():
  trainable = trainer.StageTrainable(
      tiny_stage.stage_model('semantic', scan_layers=True))
  state = jax.jit(trainable.init)(jax.random.key(0), None)
  exported = trainable.export(state)
  assert not exported['config'].scan_layers
  first = exported['weights']['decoder']['layers_0']['mlp']['wo']['kernel']
  np.testing.assert_array_equal(
      first, state.params['decoder']['layers']['mlp']['wo']['kernel'][0])
  stage = model.StageModel(exported['spec'], exported['config'])
  shapes = jax.eval_shape(stage.init, jax.random.key(0))
  assert jax.tree.map(np.shape, shapes) == jax.tree.map(
      np.shape, exported['weights'])


def described(tree):
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=device), tree)


@pytest.mark.parametrize('saved_as', [False, True])
def test_a_checkpoint_is_read_in_either_layout(tmp_path, saved_as):
  """Parameters and both moments of the optimiser."""
  states = {}
  for scan in (False, True):
    trainable = trainer.StageTrainable(
        tiny_stage.stage_model('fine', scan_layers=scan))
    states[scan] = jax.jit(trainable.init)(jax.random.key(0), None)
  state = jax.tree.map(
      lambda x: np.random.default_rng(0).normal(size=x.shape).astype(x.dtype),
      states[saved_as])
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(3, jax.tree.map(jax.numpy.asarray, state), dict(step=3))
    saved.wait()
    step, found, _ = saved.restore(described(states[not saved_as]))
  assert step == 3
  convert = layer_stacks.unroll if saved_as else layer_stacks.stack
  jax.tree.map(np.testing.assert_array_equal, found, convert(state))


def test_another_number_of_layers_is_refused(tmp_path):
  make = lambda count, scan: jax.eval_shape(
      trainer.StageTrainable(tiny_stage.stage_model(
          'fine', scan_layers=scan, num_layers=count)).init,
      jax.random.key(0), None)
  zeros = jax.tree.map(
      lambda x: jax.numpy.zeros(x.shape, x.dtype), make(3, True))
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, zeros, {})
    saved.wait()
    for scan in (False, True):
      with pytest.raises(errors.UserError, match='other arrays'):
        saved.restore(described(make(2, scan)))


def test_factored_moments_have_axes_too():
  """Adafactor's rows and columns lie somewhere on a mesh, as on one device."""
  trainable = trainer.StageTrainable(
      tiny_stage.stage_model('fine', embed_dim=128, mlp_dim=128),
      optim.OptimizerConfig(name='adafactor'))
  state = jax.eval_shape(trainable.init, jax.random.key(0), None)
  shardings = mesh.state_shardings(
      mesh.make_mesh((1, 1)), state, trainable.logical_axes(state))
  assert jax.tree.structure(shardings) == jax.tree.structure(state)


@pytest.mark.parametrize('name', ['semantic', 'coarse', 'fine'])
def test_paper_size_counts_the_same_scanned(name):
  spec = model.specs.StageSpec(name)
  counts = {model.StageModel(spec, decoder.DecoderConfig(
      scan_layers=scan)).num_params() for scan in (False, True)}
  assert counts == {dict(semantic=430_228_992, coarse=438_617_600,
                         fine=428_131_840)[name]}
