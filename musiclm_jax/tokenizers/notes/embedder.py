"""Audio -> eight codes for each second: the trained network as a MelodyEmbedder."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import contracts
from musiclm_jax import specs
from musiclm_jax.nn import normalise
from musiclm_jax.tokenizers.notes import model as notes_model

KIND = 'notes'
# Seconds that are heard at once, so that a track of any length takes one program.
_BLOCK_SECONDS = 32
_MARGIN_SECONDS = 2  # of context on either side, more than the network sees


class NotesEmbedder:
  """Pitch classes that lead a melody, as contracts.MelodyEmbedder.

  Attributes:
    config: `NotesConfig`.
    spec: the `MelodySpec`: windows of a second, a code for each eighth of it.
    codebooks: [Q, 13, D] float32; the code of a slot is one value of its 13.
  """

  def __init__(self, config: notes_model.NotesConfig, params: dict[str, Any]):
    self.config = config
    self.spec = config.melody
    slots, classes = self.spec.num_codebooks, notes_model.CLASSES
    # At unit length, as the embeddings of a window whose slots are sure.
    self.codebooks = (np.eye(slots * classes, dtype=np.float32) /
                      np.sqrt(slots)).reshape(slots, classes, -1)
    self._params = jax.tree.map(jnp.asarray, params)
    module = notes_model.Notes(config)
    self._shares = jax.jit(lambda params, audio: jax.nn.softmax(
        module.apply({'params': params}, audio)))

  def embed_windows(self, audio: np.ndarray,
                    stride_seconds: int | None = None) -> np.ndarray:
    """Embeddings of windows of a second.

    Args:
      audio: [B, N] float32, N > 0; the last window is padded with zeros.
      stride_seconds: between windows; a second by default.

    Returns:
      [B, W, D] float32 of unit length: how likely each class is in each slot.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    size = self.config.window_length
    count = -(-audio.shape[1] // size)
    audio = np.pad(audio, ((0, 0), (0, count * size - audio.shape[1])))
    shares = np.stack([self._heard(row, count) for row in audio])
    shares = shares.reshape(len(audio), count, -1)
    return np.asarray(normalise.unit(
        shares[:, ::int(stride_seconds or self.spec.window_stride_seconds)]))

  def _heard(self, row, count):
    """[count * Q, 13] of one signal, block by block with margins."""
    size, slots = self.config.window_length, self.spec.num_codebooks
    margin, block = _MARGIN_SECONDS, _BLOCK_SECONDS
    padded = np.pad(row, (margin * size, (margin + block) * size))
    found = []
    for first in range(0, count, block):
      part = padded[first * size:(first + block + 2 * margin) * size]
      shares = np.asarray(self._shares(self._params, part[None]))[0]
      found.append(shares[margin * slots:(margin + block) * slots])
    return np.concatenate(found)[:count * slots]

  def quantize(self, embeddings: np.ndarray) -> np.ndarray:
    """[..., D] -> [..., Q] int32 codes: the likeliest class of each slot."""
    embeddings = np.asarray(embeddings)
    return embeddings.reshape(
        *embeddings.shape[:-1], self.spec.num_codebooks,
        notes_model.CLASSES).argmax(-1).astype(np.int32)

  def encode(self, audio: np.ndarray,
             stride_seconds: int | None = None) -> np.ndarray:
    """[B, N] -> [B, W * Q] int32 codes, second after second."""
    codes = self.quantize(self.embed_windows(audio, stride_seconds))
    return codes.reshape(len(codes), -1)


def from_component(component: contracts.Component) -> NotesEmbedder:
  """The embedder of a stored component."""
  config = specs.from_dict(notes_model.NotesConfig, component.config)
  return NotesEmbedder(config, component.tree()['params'])
