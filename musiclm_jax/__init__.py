"""MusicLM in JAX: text to music, every part trainable."""

__version__ = '0.1.0'
