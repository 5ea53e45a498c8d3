"""musiccaps: 5,521 ten-second clips of AudioSet, captioned by musicians."""

from musiclm_jax.data.musiccaps.corpus import build

__all__ = ['build']
