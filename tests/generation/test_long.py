"""The worked examples of the window plans and cache sizes."""

import doctest

import pytest

from musiclm_jax.generation import long
from musiclm_jax.generation import sampler
from musiclm_jax.nn import transformer


@pytest.mark.parametrize('module', [long, sampler, transformer])
def test_doctests(module):
  result = doctest.testmod(module)
  assert result.attempted and not result.failed
