"""Equalities that must hold as users compile, not only as this suite does.

conftest.py has XLA leave most of its optimisations out. Fused sums are added in
another order, so what is equal here could differ there; a few tests of that
kind run once more in a process with the usual ones.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
_AGAIN = (
    # A stream in chunks equals the whole.
    'codecs/test_streaming.py::test_chunks_equal_the_whole',
    # Decoding with a cache equals teacher forcing.
    'decoding/test_sampler.py::test_cached_equals_teacher_forced')


def test_equalities_hold_with_the_usual_optimisations():
  # conftest.py sets these where they are not set.
  env = dict(os.environ, JAX_DISABLE_MOST_OPTIMIZATIONS='0', XLA_FLAGS='')
  done = subprocess.run(
      [sys.executable, '-m', 'pytest', '-q', '-n', '0', '-p',
       'no:cacheprovider', *(str(HERE / test) for test in _AGAIN)],
      env=env, cwd=HERE.parent, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout[-3000:]
  assert 'skipped' not in done.stdout
