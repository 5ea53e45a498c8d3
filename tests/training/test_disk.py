"""A disk that is full, or goes away, ends a run with one line."""

import errno
import os
import shutil
import subprocess
import sys

import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax.training import checkpoints
from musiclm_jax.training import disk
from musiclm_jax.training import loop


def train(model_dir, num_steps):
  return loop.train(
      toy_trainable.Toy(), toy_trainable.ToySource(), str(model_dir), num_steps,
      eval_every=0, checkpoint_every=10, log_every=1)


def test_a_full_disk_is_one_line_and_keeps_the_checkpoints(
    tmp_path, monkeypatch):
  save = checkpoints.Checkpoints.save

  def full(self, step, *args):
    if step > 10:
      try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      except OSError as error:  # as libraries wrap it
        raise ValueError('writing failed') from error
    save(self, step, *args)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', full)
  with pytest.raises(errors.UserError, match='No space left on device') as e:
    train(tmp_path, 30)
  assert '\n' not in str(e.value) and 'MiB free' in str(e.value)
  monkeypatch.undo()
  assert sorted(os.listdir(tmp_path / 'checkpoints')) == ['10']
  assert train(tmp_path, 30).reason == 'finished'


@pytest.mark.parametrize('error, words', [
    (OSError(errno.EROFS, 'Read-only file system'), 'Read-only'),
    (PermissionError(errno.EACCES, 'Permission denied'), 'Permission'),
    (ValueError('RESOURCE_EXHAUSTED: write: No space left on device'), 'space'),
])
def test_what_a_disk_says_is_found(tmp_path, error, words):
  with pytest.raises(errors.UserError, match=words):
    with disk.explained(tmp_path):
      raise error


def test_other_errors_pass(tmp_path):
  for error in (ValueError('a bug'), errors.UserError('a mistake'),
                FileNotFoundError(errno.ENOENT, 'No such file')):
    with pytest.raises(type(error)) as caught:
      with disk.explained(tmp_path):
        raise error
    assert caught.value is error


SCRIPT = '''
import os, sys, time
import toy_trainable
from musiclm_jax import errors
from musiclm_jax.training import loop
class Filling(toy_trainable.ToySource):
  def batches(self, start_step, share):
    batches = super().batches(start_step, share)
    for step, batch in enumerate(batches, start_step):
      if step == 25:
        while not os.path.isdir(sys.argv[1] + '/run/checkpoints/20'):
          time.sleep(0.05)  # it is written in the background
        with open(sys.argv[1] + '/filler', 'wb', buffering=0) as out:
          try:
            while out.write(bytes(4096)): pass
          except OSError: pass
      yield batch
try:
  loop.train(toy_trainable.Toy(), Filling(sleep=0.02), sys.argv[1] + '/run',
             60, eval_every=0, checkpoint_every=10, log_every=50)
except errors.UserError as error:
  print(error); sys.exit(2)
'''


@pytest.mark.slow
def test_a_disk_that_really_fills_up(tmp_path):
  """On a file system of 4 MiB, in a namespace of its own."""
  place = tmp_path / 'small'
  place.mkdir()
  mount = f'mount -t tmpfs -o size=4m tmpfs {place}'
  can = shutil.which('unshare') and subprocess.run(
      ['unshare', '-rm', 'sh', '-c', mount], check=False,
      capture_output=True).returncode == 0
  if not can:
    pytest.skip('no file system can be mounted here')
  script = tmp_path / 'script.py'
  script.write_text(SCRIPT)
  keep = f'ls {place}/run/checkpoints >{tmp_path}/kept'
  done = subprocess.run(
      ['unshare', '-rm', 'sh', '-c',
       f'{mount} && {sys.executable} {script} {place}; code=$?; {keep}; '
       f'exit $code'], check=False, capture_output=True, text=True, timeout=300)
  assert done.returncode == 2, done.stderr
  assert 'No space left on device' in done.stdout
  assert done.stdout.count('\n') == 1
  kept = (tmp_path / 'kept').read_text().split()
  assert '20' in kept and not [n for n in kept if n.isdigit() and int(n) > 20]
