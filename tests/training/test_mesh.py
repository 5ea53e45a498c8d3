"""Shardings by hand values, and 8 fake devices against one."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.training import mesh as mesh_lib

HERE = pathlib.Path(__file__).parent

# Trains the toy on each mesh and prints where a parameter lies and its distance
# to the same run on one device.
SCRIPT = '''
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
import toy_trainable
from musiclm_jax.training import loop

def train(name, steps, mesh, **kwargs):
  return loop.train(
      toy_trainable.Toy(), toy_trainable.ToySource(), sys.argv[2] + '/' + name,
      steps, mesh=mesh, eval_every=0, log_every=20, checkpoint_every=20,
      **kwargs)

one = jax.device_get(train('one', 20, (1, 1)).state)
def distance(state):
  return max(float(np.max(np.abs(a - b))) for a, b in zip(
      jax.tree.leaves(one), jax.tree.leaves(jax.device_get(state))))
out = {}
for mesh in ((-1, 1), (4, 2), (2, 4)):
  state = train(f'{mesh}', 20, mesh).state
  w = state.params['w']
  mu = state.opt_state[1][0].mu['w']
  out[str(mesh)] = dict(
      distance=distance(state), devices=len(w.sharding.device_set),
      shard=w.addressable_shards[0].data.shape,
      moment_shard=mu.addressable_shards[0].data.shape)
train('moved', 10, (8, 1))
out['moved'] = dict(distance=distance(train('moved', 20, (2, 2)).state))
print(json.dumps(out))
'''


@pytest.fixture(name='eight', scope='module')
def _eight(tmp_path_factory):
  env = dict(os.environ, JAX_PLATFORMS='cpu',
             XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT, str(HERE),
       str(tmp_path_factory.mktemp('eight'))],
      env=env, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('mesh, devices, shard', [
    ('(-1, 1)', 8, [6, 4]), ('(4, 2)', 8, [6, 2]), ('(2, 4)', 8, [6, 1])])
def test_eight_devices_train_as_one(eight, mesh, devices, shard):
  found = eight[mesh]
  assert found['distance'] < 1e-5
  assert found['devices'] == devices
  assert found['shard'] == found['moment_shard'] == shard


def test_a_run_moves_to_another_number_of_devices(eight):
  assert eight['moved']['distance'] < 1e-5


def test_state_axes_may_be_a_prefix():
  mesh = mesh_lib.make_mesh((1, 1))
  state = {'a': {'x': np.zeros((2, 3)), 'y': np.zeros(())}, 'b': np.zeros(4)}
  found = mesh_lib.state_shardings(mesh, state, {'a': None, 'b': ('mlp',)})
  assert jax.tree.map(lambda s: tuple(s.spec), found, is_leaf=lambda s: hasattr(
      s, 'spec')) == {'a': {'x': (), 'y': ()}, 'b': ('model',)}


def test_an_uneven_axis_is_replicated(eight):
  del eight  # The mesh below needs only its shape, not its devices.
  class Mesh:
    shape = {'data': 8, 'model': 3}
  spec = mesh_lib.partition_spec(Mesh, (6, 4), ('mlp', 'heads'))
  assert tuple(spec) == ('model', None)
  assert tuple(mesh_lib.partition_spec(Mesh, (4,), ('mlp',))) == (None,)


def test_wrong_meshes_and_batches_are_user_errors():
  for shape in ((0, 1), (1, 0), (99, 1), (-1, 99)):
    with pytest.raises(errors.UserError):
      mesh_lib.make_mesh(shape)
  with pytest.raises(ValueError, match='shape'):
    mesh_lib.state_shardings(
        mesh_lib.make_mesh((1, 1)), {'a': np.zeros((2, 3))}, {'a': ('mlp',)})


def test_a_batch_that_does_not_divide_says_so():
  class Mesh:
    shape = {'data': 8}
  with pytest.raises(errors.UserError, match='multiple of 8'):
    mesh_lib.batch_shardings(Mesh, {'x': np.zeros((6, 2))})
