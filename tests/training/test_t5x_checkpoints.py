"""T5X's checkpoints as files; T5X itself is not needed."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.training import optim
from musiclm_jax.training import t5x_checkpoints

PARAMS = {'decoder': {
    **{f'layers_{i}': {'w': np.full((2, 3), i + 0.5, np.float32)}
       for i in range(2)}, 'norm': np.ones(3, np.float32)}}


def state_of(params, step):
  config = optim.OptimizerConfig(clip_norm=1.0, weight_decay=0.1)
  return config.start(params).replace(step=np.int32(step))


def described(params):
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)


def test_it_is_laid_out_as_t5x_has_it(tmp_path):
  path = t5x_checkpoints.write(tmp_path / 'run', 7, state_of(PARAMS, 7))
  assert path == tmp_path / 'run' / 'checkpoint_7'
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.restore(path / 'state')
  assert set(tree) == {'target', 'state'}
  assert set(tree['state']) == {'step', 'param_states'}
  assert tree['state']['step'] == 7
  # chain(clip, adamw = chain(moments, decay, rate)): what is empty is left out.
  moments = tree['state']['param_states']['1']['0']
  assert set(moments) == {'count', 'mu', 'nu'}
  assert set(moments['mu']['decoder']) == {'layers_0', 'layers_1', 'norm'}
  assert set(tree['state']['param_states']) == {'1'}


def test_the_newest_is_read_and_only_the_parameters(tmp_path):
  for step in (5, 12):
    params = jax.tree.map(lambda x, s=step: x * s, PARAMS)
    t5x_checkpoints.write(tmp_path, step, state_of(params, step))
  for place, step in ((tmp_path, 12), (tmp_path / 'checkpoint_5', 5)):
    found, params = t5x_checkpoints.read(place, described(PARAMS))
    assert found == step
    for name, values in bundle.flatten(PARAMS).items():
      np.testing.assert_array_equal(bundle.flatten(params)[name], values * step)


def test_layers_may_be_stacked(tmp_path):
  stacked = {'decoder': {'layers': {'w': np.zeros((2, 2, 3), np.float32)},
                         'norm': np.ones(3, np.float32)}}
  t5x_checkpoints.write(tmp_path, 1, state_of(stacked, 1))
  _, params = t5x_checkpoints.read(tmp_path, described(PARAMS))
  assert params['decoder']['layers']['w'].shape == (2, 2, 3)


def test_mistakes(tmp_path):
  with pytest.raises(errors.UserError, match='no checkpoint of T5X'):
    t5x_checkpoints.read(tmp_path / 'none', described(PARAMS))
  t5x_checkpoints.write(tmp_path, 1, state_of(PARAMS, 1))
  with pytest.raises(errors.UserError, match='is there already'):
    t5x_checkpoints.write(tmp_path, 1, state_of(PARAMS, 1))
  other = {'decoder': {**PARAMS['decoder'], 'norm': np.ones(4)}}
  with pytest.raises(errors.UserError, match=r'norm: \(3,\), expected \(4,\)'):
    t5x_checkpoints.read(tmp_path, described(other))


@pytest.mark.parametrize('words, said', [
    (['--from-t5x', 'none', '--out', 'b/codec'], 'is no stage'),
    (['--to-t5x', 'none'], 'is no stage'),
    (['--to-t5x', 'none', '--out', 'b/codec'], 'not allowed'),
    (['--to-t5x', 'none', '--from-t5x', 'none'], 'exclude each other'),
    ([], 'is required')])
def test_mistakes_of_the_command_line(tmp_path, monkeypatch, capsys, words,
                                      said):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as caught:
    cli.main(['export', 'soundstream_tiny', "--gin.CORPUS_DIR='none'",
              "--gin.MODEL_DIR='none'", *words])
  assert caught.value.code == 2
  error = capsys.readouterr().err
  assert said in error and error.count('\n') == 1
  assert not list(tmp_path.iterdir())
