"""audioset_labels: AudioSet's clips with the names of its classes."""

from musiclm_jax.data.audioset_labels.corpus import build

__all__ = ['build']
