"""audio_folder: any folder of recordings, with captions if there are any."""

from musiclm_jax.data.audio_folder.corpus import build

__all__ = ['build']
