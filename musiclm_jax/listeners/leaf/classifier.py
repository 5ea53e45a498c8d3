"""The trained LEAF classifier as a listener, out of its component."""

import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.listeners.leaf import model as leaf_model
from musiclm_jax.nn import batching

_ROW_COUNTS = (1, 4, 16)  # segments in one call


class LeafClassifier:
  """Tags of clips; a `classifiers.Classifier`.

  Attributes:
    name: what figures call it.
    config: `model.LeafConfig`.
    sample_rate_hz: of the audio that `logits` takes.
    classes: names of the C tags.
    segment_seconds: what is heard at a time.
    digest: 16 hex digits that change with the weights.
  """

  def __init__(self, config: leaf_model.LeafConfig, params: dict[str, Any],
               classes: tuple[str, ...], digest: str = '', name: str = 'leaf'):
    self.name, self.config, self.digest = name, config, digest
    self.classes = tuple(classes)
    self.sample_rate_hz = config.input_rate_hz
    self.segment_seconds = config.segment_seconds
    self._params = jax.tree.map(jnp.asarray, params)
    module = leaf_model.Leaf(config)
    self._apply = jax.jit(
        lambda params, audio: module.apply({'params': params}, audio))

  def logits(self, audio: np.ndarray) -> np.ndarray:
    """[B, N] float at `sample_rate_hz` -> [B, C] float32.

    A clip is heard in segments without overlap, of `segment_seconds`, and the
    mean of their logits is taken (Zeghidour et al.). What is left at the end is
    heard with zeros behind it where it is at least half of one, or all there is.

    Raises:
      ValueError: another shape, or no samples.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    size = round(self.segment_seconds * self.sample_rate_hz)
    count = max(1, (audio.shape[1] + size // 2) // size)
    audio = audio[:, :count * size]
    audio = np.pad(audio, ((0, 0), (0, count * size - audio.shape[1])))
    found = batching.by_batches(
        lambda part: self._apply(self._params, jnp.asarray(part)),
        [audio.reshape(-1, size)], _ROW_COUNTS)
    return found.reshape(len(audio), count, -1).mean(1)


def load(directory: str | pathlib.Path, name: str = 'leaf') -> LeafClassifier:
  """The classifier that `musiclm export` wrote as `directory`.

  Raises:
    UserError: there is none, another component, or a damaged one.
  """
  component = bundle.load_component(directory)
  if component.kind != 'leaf':
    raise errors.UserError(
        f'{directory} holds a component of kind {component.kind}; expected a '
        f'classifier, as `musiclm export leaf_demo` writes it.')
  digest = hashlib.sha256(json.dumps(
      [component.config, component.spec], sort_keys=True).encode())
  for key in sorted(component.weights):
    digest.update(np.ascontiguousarray(component.weights[key]).tobytes())
  return LeafClassifier(
      specs.from_dict(leaf_model.LeafConfig, component.config),
      component.tree()['params'], tuple(component.spec['classes']),
      digest.hexdigest()[:16], name)
