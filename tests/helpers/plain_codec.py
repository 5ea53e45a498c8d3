"""A codec of NumPy alone, as a foreign one is: it knows whole signals only.

A frame's samples are the mean of its codes, with half of that of the frame before
and a quarter of that of the frame after it; its codes come from its first sample.
"""

import numpy as np

from musiclm_jax.tokenizers.adapters import streaming


class PlainCodec:
  """Conforms to contracts.Codec."""

  codebooks = None
  causal = True
  encoder_lookahead = 0
  decoder_lookahead = 1

  def __init__(self, spec):
    self.spec = spec

  @property
  def latency_samples(self):
    return 2 * self.spec.hop_samples

  def encode(self, audio):
    frames, hop = self.spec.num_frames(audio.shape[1]), self.spec.hop_samples
    audio = np.pad(audio, ((0, 0), (0, frames * hop - audio.shape[1])))
    marks = np.round(np.abs(audio[:, ::hop]) * 1000).astype(np.int32)
    codes = marks[..., None] + np.arange(self.spec.num_codebooks)
    return (codes % self.spec.codebook_size).astype(np.int32)

  def decode(self, codes):
    levels = np.mean(np.asarray(codes), axis=-1) / self.spec.codebook_size
    levels = np.pad(levels, ((0, 0), (1, 1)))
    mixed = levels[:, 1:-1] + levels[:, :-2] / 2 + levels[:, 2:] / 4
    return np.repeat(mixed, self.spec.hop_samples, axis=1).astype(np.float32)

  def stream_encoder(self, levels=None):
    return streaming.Overlapping(
        lambda audio: self.encode(audio)[..., :levels], 0, 0,
        inputs_per_frame=self.spec.hop_samples)

  def stream_decoder(self):
    return streaming.Overlapping(
        self.decode, 1, 1, outputs_per_frame=self.spec.hop_samples)
