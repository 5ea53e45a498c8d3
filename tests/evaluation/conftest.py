"""One random bundle and one evaluation of it, for the whole folder."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import random_bundle  # pylint: disable=g-import-not-at-top,wrong-import-position


@pytest.fixture(name='folder', scope='session')
def _folder(tmp_path_factory):
  """A directory with `bundle` and `corpus`."""
  folder = tmp_path_factory.mktemp('random')
  random_bundle.write(folder / 'bundle')
  random_bundle.write_corpus(folder / 'corpus')
  return folder
