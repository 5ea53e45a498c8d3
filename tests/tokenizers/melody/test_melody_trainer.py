"""Learning, the gate at the margin, eight devices as one, the leaves."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tunes

from musiclm_jax import configs
from musiclm_jax import records
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.melody import pairs
from musiclm_jax.tokenizers.melody import trainer
from musiclm_jax.training import gates
from musiclm_jax.training import loop
from musiclm_jax.training import optim

_SIZES = ('tiny', 'demo', 'gpu', 'base')
TINY = melody_model.MelodyConfig(
    features='relative', hop_samples=320, frames_per_token=8, num_layers=1,
    num_heads=2, head_dim=16, dim=32, mlp_dim=64)

COARSE = melody_model.MelodyConfig(
    hop_samples=400, frames_per_token=10, num_layers=1, num_heads=1, head_dim=8,
    dim=8, mlp_dim=8)


def _trainable(rate=3e-3, model=TINY, **kwargs):
  return trainer.MelodyTrainable(model, optim.OptimizerConfig(
      learning_rate=rate, warmup_steps=5, schedule='constant'), **kwargs)


def _batch(count=6):
  crops = []
  for v, (beat, shift) in enumerate(((0.4, 0), (0.45, 5))):
    crops.append(np.stack([
        tunes.play(tunes.version(tunes.tune(t), beat, shift),
                   tunes.TIMBRES[v])[:96_000] for t in range(count)]))
  return dict(first=crops[0], second=crops[1],
              tune=np.arange(count, dtype=np.int32))


def test_learns_one_batch():
  batch, trained = _batch(), _trainable()
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  update, evaluate = jax.jit(trained.update), jax.jit(trained.evaluate)
  before = evaluate(state, batch, None)
  for step in range(60):
    state, metrics = update(
        state, batch, jax.random.fold_in(jax.random.PRNGKey(1), step))
  after = evaluate(state, batch, None)
  assert int(state.step) == 60 and metrics['learning_rate'] > 0
  assert before['loss'] > 0.1
  assert after['loss'] < 0.01 and after['top1'] == 1.0
  assert after['order'] == 1.0 and after['spread'] > 0.5


def test_a_loss_at_the_margin_stops_the_run(tmp_path):
  """Silence: all embeddings are the same, every triplet costs the margin."""
  with records.Writer(tmp_path / 'mute', 'mute', 24_000) as out:
    for t in range(3):
      for v in range(2):
        out.add('train', f'{t}{v}', np.zeros(24_000 * 5), tune=f't{t}',
                melody=[[0.5 * k, 0.5, 60] for k in range(10)])
  stuck = _trainable(model=COARSE, stuck_evaluations=3)
  source = pairs.MelodyBatches(
      corpus_dir=str(tmp_path / 'mute'), batch_size=3, eval_batches_count=1)
  with pytest.raises(gates.Tripped) as caught:
    loop.train(stuck, source, str(tmp_path / 'run'), 20, log_every=1,
               eval_every=2, checkpoint_every=20)
  message = str(caught.value)
  assert 'step 6' in message and 'for 3 evaluations' in message
  assert 'stuck at the margin' in message and 'learning rate' in message
  event, = json.loads(
      (tmp_path / 'run' / 'run.json').read_text())['events']
  assert event['gate'] == 'triplet_margin'


def test_the_gate_stands_where_equal_embeddings_are():
  gate, = _trainable().gates()
  rows = lambda share: [{'share_of_margin': share}] * 5
  assert gate.tripped(rows(1.0)) and not gate.tripped(rows(0.97))
  assert not gate.tripped(rows(1.0)[:4])
  assert not _trainable(stuck_evaluations=0).gates()


SCRIPT = '''
import json
import jax, numpy as np
import test_melody_trainer as t
from musiclm_jax.training import mesh as mesh_lib

batch = t._batch(8)
trained = t._trainable(model=t.COARSE)
out = {}
for count in (1, 8):
  mesh = mesh_lib.make_mesh((count, 1), jax.devices()[:count])
  put = mesh_lib.put(batch, mesh_lib.batch_shardings(mesh, batch))
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  update = jax.jit(trained.update)
  losses = []
  for step in range(2):
    state, metrics = update(state, put, jax.random.PRNGKey(step))
    losses.append([float(metrics[n]) for n in (
        'loss', 'negative_distance', 'grad_norm')])
  out[count] = dict(losses=losses, devices=len(
      put['first'].sharding.device_set))
print(json.dumps(out))
'''


@pytest.mark.slow
def test_eight_devices_equal_one():
  """Negatives are of the whole batch; one pair on a device has none alone."""
  env = dict(os.environ, JAX_PLATFORMS='cpu',
             XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT], cwd=pathlib.Path(__file__).parent,
      env=env, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  out = json.loads(done.stdout.splitlines()[-1])
  assert out['1']['devices'] == 1 and out['8']['devices'] == 8
  np.testing.assert_allclose(
      out['8']['losses'], out['1']['losses'], rtol=2e-3, atol=1e-5)
  assert min(loss for loss, _, _ in out['8']['losses']) > 0.0


@pytest.mark.parametrize('size', _SIZES)
def test_the_header_states_the_number_of_parameters(size):
  arguments = configs.load(f'melody_{size}', dict(
      MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')).arguments
  trained, source = arguments['trainable'], arguments['source']
  batch = {name: jax.ShapeDtypeStruct((2, 96_000), jnp.float32)
           for name in ('first', 'second')}
  state = jax.eval_shape(trained.init, jax.random.PRNGKey(0), batch)
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  header = re.search(r'Parameters: ([\d,]+)', configs.resolve(
      f'melody_{size}').read_text())[1]
  assert count == int(header.replace(',', ''))
  assert source.window_seconds == trained.model.melody.window_seconds
  assert count < dict(tiny=1e5, demo=1.2e6, gpu=6e6, base=23e6)[size]
