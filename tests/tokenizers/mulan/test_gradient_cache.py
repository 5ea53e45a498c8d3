"""Micro-batches: the gradient of the whole batch, in a fraction of its memory.

And eight devices as one: plain, in micro-batches, with BatchNorm.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_mulan_model as small

from musiclm_jax import errors
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import trainer
from musiclm_jax.training import gradient_cache
from musiclm_jax.training import optim

_BERT = dataclasses.replace(
    small.TINY, text=mulan_model.TextConfig(
        frozen=False, initialize=False, encoder=dataclasses.replace(
            small._SMALL_BERT, dropout_rate=0.2)))  # pylint: disable=protected-access
_B1 = 0.9


def make(config, microbatch=0):
  return trainer.MulanTrainable(
      config, optim.OptimizerConfig(clip_norm=0.0, b1=_B1),
      microbatch=microbatch)


def batch_of(rows):
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 60, (rows, 9)).astype(np.int32)
  return dict(
      audio=small._tones(rows), text_ids=ids, text_mask=ids > 6,  # pylint: disable=protected-access
      text_features=rng.normal(size=(rows, 384)).astype(np.float32))


def compiled(trained, state, batch):
  return jax.jit(trained.update).lower(
      state, batch, jax.random.key(0)).compile()


def step(update, state, batch, seed):
  """(gradient, metrics): the first moment is (1 - b1) times the gradient."""
  state, metrics = update(state, batch, jax.random.key(seed))
  moment = optax.tree_utils.tree_get(state.opt_state, 'mu')
  grads = jax.tree.map(lambda m: np.asarray(m) / (1 - _B1), moment)
  return np.concatenate([g.ravel() for g in jax.tree.leaves(grads)]), metrics


def test_the_gradient_of_the_whole_batch_in_a_fraction_of_its_memory():
  """SpecAugment and dropout draw by row: the same in every micro-batch."""
  batch = batch_of(24)
  state = jax.jit(make(_BERT).init)(jax.random.PRNGKey(0), batch)
  at_once, in_parts = (
      compiled(make(_BERT, size), state, batch) for size in (0, 2))
  whole, metrics = step(at_once, state, batch, 1)
  cached, same = step(in_parts, state, batch, 1)
  largest = np.abs(whole).max()
  assert np.abs(cached - whole).max() < 1e-5 * largest
  for name, value in metrics.items():
    np.testing.assert_allclose(same[name], value, rtol=1e-5, atol=1e-6)
  other, _ = step(in_parts, state, batch, 2)
  assert np.abs(other - whole).max() > 1e-2 * largest
  # The batch itself is an argument, and not copied.
  needed, all_at_once = (
      update.memory_analysis().temp_size_in_bytes
      for update in (in_parts, at_once))
  assert needed < all_at_once / 6
  assert needed < batch['audio'].nbytes


def test_by_hand():
  """loss = w (sum of x w)^2 over three micro-batches of two rows."""
  x = jnp.arange(1.0, 7.0)
  total = lambda w, y: (w * jnp.sum(y)**2, jnp.sum(y))
  find = gradient_cache.value_and_grad(lambda w, x: x * w, total, 2)
  (value, aux), grad = jax.jit(find)(jnp.float32(2.0), x)
  assert (value, aux) == (2 * 42**2, 42)
  assert grad == 42**2 + 2 * 2 * 42 * 21  # by the factor, and by the sum
  np.testing.assert_array_equal(
      gradient_cache.embed(lambda w, x: x * w, 3.0, x, 3), 3.0 * x)


@pytest.mark.parametrize('microbatch', [3, -2, 16])
def test_a_micro_batch_divides_the_batch(microbatch):
  batch = {'audio': np.zeros((8, 2), np.float32)}
  with pytest.raises(errors.UserError, match='divisor of the batch'):
    gradient_cache.embed(lambda p, b: b['audio'], None, batch, microbatch)


SCRIPT = '''
import json
import jax, numpy as np
import test_gradient_cache as t
from musiclm_jax.nn import partitioning
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib

batch, out = t.batch_of(16), {}
for name, config, microbatch, count in (
    ('plain 1', t.small.TINY, 0, 1), ('cached 8', t.small.TINY, 8, 8),
    ('norm 1', t.small.BATCH_NORM, 0, 1), ('norm 8', t.small.BATCH_NORM, 0, 8)):
  trained = t.make(config, microbatch)
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
  mesh = mesh_lib.make_mesh((count, 1), jax.devices()[:count])
  with step_lib.context(mesh, partitioning.RULES):
    put = mesh_lib.put(batch, mesh_lib.batch_shardings(mesh, batch))
    update = t.compiled(trained, state, put)
    after, metrics = update(state, put, jax.random.key(0))
  averages = jax.tree.leaves(getattr(after, 'averages', {}))
  out[name] = dict(
      values=[float(metrics[n]) for n in ('loss', 'grad_norm')] + [
          float(np.square(a).sum()) for a in averages],
      rows=[n for n in (1, 8) if f'f32[{n},240000]' in update.as_text()],
      devices=len(put['audio'].sharding.device_set))
print(json.dumps(out))
'''


@pytest.fixture(scope='module')
def devices():
  # NPROC: threads for every device; with two of them devices that wait for
  # each other can wait for ever.
  env = dict(os.environ, JAX_PLATFORMS='cpu', NPROC='32',
             XLA_FLAGS='--xla_force_host_platform_device_count=8')
  done = subprocess.run(
      [sys.executable, '-c', SCRIPT], cwd=pathlib.Path(__file__).parent,
      env=env, capture_output=True, text=True, timeout=600, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize('one, eight', [
    ('plain 1', 'cached 8'), ('norm 1', 'norm 8')])
def test_eight_devices_equal_one(devices, one, eight):
  """Two rows on a device; negatives, or statistics, of all sixteen."""
  one, eight = devices[one], devices[eight]
  assert one['devices'] == 1 and eight['devices'] == 8
  np.testing.assert_allclose(
      eight['values'], one['values'], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_batch_norm_keeps_averages(devices):
  norms = 1 + 2 * 2 + 1  # stem, two blocks, one skip
  assert len(devices['norm 1']['values']) == 2 + 2 * norms
  assert len(devices['plain 1']['values']) == 2


@pytest.mark.slow
def test_a_micro_batch_is_spread_over_the_devices(devices):
  """Of eight rows every device embeds one, and none of them all."""
  assert devices['cached 8']['rows'] == [1]
