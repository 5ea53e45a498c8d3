"""A small test on disk: three systems, four clips of a second."""

import listening_site
import pytest

from musiclm_jax.listening import build
from musiclm_jax.listening import design


@pytest.fixture(name='folders', scope='session')
def _folders(tmp_path_factory):
  """{name: folder} of three systems; captions.csv is beside them."""
  return listening_site.folders(
      tmp_path_factory.mktemp('systems'), ('ours', 'theirs', 'recorded'), 4)


@pytest.fixture(name='make', scope='session')
def _make(folders, tmp_path_factory):
  """Function from options to a new test."""
  captions = next(iter(folders.values())).parent / 'captions.csv'

  def make(**options):
    options = dict(dict(ratings=8, per_rater=6), **options)
    return build.make(tmp_path_factory.mktemp('test') / 'test', folders,
                      captions, design.Options(**options))

  return make


@pytest.fixture(name='test', scope='module')
def _test(make):
  return make()
