"""A tiny w2v-BERT and something for it to hear."""

import numpy as np

from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model

TINY = w2vbert_model.W2vBertConfig(
    conv_channels=(4, 4), dim=16, num_heads=2, mlp_dim=32, position='rotary',
    contrastive_blocks=1, prediction_blocks=2, feature_block=1,
    codebook_size=32, codebook_dim=16, num_clusters=16, dropout_rate=0.0)


def play(batch, seconds, seed=0):
  """Chords that change every 0.3 s: something to tell apart."""
  rng = np.random.default_rng(seed)
  count = int(np.ceil(seconds / 0.3))
  notes = rng.integers(40, 80, (batch, count, 2))
  hz = np.repeat(440.0 * 2.0**((notes - 69) / 12), 7200, axis=1)
  phase = 2 * np.pi * np.cumsum(hz[:, :int(seconds * 24_000)], 1) / 24_000
  return (0.2 * np.sin(phase).sum(-1)).astype(np.float32)
