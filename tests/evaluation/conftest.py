"""One random bundle and one evaluation of it, for the whole folder."""

import pytest
import random_bundle


@pytest.fixture(name='folder', scope='session')
def _folder(tmp_path_factory):
  """A directory with `bundle` and `corpus`."""
  folder = tmp_path_factory.mktemp('random')
  random_bundle.write(folder / 'bundle')
  random_bundle.write_corpus(folder / 'corpus')
  return folder
