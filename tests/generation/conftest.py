"""Makes test helpers importable; one tiny bundle with random weights."""

import pathlib
import sys

import pytest

_TESTS = pathlib.Path(__file__).parents[1]
for room in ('stages', 'evaluation', 'generation'):
  sys.path.insert(0, str(_TESTS / room))
import tiny_bundle  # pylint: disable=g-import-not-at-top,wrong-import-position


@pytest.fixture(name='bundle', scope='session')
def _bundle(tmp_path_factory):
  """Every component, melody included."""
  return tiny_bundle.write(tmp_path_factory.mktemp('tiny') / 'bundle')


@pytest.fixture(name='model', scope='session')
def _model(bundle):
  from musiclm_jax.generation import model as model_lib  # pylint: disable=g-import-not-at-top
  return model_lib.Model(bundle)
