"""What the generators of all codecs share: whole frames in, audio out."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Generator(nn.Module):
  """A codec without its quantizer, of an encoder and a decoder.

  An architecture says which: modules of one field, the configuration.
  """

  encoder_class = None  # [B, T * hop] audio -> [B, T, D]
  decoder_class = None  # [B, T, D] -> [B, T * hop] audio

  config: Any

  def setup(self):
    self.encoder = self.encoder_class(self.config)
    self.decoder = self.decoder_class(self.config)

  def __call__(self, audio: jax.Array) -> jax.Array:
    return self.decode(self.encode(audio))

  def encode(self, audio: jax.Array) -> jax.Array:
    """[B, N] audio -> [B, ceil(N / hop), D]; the last frame is zero-padded."""
    hop = self.config.spec.hop_samples
    return self.encoder(jnp.pad(audio, ((0, 0), (0, -audio.shape[1] % hop))))

  def decode(self, latents: jax.Array) -> jax.Array:
    """[B, T, D] -> [B, T * hop] audio."""
    return self.decoder(latents)
