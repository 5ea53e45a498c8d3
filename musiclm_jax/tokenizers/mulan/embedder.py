"""Audio or text -> one embedding -> 12 MuLan tokens: the frozen towers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import contracts
from musiclm_jax import specs
from musiclm_jax.nn import batching
from musiclm_jax.nn import normalise
from musiclm_jax.nn import quantize
from musiclm_jax.nn import text_encoder
from musiclm_jax.tokenizers.mulan import model as mulan_model

# Windows in one call: one 10 s clip, a 16 s block, the 21 of a 30 s clip.
_WINDOW_COUNTS = (1, 7, 21)
_ROW_COUNTS = {1: (1, 16), 7: (1, 4), 21: (1, 2)}


class JointEmbedder:
  """The joint embedding of a bundle.

  `averages` are BatchNorm's, if any; `text_map` and `text_shift` move text
  embeddings towards audio (rvq.py).

  Attributes:
    config: `MulanConfig`.
    spec: the `JointSpec`.
    codebooks: [Q, K, D] float32 of the RVQ.
  """

  def __init__(self, config: mulan_model.MulanConfig, params: dict[str, Any],
               codebooks: np.ndarray, text_shift: np.ndarray,
               averages: dict[str, Any] | None = None,
               text_map: np.ndarray | None = None):
    self.config = config
    self.spec = config.joint
    self.codebooks = np.asarray(codebooks)
    self._variables = jax.tree.map(jnp.asarray, dict(
        # Inference has no use for the temperature, and stored models lack it.
        params=dict(dict(raw_temperature=0.0), **params),
        batch_stats=averages or {}))
    self._shift = np.asarray(text_shift)
    self._map = None if text_map is None else np.asarray(text_map)
    self._rate = config.input_rate_hz
    module = mulan_model.Mulan(config)
    self._windows = jax.jit(
        lambda variables, audio, count: module.apply(
            variables, audio, count, method='embed_windows'),
        static_argnums=2)
    self._text = jax.jit(lambda variables, features: module.apply(
        variables, features, method='embed_text_features'))
    self._text_ids = jax.jit(lambda variables, ids, mask: module.apply(
        variables, ids, mask, method='embed_text_ids'))
    self._quantize = jax.jit(quantize.rvq_encode)
    self._tokenizer = None

  def embed_audio_windows(self, audio: np.ndarray) -> np.ndarray:
    """Embeddings of 10 s windows, one every second.

    Args:
      audio: [B, N] float32 at 24 kHz, N > 0; zero-padded under 10 s.

    Returns:
      [B, W, D] float32, each of unit length; W = max(1, floor(seconds) - 9).
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    total = self.spec.num_windows(audio.shape[1] / self._rate)
    parts, done = [], 0
    while done < total:
      left = total - done
      count = batching.size_for(left, _WINDOW_COUNTS)
      parts.append(self._block(audio, done, count)[:, :left])
      done += count
    return np.concatenate(parts, axis=1)

  def _block(self, audio, first, count):
    """[B, count, D]: windows `first` .. `first + count - 1`, zeros past N."""
    stride = self.spec.window_stride_seconds * self._rate
    start = first * stride
    size = self.spec.window_seconds * self._rate + (count - 1) * stride
    block = audio[:, start:start + size]
    block = np.pad(block, ((0, 0), (0, size - block.shape[1])))
    rows = batching.size_for(len(block), _ROW_COUNTS[count])
    return batching.by_batches(
        lambda part: self._windows(self._variables, jnp.asarray(part), count),
        [block], [rows])

  def embed_audio(self, audio: np.ndarray) -> np.ndarray:
    """[B, N] at 24 kHz -> [B, D]: the mean over windows, at unit length."""
    return np.asarray(
        normalise.unit(self.embed_audio_windows(audio).mean(1)))

  def embed_text(self, texts: Sequence[str]) -> np.ndarray:
    """List of strings -> [len(texts), D] at unit length."""
    text = self.config.text
    if text.frozen:
      encoder = text_encoder.load(text.checkpoint, text.encoder.pooling)
      return self.embed_text_features(encoder(list(texts)))
    if self._tokenizer is None:
      self._tokenizer = text_encoder.Tokenizer(
          text_encoder.directory(text.checkpoint), text.max_tokens)
    parts = []
    for i in range(0, len(texts), 64):
      ids, mask = self._tokenizer.batch(texts[i:i + 64], text.max_tokens)
      parts.append(np.asarray(self._text_ids(self._variables, ids, mask)))
    return moved(np.concatenate(parts), self._shift, self._map)

  def embed_text_features(self, features: np.ndarray) -> np.ndarray:
    """[B, F] features of the frozen text encoder -> [B, D]."""
    return moved(np.asarray(self._text(self._variables, features)),
                 self._shift, self._map)

  def quantize(self, embeddings: np.ndarray) -> np.ndarray:
    """[B, D] -> [B, Q] int32 codes, 0..K-1."""
    return np.asarray(self._quantize(
        jnp.asarray(embeddings, jnp.float32), jnp.asarray(self.codebooks)))


def moved(embeddings: np.ndarray, shift: np.ndarray,
          matrix: np.ndarray | None = None) -> np.ndarray:
  """Text embeddings [n, D] moved towards audio, at unit length again.

  Args:
    embeddings: [n, D].
    shift: [D], added.
    matrix: None or [D, D], by which they are multiplied before.
  """
  if matrix is not None:
    embeddings = embeddings @ matrix
  elif not np.any(shift):
    return embeddings
  return np.asarray(normalise.unit(embeddings + shift))


def from_component(component: contracts.Component) -> JointEmbedder:
  """The embedder of a stored component."""
  config = specs.from_dict(mulan_model.MulanConfig, component.config)
  tree = component.tree()
  return JointEmbedder(config, tree['params'], tree['rvq']['codebooks'],
                       tree['rvq']['text_shift'], tree.get('averages'),
                       tree['rvq'].get('text_map'))
