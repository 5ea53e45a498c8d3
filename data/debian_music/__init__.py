"""debian_music: recordings inside Debian packages, split by package."""

from musiclm_jax.data.debian_music.corpus import build

__all__ = ['build']
