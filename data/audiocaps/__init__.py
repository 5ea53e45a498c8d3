"""audiocaps: clips of AudioSet with captions of what sounds in them."""

from musiclm_jax.data.audiocaps.corpus import build

__all__ = ['build']
