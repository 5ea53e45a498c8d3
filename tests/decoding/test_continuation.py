"""Sampling inside another program draws what the sampler draws."""

import functools

import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import continuation
from musiclm_jax.decoding import sampler


@pytest.mark.parametrize('name, temperature', [
    ('semantic', 1.0), ('fine', 0.0),
    pytest.param('semantic', 0.0, marks=pytest.mark.slow),
    pytest.param('fine', 1.0, marks=pytest.mark.slow)])
def test_it_draws_what_the_sampler_draws(name, temperature):
  trained = tiny_stage.trained(name)
  layout, draw = trained.layout, categorical.Draw(temperature)
  tokens = layout.build(tiny_stage.codes(layout))
  rng = jax.random.PRNGKey(3)
  inside = jax.jit(functools.partial(
      continuation.continuation, trained.model, draw=draw))
  found = np.asarray(inside(trained.params, tokens, rng))
  low, high = (bound[layout.target.start:] for bound in layout.legal_ranges())
  assert np.all((found >= low) & (found < high))
  free = tokens.copy()
  free[:, layout.target.start:] = 0
  expected = sampler.Sampler(trained).sample(
      free, jax.random.split(rng, len(tokens)), layout.target.start, draw=draw)
  np.testing.assert_array_equal(found, expected[:, layout.target.start:])
  # What stands in the target does not matter.
  np.testing.assert_array_equal(found, inside(trained.params, free, rng))
