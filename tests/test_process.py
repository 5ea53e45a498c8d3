"""What commands ask of their process: tried in processes of their own."""

import os
import resource
import subprocess
import sys
import textwrap

import pytest

from musiclm_jax import process

FOLDER = 'JAX_COMPILATION_CACHE_DIR'


def run(code, **variables):
  environment = {k: v for k, v in os.environ.items() if not k.startswith(
      ('JAX_', 'XDG_'))}
  return subprocess.run(
      [sys.executable, '-c', textwrap.dedent(code)], check=True,
      capture_output=True, text=True, env=environment | variables).stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
@pytest.mark.parametrize('keep', [True, False])
def test_freed_memory_is_taken_again(keep):
  # 64 MiB, written twice: the second time no page is mapped anew.
  found = int(run(f'''
      import ctypes, resource
      from musiclm_jax import process
      if {keep} and not process.keep_memory():
        print(-1)
        raise SystemExit
      libc = ctypes.CDLL(None)
      libc.malloc.restype = ctypes.c_void_p
      libc.free.argtypes = [ctypes.c_void_p]
      def fill():
        piece = libc.malloc(ctypes.c_size_t(1 << 26))
        ctypes.memset(piece, 1, 1 << 26)
        libc.free(piece)
      fill()
      faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
      before = faults()
      fill()
      print(faults() - before)'''))
  if found < 0:
    pytest.skip('no mallopt here')
  pages = (1 << 26) // resource.getpagesize()
  assert found < pages / 100 if keep else found > 0


@pytest.mark.parametrize('early', ['', 'import jax'])
def test_programs_are_kept_in_the_users_cache(tmp_path, early):
  code = f'''
      {early}
      from musiclm_jax import process
      print(process.keep_programs())
      import jax
      jax.jit(lambda x: jax.numpy.linalg.svd(x @ x.T))(jax.numpy.ones((8, 8)))
      print(jax.config.jax_compilation_cache_dir)'''
  folder = tmp_path / 'musiclm_jax' / 'programs'
  assert run(code, XDG_CACHE_HOME=str(tmp_path),
             JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0').split() == [
                 str(folder)] * 2
  assert list(folder.glob('jit_*'))


def test_a_folder_that_was_named_is_used(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  for named in (str(tmp_path), ''):
    monkeypatch.setenv(FOLDER, named)
    assert process.keep_programs() == named
  assert not (tmp_path / 'cache').exists()


def test_nowhere_to_keep_programs(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  monkeypatch.delenv(FOLDER, raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  assert process.keep_programs() == ''
  assert FOLDER not in os.environ


def test_beside_an_accelerator_memory_goes_back(monkeypatch):
  monkeypatch.setattr(process, '_ACCELERATORS', ('null',))  # there everywhere
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  assert not process.keep_memory()
