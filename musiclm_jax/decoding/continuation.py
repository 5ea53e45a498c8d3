"""Sampling as part of somebody else's program, with parameters that it places.

The pipeline holds a trained stage and calls the sampler; a trainer that samples
(T5X) compiles a function of parameters and a batch. This is that function.
"""

from typing import Any

import jax

from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.tokens import layout as layout_lib


def continuation(model: Any, params: Any, tokens: jax.Array, rng: jax.Array,
                 draw: categorical.Draw = categorical.Draw()) -> jax.Array:
  """The whole target after its conditions, drawn.

  Args:
    model: a stages.model.StageModel.
    params: its parameters, traced or not.
    tokens: [B, L] int32 as of `Layout.build`; the target's own are ignored.
    rng: a random key, for all rows together.
    draw: temperature and filters.

  Returns:
    [B, T * Q] int32, the target's tokens.
  """
  sampler = sampler_lib.Sampler(model.with_params(params))
  layout = sampler.layout
  tokens = tokens[:, :layout.length].at[:, layout.target.start:].set(
      layout_lib.PAD_ID)
  decoding = sampler.begin(
      tokens, jax.random.split(rng, len(tokens)), layout.target.start, draw)
  sampler.advance(decoding, layout.length)
  return decoding.tokens[:, layout.target.start:]
