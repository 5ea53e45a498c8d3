"""fma: the Free Music Archive, small, medium, large or full."""

from musiclm_jax.data.fma.corpus import build

__all__ = ['build']
