"""MusicLM in JAX: text to music, every part trainable."""

from __future__ import annotations

import os
import typing

from musiclm_jax import specs
from musiclm_jax.systems.musiclm import streams as musiclm_streams

if typing.TYPE_CHECKING:  # the model brings jax, which `--help` does not wait for
  from musiclm_jax.systems.musiclm import model as model_lib

# Here, because a StageSpec is asked for by the name of a stage wherever gin
# files and bundles are read. Both modules need the standard library only.
specs.register(musiclm_streams.SYSTEM)

__version__ = '0.1.0'


def load(bundle: str | os.PathLike[str] | None = None,
         weights: str | None = None) -> model_lib.Model:
  """The model that makes music: a `systems.musiclm.model.Model`.

    model = musiclm_jax.load()
    audio = model.generate('a lively irish jig on fiddle', seconds=10)
    for chunk in model.stream('a slow air on flute', seconds=60):
      ...

  Args:
    bundle: directory of a bundle; the shipped one by default.
    weights: 'float32', 'bfloat16' or 'int8', what the stages calculate with; as
      they were trained by default.

  Raises:
    UserError: there is no such bundle, or there are no such weights.
  """
  # Imported here, so that what only asks for the version stays light.
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.systems.musiclm import model  # pylint: disable=g-import-not-at-top
  return model.Model(
      bundle_lib.Bundle(bundle or bundle_lib.shipped()), weights)
