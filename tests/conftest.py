"""For all tests, and for the programs that they start."""

import os
import pathlib

import pytest

# Programs that tests start find tests/helpers as the tests do (pyproject.toml).
_HELPERS = str(pathlib.Path(__file__).parent / 'helpers')
os.environ['PYTHONPATH'] = os.pathsep.join(
    filter(None, [_HELPERS, os.environ.get('PYTHONPATH')]))
# Much of the suite is compiling: tiny programs run once need no tuning.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
# XLA:CPU's older emitters compile such programs sooner; tests that start
# processes with devices of their own have the usual ones, and XLA_FLAGS= gives
# them to all.
os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
# Commands keep programs in the user's cache folder: not those of tests.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')
# Where a folder is given, small programs are worth keeping too: many tests
# compile the same ones.
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


@pytest.fixture(name='bundle', scope='session')
def _bundle(tmp_path_factory):
  """Every component with random weights, melody included."""
  import tiny_bundle  # pylint: disable=g-import-not-at-top
  return tiny_bundle.write(tmp_path_factory.mktemp('tiny') / 'bundle')


@pytest.fixture(name='model', scope='session')
def _model(bundle):
  from musiclm_jax.systems.musiclm import model  # pylint: disable=g-import-not-at-top
  return model.Model(bundle)
