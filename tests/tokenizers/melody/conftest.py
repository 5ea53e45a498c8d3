"""A corpus of random tunes, made once."""

import pytest
import tunes


@pytest.fixture(name='corpus', scope='session')
def _corpus(tmp_path_factory):
  return tunes.write(tmp_path_factory.mktemp('melody') / 'corpus')
