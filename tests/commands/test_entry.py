"""Ends of commands: one line and a code for all that is no bug."""

import errno
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax import audio
from musiclm_jax import audio_stream
from musiclm_jax import bundle
from musiclm_jax import files
from musiclm_jax import process
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.codecs import container
from musiclm_jax.commands import cli
from musiclm_jax.commands import codec
from musiclm_jax.commands import entry
from musiclm_jax.commands import inspect as inspection

ROOT = pathlib.Path(__file__).parents[2]


def ends(capsys, error, debug=False):
  """(exit code, stderr) of a command that raises `error`."""
  with pytest.raises(SystemExit) as stopped:
    with entry.guarded('musiclm', debug):
      raise error
  return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize('error, line', [
    (PermissionError(errno.EACCES, 'Permission denied', 'a/story.yaml'),
     'a/story.yaml: Permission denied.'),
    (OSError(errno.ENOSPC, 'No space left on device', 'a/.x.12-0123ab.tmp.wav'),
     'a/x.wav: No space left on device.'),
    (OSError(errno.ENOSPC, 'No space left on device'),
     'No space left on device.'),
    (RuntimeError('IoError(Os { message: "No space left on device" })'),
     'No space left on device.'),
    (OSError(errno.ENAMETOOLONG, 'File name too long', 'x' * 20),
     'x' * 20 + ': File name too long.'),
    (ModuleNotFoundError("No module named 'orbax'", name='orbax.checkpoint'),
     'this needs orbax, which is not installed; run: pip install '
     '"musiclm_jax[train]".'),
])
def test_what_the_machine_refuses_is_one_line(capsys, error, line):
  assert ends(capsys, error) == (2, f'musiclm: error: {line}\n')
  with pytest.raises(type(error)):  # --debug
    with entry.guarded('musiclm', debug=True):
      raise error


@pytest.mark.parametrize('error', [
    ValueError('a bug'), KeyError('a bug'), OSError('a bug'),
    ModuleNotFoundError("No module named 'musiclm_jax.x'",
                        name='musiclm_jax.x')])
def test_a_bug_keeps_its_traceback(error):
  with pytest.raises(type(error)) as caught:
    with entry.guarded('musiclm'):
      raise error
  assert caught.value is error


def test_every_extra_is_one_of_the_setup():
  setup = (ROOT / 'setup.py').read_text()
  for extra in entry.EXTRAS:
    assert re.search(rf"^    '{extra}': \[", setup, re.MULTILINE), extra


@pytest.mark.parametrize('argv', [
    ['train', 'semantic_tiny'], ['preflight', 'semantic_tiny'],
    ['export', 'semantic_tiny', '--out', 'semantic']])
def test_the_base_install_names_the_extra(tmp_path, argv):
  code = ('import sys\n'
          'from musiclm_jax.commands import cli, entry\n'
          'sys.modules.update(dict.fromkeys(entry.EXTRAS["train"]))\n'
          'cli.main(sys.argv[1:])\n')
  done = subprocess.run(
      [sys.executable, '-c', code, *argv], capture_output=True, text=True,
      check=False, cwd=tmp_path)
  assert done.returncode == 2
  assert re.fullmatch(
      r'musiclm: error: this needs (gin|absl|orbax), which is not installed; '
      r'run: pip install "musiclm_jax\[train\]"\.\n', done.stderr)
  assert not list(tmp_path.iterdir())


def _sink(place):
  with audio_stream.Sink(place / 'a.wav', 24_000) as sink:
    sink.write(np.zeros(50_000))
    sink.finish()


def _corpus(place):
  with records.Writer(place / 'c', 'x', 100) as writer:
    writer.add('train', 'a', np.zeros(50_000))


def _codes(place):
  header = container.Header(4, 24_000, 480, 1024, 0, 250, '00' * 8, '00' * 8)
  with container.Writer(place / 'a.slm', header) as writer:
    writer.write(np.zeros((30_000, 4), np.int32))
    writer.finish(30_000 * 480)


def _array(place):
  writer = codec._ArrayWriter(place / 'a.npy')  # pylint: disable=protected-access
  writer.write(np.zeros((5_000, 12)))
  writer.finish(0)


@pytest.mark.parametrize('write', [
    lambda place: audio.write(place / 'a.wav', np.zeros(50_000), 24_000),
    lambda place: audio.write(place / 'a.flac', np.random.default_rng(0).random(
        50_000), 24_000),
    lambda place: files.write_json(place / 'a.json', ['x'] * 50_000),
    lambda place: bundle.save_component(
        place / 'mulan', 'mulan', {}, specs.JointSpec(), {'w': np.zeros(9999)}),
    _sink, _corpus, _codes, _array])
def test_a_full_disk_leaves_nothing_half_written(capsys, tmp_path, write):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
  try:
    with pytest.raises(SystemExit) as stopped:
      with entry.guarded('musiclm'):
        write(tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  told = capsys.readouterr().err
  assert stopped.value.code == 2 and told.count('\n') == 1
  assert 'File too large' in told or 'could not be written whole' in told
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(tmp_path, number):
  code = ('import signal, sys, time\n'
          'signal.signal(signal.SIGHUP, signal.SIG_DFL)\n'  # nohup ignores it
          'from musiclm_jax import files, records\n'
          'from musiclm_jax.commands import entry\n'
          'with entry.guarded("musiclm"):\n'
          '  with records.Writer(sys.argv[1] + "/c", "x", 100) as corpus:\n'
          '    with files.whole(sys.argv[1] + "/x.wav") as temporary:\n'
          '      temporary.touch()\n'
          '      print("there", flush=True)\n'
          '      time.sleep(60)\n')
  with subprocess.Popen([sys.executable, '-c', code, str(tmp_path)],
                        stdout=subprocess.PIPE, text=True) as running:
    assert running.stdout.readline() == 'there\n'
    assert len(list(tmp_path.iterdir())) == 3  # with the corpus's claim
    running.send_signal(number)
    assert running.wait() == 128 + number
  assert not list(tmp_path.iterdir())


def test_names_that_are_not_utf8_are_shown_escaped(tmp_path):
  done = subprocess.run(
      [sys.executable, '-m', 'musiclm_jax', 'inspect', 'audio',
       os.fsencode(tmp_path) + b'/caf\xe9.wav'], capture_output=True,
      check=False, cwd=ROOT)
  assert done.returncode == 2
  assert done.stderr.decode().endswith('caf\\udce9.wav does not exist.\n')


def test_python_m_is_musiclm():
  done = subprocess.run([sys.executable, '-m', 'musiclm_jax', '--version'],
                        capture_output=True, text=True, check=True, cwd=ROOT)
  assert done.stdout.startswith('musiclm_jax ')


def test_without_a_home_there_is_no_cache(monkeypatch, capsys):
  def none(self):
    raise RuntimeError('Could not determine home directory.')

  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(pathlib.Path, 'expanduser', none)
  assert process.keep_programs() == ''
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', 'joint'])
  assert stopped.value.code == 2
  assert 'there is no home folder to keep' in capsys.readouterr().err


def test_an_unreadable_file_is_one_line(monkeypatch, capsys):
  def refuse(*unused):
    open('/proc/self/mem/x', 'rb')  # pylint: disable=unspecified-encoding,consider-using-with

  monkeypatch.setattr(inspection, 'print_corpus', refuse)
  with pytest.raises(SystemExit) as stopped:
    cli.main(['inspect', 'corpus', 'x'])
  assert stopped.value.code == 2
  assert capsys.readouterr().err == (
      'musiclm: error: /proc/self/mem/x: Not a directory.\n')
