"""The tunes are read once for all tests of this folder."""

import pytest

from musiclm_jax.data.folk_gm import tunes as tunes_lib


@pytest.fixture(scope='session')
def tunes():
  pytest.importorskip('music21')
  return tunes_lib.load()
