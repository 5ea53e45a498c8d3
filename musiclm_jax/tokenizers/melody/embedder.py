"""Audio -> one embedding for each 4 s -> 24 melody tokens: the frozen ViT."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import contracts
from musiclm_jax import specs
from musiclm_jax.nn import batching
from musiclm_jax.nn import quantize
from musiclm_jax.tokenizers.melody import model as melody_model

_ROW_COUNTS = (1, 3, 16)  # windows in one call


class MelodyEmbedder:
  """The melody embedding of a bundle.

  Attributes:
    config: `MelodyConfig`.
    spec: the `MelodySpec`.
    codebooks: [Q, K, D] float32 of the RVQ.
  """

  def __init__(self, config: melody_model.MelodyConfig, params: dict[str, Any],
               codebooks: np.ndarray):
    self.config = config
    self.spec = config.melody
    self.codebooks = np.asarray(codebooks, np.float32)
    self._params = jax.tree.map(jnp.asarray, params)
    self._rate = config.input_rate_hz
    module = melody_model.Melody(config)
    self._embed = jax.jit(
        lambda params, audio: module.apply({'params': params}, audio))
    self._quantize = jax.jit(quantize.rvq_encode)

  def num_windows(self, num_samples: int,
                  stride_seconds: float | None = None) -> int:
    """Windows in a clip; one shorter than a window is padded to it."""
    stride = stride_seconds or self.spec.window_stride_seconds
    spare = num_samples - self.config.window_samples
    return max(0, spare // int(stride * self._rate)) + 1

  def embed_windows(self, audio: np.ndarray,
                    stride_seconds: float | None = None) -> np.ndarray:
    """Embeddings of 4 s windows, one every 3 s.

    Args:
      audio: [B, N] float32 at 24 kHz, N > 0; zero-padded under 4 s.
      stride_seconds: between windows; the spec's by default.

    Returns:
      [B, W, D] float32, each of unit length; W = floor((seconds - 4) / 3) + 1,
      at least 1. What is left after the last window is not heard.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    size = self.config.window_samples
    stride = int(
        (stride_seconds or self.spec.window_stride_seconds) * self._rate)
    count = self.num_windows(audio.shape[1], stride_seconds)
    audio = np.pad(audio, ((0, 0), (0, max(0, size - audio.shape[1]))))
    windows = np.lib.stride_tricks.sliding_window_view(
        audio, size, axis=1)[:, ::stride][:, :count]
    parts = [batching.by_batches(
        lambda part: self._embed(self._params, jnp.asarray(part)),
        [row], _ROW_COUNTS) for row in windows]
    return np.stack(parts) if parts else np.zeros(
        (0, count, self.spec.embedding_dim), np.float32)

  def quantize(self, embeddings: np.ndarray) -> np.ndarray:
    """[..., D] -> [..., Q] int32 codes, 0..K-1."""
    return np.asarray(self._quantize(
        jnp.asarray(embeddings, jnp.float32), jnp.asarray(self.codebooks)))

  def encode(self, audio: np.ndarray,
             stride_seconds: float | None = None) -> np.ndarray:
    """[B, N] at 24 kHz -> [B, W * Q] int32 codes, window after window.

    10 s give 3 windows of 24 codes, 30 s give 9.
    """
    codes = self.quantize(self.embed_windows(audio, stride_seconds))
    return codes.reshape(len(codes), -1)


def from_component(component: contracts.Component) -> MelodyEmbedder:
  """The embedder of a stored component."""
  config = specs.from_dict(melody_model.MelodyConfig, component.config)
  tree = component.tree()
  return MelodyEmbedder(config, tree['params'], tree['rvq']['codebooks'])
