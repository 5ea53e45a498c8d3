"""Checkpoints that cannot be restored: which of them are damaged."""

import errno
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import two_checkpoints

from musiclm_jax import errors
from musiclm_jax.training import checkpoints

_VALUES = 300


@pytest.fixture(name='written', scope='module')
def _written(tmp_path_factory):
  return two_checkpoints.write(tmp_path_factory.mktemp('run'), _VALUES)


@pytest.fixture(name='run')
def _run(written, tmp_path):
  shutil.copytree(written, tmp_path / 'run')
  return tmp_path / 'run'


def restore(run, said=None):
  return two_checkpoints.restore(run, _VALUES, [] if said is None else said)


def state_file(run):
  """The one file that the arrays are read from."""
  path, = (run / 'checkpoints/2/state/d').iterdir()
  return path


def cut(path):
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def change(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xff
  path.write_bytes(bytes(data))


def test_the_newest_is_restored(run):
  step, state, data = restore(run)
  assert step == 2 and data == {'step': 2}
  np.testing.assert_array_equal(
      state['w'], np.random.default_rng(2).normal(size=300).astype('float32'))


def remove(path):
  path.unlink()


# Orbax does without _METADATA where the state is nested dicts alone.
@pytest.mark.parametrize('name, harm', [
    (name, harm) for name in (
        '', 'state/manifest.ocdbt', 'state/_METADATA', 'data/metadata')
    for harm in (cut, change, remove)
    if (name, harm) != ('state/_METADATA', remove)])
def test_a_file_that_is_cut_changed_or_gone_is_damage(run, name, harm):
  harm(run / 'checkpoints/2' / name if name else state_file(run))
  said = []
  step, state, _ = restore(run, said)
  assert step == 1
  np.testing.assert_array_equal(
      state['w'], np.random.default_rng(1).normal(size=300).astype('float32'))
  assert len(said) == 1 and said[0].startswith('checkpoint 2 is damaged (')


@pytest.mark.parametrize('harm, word', [
    (cut, 'cut short'), (change, 'changed'), (remove, 'missing')])
def test_the_file_is_named(run, harm, word):
  name = f'state/d/{state_file(run).name}'
  harm(state_file(run))
  said = []
  restore(run, said)
  assert said == [
      f'checkpoint 2 is damaged ({name} {word}); trying the one before it.']


@pytest.mark.parametrize('name', ['state', 'data'])
def test_half_a_checkpoint_is_damage(run, name):
  shutil.rmtree(run / 'checkpoints/2' / name)
  assert restore(run)[0] == 1


def fail_with(monkeypatch, error):
  def restored(*_, **__):
    raise error
  monkeypatch.setattr(
      checkpoints.ocp.CheckpointManager, 'restore', restored)


@pytest.mark.parametrize('error, reason', [
    (OSError(errno.EIO, 'Input/output error'), 'Input/output error'),
    (PermissionError(errno.EACCES, 'Permission denied'), 'Permission denied'),
    (OSError(errno.EMFILE, 'Too many open files'), 'Too many open files'),
    (ValueError('PERMISSION_DENIED: Error opening "zarr" driver'),
     'PERMISSION_DENIED'),
    (ValueError('UNAVAILABLE: no answer'), 'UNAVAILABLE: no answer')])
def test_what_cannot_be_read_now_is_not_damage(
    run, monkeypatch, error, reason):
  fail_with(monkeypatch, error)
  said = []
  with pytest.raises(errors.UserError, match='cannot be read now') as caught:
    restore(run, said)
  assert reason in str(caught.value) and 'checkpoint 2 of' in str(caught.value)
  assert '\n' not in str(caught.value) and not said
  assert sorted(p.name for p in (run / 'checkpoints').iterdir()) == ['1', '2']


@pytest.mark.parametrize('error', [
    MemoryError(), RuntimeError('RESOURCE_EXHAUSTED: out of memory'),
    TypeError('a bug'), ValueError('another bug')])
def test_what_says_nothing_about_files_is_passed_on(run, monkeypatch, error):
  fail_with(monkeypatch, error)
  said = []
  with pytest.raises(type(error)) as caught:
    restore(run, said)
  assert caught.value is error and not said


@pytest.mark.parametrize('kind', [KeyboardInterrupt, SystemExit])
def test_a_signal_at_the_end_leaves_no_writer_behind(
    tmp_path, monkeypatch, capsys, kind):
  """Orbax's threads would lose their executors with the process."""
  manager = checkpoints.ocp.CheckpointManager
  waited, wait = [], manager.wait_until_finished

  def interrupted(self):
    waited.append(1)
    if len(waited) == 1:
      raise kind
    wait(self)

  with pytest.raises(kind):
    with checkpoints.Checkpoints(tmp_path) as saved:
      saved.save(1, {'w': jnp.ones(9)}, dict(step=1))
      monkeypatch.setattr(manager, 'wait_until_finished', interrupted)
  assert len(waited) > 1 and (tmp_path / 'checkpoints/1/state').is_dir()
  assert 'once more to leave it' in capsys.readouterr().err
