"""The melody embedder of a bundle, whichever it is."""

import importlib

from musiclm_jax import contracts

# Kind of a stored component -> the module that makes the embedder of it.
MODULES = {'melody': 'musiclm_jax.tokenizers.melody.embedder',
           'notes': 'musiclm_jax.tokenizers.notes.embedder'}


def from_component(component: contracts.Component) -> contracts.MelodyEmbedder:
  """The embedder of a stored component."""
  return importlib.import_module(MODULES[component.kind]).from_component(
      component)
