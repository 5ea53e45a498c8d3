"""What a checkpoint's files, cut, changed, gone or refused, come to."""

import errno
import logging
import os
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import two_checkpoints

from musiclm_jax import errors
from musiclm_jax.training import checkpoints
from musiclm_jax.training import damage

# Arrays of this many values are kept in files of their own, as a model's are;
# small ones stand beside their descriptions (test_checkpoints.py).
_VALUES = 20_000


@pytest.fixture(name='written', scope='module')
def _written(tmp_path_factory):
  return two_checkpoints.write(tmp_path_factory.mktemp('run'), _VALUES)


@pytest.fixture(name='run')
def _run(written, tmp_path):
  shutil.copytree(written, tmp_path / 'run')
  return tmp_path / 'run'


def restore(run, said):
  return two_checkpoints.restore(run, _VALUES, said)


def file_of(run, name):
  """A file of the newest checkpoint; 'array' and 'tree' by what they hold."""
  base = run / 'checkpoints' / '2'
  if name == 'tree':
    path, = (base / 'state/d').iterdir()
    return path
  if name == 'array':
    files = [p for p in (base / 'state/ocdbt.process_0/d').iterdir()]
    return max(files, key=lambda p: p.stat().st_size)
  return base / name


def cut(path):
  os.truncate(path, path.stat().st_size // 2)


def empty(path):
  os.truncate(path, 0)


def zero(path):
  path.write_bytes(bytes(path.stat().st_size))


def flip_the_start(path):
  data = bytearray(path.read_bytes())
  data[0] ^= 0xff
  path.write_bytes(bytes(data))


def remove(path):
  path.unlink()


@pytest.mark.parametrize('name, harm, what', [
    ('array', cut, 'array w cut short'), ('array', empty, 'array w cut short'),
    ('array', zero, 'array w changed'),
    ('array', flip_the_start, 'array w changed'),
    ('array', remove, 'array w cut short'),
    ('tree', zero, ' changed'), ('tree', empty, ' cut short'),
    ('tree', remove, ' missing'),
    ('state/manifest.ocdbt', zero, 'state/manifest.ocdbt changed'),
    ('state/manifest.ocdbt', remove, 'array w missing'),
    ('state/_METADATA', zero, 'Expecting value'),
    ('data/metadata', flip_the_start, "'utf-8' codec can't decode"),
    ('data/metadata', remove, 'data/metadata missing')])
def test_damage_is_named_and_the_one_before_is_restored(run, name, harm, what):
  harm(file_of(run, name))
  said = []
  step, state, _ = restore(run, said)
  assert step == 1
  np.testing.assert_array_equal(state['w'], two_checkpoints.values(1, _VALUES))
  line, = said
  assert line.startswith('checkpoint 2 is damaged (') and what in line


@pytest.mark.parametrize('name', [
    'array', 'tree', 'state/manifest.ocdbt', 'data/metadata'])
def test_what_the_system_refuses_is_no_damage(run, name):
  """A link to itself: a real refusal, which no right of the reader overrides."""
  path = file_of(run, name)
  path.unlink()
  path.symlink_to(path)
  reason = os.strerror(errno.ELOOP)
  before = sorted(run.rglob('*'))
  said = []
  with pytest.raises(errors.UserError, match='cannot be read now') as caught:
    restore(run, said)
  assert f'({reason})' in str(caught.value) and not said
  assert '\n' not in str(caught.value)
  assert sorted(run.rglob('*')) == before  # nothing was moved


def _of_array(text):
  """As Orbax wraps what TensorStore says of an array."""
  error = Exception('Encountered error while reading array index: (). See')
  error.__cause__ = ValueError(text)
  return error


@pytest.mark.parametrize('text, reason', [
    # As TensorStore says EIO, ESTALE, EACCES and a time-out of the network.
    ('UNKNOWN: Error reading "w/0" in OCDBT database at local file "/r/": '
     'Failed to open: "/r/d/9": Input/output error [os_error_code=\'5\']',
     'Input/output error'),
    ('ABORTED: Error reading from open file /r/d/9: Failed to read from file: '
     'Failed to read 11 bytes from file at offset 0: Stale file handle '
     "[tensorstore_spec='x'] [os_error_code='116']", 'Stale file handle'),
    ('NOT_FOUND: Failed to open: "/r/d/9": No such device or address '
     "[os_error_code='6']", 'No such device or address'),
    ('DATA_LOSS: Failed to open: "/r/d/9": Connection timed out '
     "[os_error_code='110']", 'Connection timed out')])
@pytest.mark.parametrize('wrap', [ValueError, _of_array])
def test_an_error_of_the_system_wins_over_its_code(run, text, reason, wrap):
  path = run / 'checkpoints' / '2'
  assert damage.judge(path, wrap(text)) == ('', reason)


def test_an_array_is_judged_by_what_its_error_came_from(run):
  path = run / 'checkpoints' / '2'
  assert damage.judge(path, _of_array(
      'FAILED_PRECONDITION: Error reading "w/0.1" in OCDBT database at local '
      f'file "{path}/state/": ZSTD_decompressStream() failed: Unknown frame '
      'descriptor; at byte 0')) == ('array w changed', '')
  # Raised on the way, but not the cause.
  error = MemoryError()
  error.__context__ = ValueError('DATA_LOSS: checksum')
  assert damage.judge(path, error) == ('', '')


def test_a_checkpoint_that_vanished_is_not_damaged(tmp_path):
  damaged, trouble = damage.judge(
      tmp_path / 'gone', FileNotFoundError('File x not found.'))
  assert not damaged and trouble == os.strerror(errno.ENOENT)


@pytest.fixture(name='heard')
def _heard():
  """What reaches a handler of absl's logger."""
  heard, logger = [], logging.getLogger('absl')
  handler = logging.Handler()
  handler.emit = lambda record: heard.append(record.getMessage())
  level = logger.level
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  yield heard
  logger.removeHandler(handler)
  logger.setLevel(level)


def _say(path, text):
  """Logs as a line of the file at `path` would."""
  logger = logging.getLogger('absl')
  logger.handle(logger.makeRecord(
      'absl', logging.ERROR, str(path), 1, text, (), None))


def test_orbax_alone_is_silenced_and_only_meanwhile(tmp_path, heard):
  orbax = pathlib.Path(ocp.__file__).parent / 'somewhere.py'
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, {'w': jnp.zeros(3)}, {})
    saved.wait()
    _say(orbax, 'a file was written')
    _say(tmp_path / 'another.py', 'trouble elsewhere')
    assert heard == ['trouble elsewhere']
  _say(orbax, 'after')
  assert heard[-1] == 'after'


def test_silence_ends_where_nothing_can_be_opened(
    tmp_path, heard, monkeypatch):
  def refuse(*unused, **unused_too):
    raise OSError('no answer')
  monkeypatch.setattr(ocp, 'CheckpointManager', refuse)
  with pytest.raises(OSError, match='no answer'):
    with checkpoints.Checkpoints(tmp_path):
      pass
  _say(pathlib.Path(ocp.__file__).parent / 'x.py', 'after')
  assert heard == ['after']
