"""Files: whole or not at all, one writer at a time, nothing else removed."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from musiclm_jax import errors
from musiclm_jax import files


def test_two_runs_with_one_output_do_not_share_a_file(tmp_path):
  path = tmp_path / 'a.wav'
  with files.whole(path) as first, files.whole(path) as second:
    assert first != second and first.suffix == second.suffix == '.wav'
    first.write_text('first')
    second.write_text('second')
    assert not path.exists()
  assert path.read_text() == 'first'  # the one that ended last
  assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('old')
  with pytest.raises(RuntimeError):
    with files.whole(path) as temporary:
      temporary.write_text('half')
      raise RuntimeError('stop')
  assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_a_long_name_has_a_temporary_one(tmp_path):
  path = tmp_path / ('é' * 124 + '.flac')  # 253 bytes of 255
  with files.whole(path) as temporary:
    temporary.write_text('x')
  assert path.read_text() == 'x'


def test_a_folder_never_takes_the_place_of_another(tmp_path):
  with pytest.raises(errors.UserError, match='came to be in the meantime'):
    with files.whole_folder(tmp_path / 'out') as made:
      (made / 'a').touch()
      (tmp_path / 'out').mkdir()
  assert [p.name for p in tmp_path.rglob('*')] == ['out']


def test_a_replaced_folder_loses_its_own_files_alone(tmp_path):
  folder = tmp_path / 'mulan'
  folder.mkdir()
  (folder / 'config.json').write_text('old')
  with pytest.raises(RuntimeError):
    with files.replaced_folder(folder, ('config.json',)):
      raise RuntimeError('stop')
  assert (folder / 'config.json').read_text() == 'old'
  with files.replaced_folder(folder, ('config.json',)) as made:
    (made / 'config.json').write_text('new')
    (folder / 'notes.txt').write_text('mine')
  assert (folder / 'config.json').read_text() == 'new'
  assert [p.read_text() for p in tmp_path.rglob('notes.txt')] == ['mine']


def test_the_second_run_is_told_in_one_line(tmp_path):
  with files.claimed(tmp_path / 'run', 'MODEL_DIR') as holds:
    assert holds
    with pytest.raises(errors.UserError) as told:
      with files.claimed(tmp_path / 'run', 'MODEL_DIR'):
        pass
    assert str(told.value).startswith(
        f'another run writes to MODEL_DIR {tmp_path / "run"} '
        f'(process {os.getpid()} of ')
    with files.claimed(tmp_path / 'other', 'MODEL_DIR') as holds:
      assert holds
  with files.claimed(tmp_path / 'a' / 'b' / 'c', beside=True):
    assert (tmp_path / 'a' / 'b').is_dir()
  assert not list(tmp_path.iterdir()), 'the claim left something'


def test_another_process_is_kept_out_until_the_holder_is_gone(tmp_path):
  code = ('import os, sys; from musiclm_jax import files\n'
          f'with files.claimed({str(tmp_path)!r}):\n'
          '  print("mine", flush=True); sys.stdin.read(); os._exit(1)')
  with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == 'mine\n'
    with pytest.raises(errors.UserError, match=f'process {other.pid} of'):
      with files.claimed(tmp_path):
        pass
    other.stdin.close()
    other.wait()
  with files.claimed(tmp_path) as holds:  # its file is there; its lock is not
    assert holds


def test_without_locks_there_are_no_claims(tmp_path, monkeypatch):
  def refuse(*unused):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refuse)
  with files.claimed(tmp_path) as first, files.claimed(tmp_path) as second:
    assert not first and not second


def test_sweep_takes_what_killed_runs_left_and_nothing_else(tmp_path):
  left = files.temporary(tmp_path / 'out')
  left.mkdir()
  (left / 'a.pcm').touch()
  kept = [files.temporary(tmp_path / 'other'), tmp_path / 'out',
          tmp_path / '.out.tmp', tmp_path / 'out.partial']
  for path in kept:
    path.mkdir()
  files.sweep(tmp_path / 'out')
  assert sorted(tmp_path.iterdir()) == sorted(kept)
