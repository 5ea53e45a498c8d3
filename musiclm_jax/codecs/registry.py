"""The codec architectures: a folder and a line each.

A codec's configuration is a frozen dataclass in the folder's `model.py` with

  kind                      its name here
  spec                      specs.CodecSpec, the token grid
  latent_dim                D, width of what is quantised
  encoder_context_frames    frames back that a frame's latent depends on
  decoder_context_frames    frames back that a frame's samples depend on
  encoder_lookahead         frames ahead that each of the two waits for; in a
  decoder_lookahead         stream its outputs come so much later
  period_frames             a signal may be cut at multiples of this: whatever
                            counts frames begins anew there; 1 where nothing does
  build()                   a generator.Generator: a Flax module with `encode`
                            ([B, N] audio -> [B, ceil(N / hop), D]) and
                            `decode` ([B, T, D] -> [B, T * hop]), of layers that
                            remember their past (nn/streams.py)

Training, files and streams ask for these, never for an architecture; all that is
beyond this folder asks for a contracts.Codec.
"""

import importlib
from typing import Any

from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import specs

ARCHITECTURES = {  # kind -> (module, class of its configuration)
    'soundstream': ('musiclm_jax.codecs.soundstream.model', 'SoundStreamConfig'),
    'framecodec': ('musiclm_jax.codecs.framecodec.model', 'FrameCodecConfig'),
}


def config_class(kind: str, place: str) -> Any:
  """The configuration class of an architecture.

  Args:
    kind: its name.
    place: what names it, for the message.

  Raises:
    UserError: there is no such architecture here.
  """
  if kind not in ARCHITECTURES:
    raise errors.UserError(
        f'{place} has the architecture {kind!r}; known are '
        f'{", ".join(sorted(ARCHITECTURES))}. Export the codec again, or use '
        f'the version of musiclm_jax that made it.')
  module, name = ARCHITECTURES[kind]
  return getattr(importlib.import_module(module), name)


def config_of(component: contracts.Component,
              place: str = "the bundle's codec") -> Any:
  """The configuration that a component was saved with."""
  return specs.from_dict(
      config_class(component.kind, place), component.config)
