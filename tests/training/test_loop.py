"""The loop on linear regression: resume, stop, sharding, refusal."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax.training import health
from musiclm_jax.training import loop
from musiclm_jax.training import metrics_writer


def _train(model_dir, num_steps, trainable=None, source=None, **kwargs):
  kwargs = dict(eval_every=0, checkpoint_every=10, log_every=1) | kwargs
  return loop.train(trainable or toy_trainable.Toy(),
                    source or toy_trainable.ToySource(), str(model_dir),
                    num_steps, **kwargs)


def _assert_same(a, b):
  for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a),
                          jax.tree.leaves(b)):
    np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def _ids(model_dir):
  """The step that each training batch was made for, in order."""
  return [float(r['id']) for r in metrics_writer.read(model_dir, 'train')]


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  """An uninterrupted run of 30 steps."""
  model_dir = tmp_path_factory.mktemp('whole')
  return model_dir, _train(model_dir, 30, eval_every=15)


def test_it_learns_and_writes_what_it_says(whole):
  model_dir, result = whole
  assert (result.step, result.reason) == (30, 'finished')
  rows = metrics_writer.read(model_dir, 'train')
  assert [int(r['step']) for r in rows] == list(range(1, 31))
  assert float(rows[-1]['loss']) < 0.3 * float(rows[0]['loss'])
  assert _ids(model_dir) == list(range(30))
  evals = metrics_writer.read(model_dir, 'eval')
  assert [int(r['step']) for r in evals] == [15, 30]
  assert list((model_dir / 'tensorboard').glob('events.*'))
  assert sorted(os.listdir(model_dir / 'checkpoints')) == ['10', '20', '30']


def test_evaluation_is_the_mean_over_the_batches(whole):
  _, result = whole
  p = jax.device_get(result.state.params)
  losses = [np.mean((b['x'] @ p['w'] + p['b'] - b['y']) ** 2)
            for b in toy_trainable.ToySource().eval_batches()]
  assert result.metrics['loss'] == pytest.approx(np.mean(losses), rel=1e-5)


def test_log_every_averages_the_steps_between(tmp_path, whole):
  _train(tmp_path, 10, log_every=5)
  rows = metrics_writer.read(tmp_path, 'train')
  single = metrics_writer.read(whole[0], 'train')
  for row, part in zip(rows, (single[:5], single[5:10]), strict=True):
    assert float(row['loss']) == pytest.approx(
        np.mean([float(r['loss']) for r in part]), rel=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, whole):
  for num_steps in (7, 10, 23, 30):  # each start resumes the one before
    result = _train(tmp_path, num_steps)
  _assert_same(result.state, whole[1].state)
  assert _ids(tmp_path) == _ids(whole[0])


def test_a_finished_run_returns_at_once(whole):
  began = time.monotonic()
  result = _train(whole[0], 30)
  assert (result.step, result.reason, result.state) == (30, 'finished', None)
  assert result.metrics == pytest.approx(whole[1].metrics)
  assert time.monotonic() - began < 1.0


def _start(model_dir, num_steps=30, sleep=0.1):
  """The same run in a process of its own, slowed down to be hit."""
  code = (
      'import toy_trainable\n'
      'from musiclm_jax.training import loop\n'
      f'loop.train(toy_trainable.Toy(), toy_trainable.ToySource(sleep={sleep}),'
      f'{str(model_dir)!r}, {num_steps}, eval_every=0, checkpoint_every=4, '
      'log_every=1)\n')
  return subprocess.Popen([sys.executable, '-c', code], text=True,
                          stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def _wait_for_step(process, model_dir, step):
  end = time.monotonic() + 600  # a machine may be busy
  while time.monotonic() < end and process.poll() is None:
    rows = metrics_writer.read(model_dir, 'train')
    if rows and int(rows[-1]['step']) >= step:
      return
    time.sleep(0.02)
  raise AssertionError(f'step {step} was not reached: {process.stderr.read()}')


def _kill_and_finish(model_dir, kill_at):
  for step in kill_at:
    process = _start(model_dir)
    _wait_for_step(process, model_dir, step)
    process.send_signal(signal.SIGKILL)
    process.communicate()
  # Kills leave the run unfinished; otherwise this shows nothing.
  latest = _latest(model_dir)
  assert latest is not None and latest < 30
  return _train(model_dir, 30, checkpoint_every=4)


def _latest(model_dir):
  steps = [int(p.name) for p in (model_dir / 'checkpoints').iterdir()
           if p.name.isdigit()]
  return max(steps, default=None)


def test_killed_and_resumed_equals_uninterrupted(tmp_path, whole):
  result = _kill_and_finish(tmp_path, [14])
  _assert_same(result.state, whole[1].state)
  assert _ids(tmp_path) == _ids(whole[0])


@pytest.mark.slow
def test_killed_at_twenty_points_equals_uninterrupted(tmp_path, whole):
  rng = np.random.default_rng(0)
  result = _kill_and_finish(tmp_path, sorted(rng.integers(2, 26, 20)))
  _assert_same(result.state, whole[1].state)
  assert _ids(tmp_path) == _ids(whole[0])


def test_sigterm_leaves_a_checkpoint_and_a_resume_line(tmp_path, whole):
  process = _start(tmp_path)
  _wait_for_step(process, tmp_path, 5)
  process.send_signal(signal.SIGTERM)
  _, stderr = process.communicate(timeout=600)
  assert process.returncode == 0, stderr
  assert 'stopped by SIGTERM at step' in stderr and 'same command' in stderr
  stopped_at = int(metrics_writer.read(tmp_path, 'train')[-1]['step'])
  assert _latest(tmp_path) == stopped_at < 30
  _assert_same(_train(tmp_path, 30).state, whole[1].state)


def test_time_up_stops_with_checkpoint_and_evaluation(tmp_path, whole):
  result = _train(tmp_path, 30, max_minutes=0.0, eval_every=100)
  assert (result.step, result.reason) == (1, 'time')
  assert result.metrics['loss'] > 0
  again = _train(tmp_path, 30, max_minutes=10.0)
  assert again.reason == 'finished'
  _assert_same(again.state, whole[1].state)


def test_nan_stops_and_names_the_last_good_checkpoint(tmp_path):
  with pytest.raises(health.NotFinite) as caught:
    _train(tmp_path, 30, toy_trainable.Toy(nan_at=13), log_every=5,
           recovery=health.Recovery(max_rollbacks=0))
  assert 'nan at step 13' in str(caught.value)
  assert 'checkpoint is step 10' in str(caught.value)
  assert sorted(os.listdir(tmp_path / 'checkpoints')) == ['10']


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
  trainable = toy_trainable.Toy(nan_params_at=10)
  with pytest.raises(health.NotFinite, match='params'):
    _train(tmp_path, 30, trainable, checkpoint_every=11,
           recovery=health.Recovery(max_rollbacks=0))
  assert not os.listdir(tmp_path / 'checkpoints')


def _damage(checkpoint):
  """Cuts every array file of a checkpoint in half."""
  files = [p for p in checkpoint.rglob('d/*') if p.is_file()]
  assert files
  for path in files:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path, whole, capsys):
  _train(tmp_path, 20)
  _damage(tmp_path / 'checkpoints' / '20')
  result = _train(tmp_path, 30)
  assert 'checkpoint 20 is damaged' in capsys.readouterr().err
  _assert_same(result.state, whole[1].state)
  assert (tmp_path / 'damaged' / '20').is_dir()
  assert _ids(tmp_path) == _ids(whole[0])


def test_an_emptied_checkpoint_falls_back_too(tmp_path, whole):
  _train(tmp_path, 20)
  for path in (tmp_path / 'checkpoints' / '20').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  _assert_same(_train(tmp_path, 30).state, whole[1].state)


def test_only_damaged_checkpoints_never_start_over(tmp_path):
  _train(tmp_path, 10)
  _damage(tmp_path / 'checkpoints' / '10')
  with pytest.raises(errors.UserError, match='left as they are') as caught:
    _train(tmp_path, 20)
  assert 'can be read (10: ' in str(caught.value)
  assert 'remove' not in str(caught.value)
  assert (tmp_path / 'checkpoints' / '10').is_dir()
  assert not (tmp_path / 'damaged').exists()


def test_half_written_checkpoints_are_not_picked(tmp_path, whole):
  _train(tmp_path, 10)
  half = tmp_path / 'checkpoints' / '20.orbax-checkpoint-tmp-123'
  (half / 'state').mkdir(parents=True)
  _assert_same(_train(tmp_path, 30).state, whole[1].state)


@dataclasses.dataclass(frozen=True)
class Other(toy_trainable.Toy):
  """Another trainable of the same fields."""


def test_another_trainable_is_refused(tmp_path):
  _train(tmp_path, 2)
  with pytest.raises(errors.UserError, match='another MODEL_DIR'):
    _train(tmp_path, 4, Other())


def test_changed_settings_are_said(tmp_path, capsys):
  _train(tmp_path, 2)
  _train(tmp_path, 4, toy_trainable.Toy(noise=0.2))
  assert 'trainable.noise: 0.1 -> 0.2' in capsys.readouterr().err


def test_other_shapes_are_refused_by_name(tmp_path):
  _train(tmp_path, 2)
  with pytest.raises(errors.UserError, match=r'params/b: \(4,\), expected \(5'):
    _train(tmp_path, 4, toy_trainable.Toy(width=5),
           toy_trainable.ToySource(width=5))


def test_bad_settings_and_directories(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='cannot write'):
    _train(tmp_path / 'file' / 'run', 2)
  with pytest.raises(errors.UserError, match='Mount the bucket'):
    _train('gs://bucket/run', 2)
  with pytest.raises(errors.UserError, match='num_steps'):
    _train(tmp_path, 0)
  with pytest.raises(errors.UserError, match='devices'):
    _train(tmp_path, 2, mesh=(64, 1))


def test_an_exception_of_the_source_reaches_the_caller(tmp_path):
  with pytest.raises(errors.UserError, match='data ended at step 5'):
    _train(tmp_path, 10, source=toy_trainable.ToySource(length=5))
