"""folk_gm: old dance tunes, arranged, rendered and described."""

from musiclm_jax.data.folk_gm.corpus import build

__all__ = ['build']
