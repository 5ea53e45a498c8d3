"""Embedders by name: what distances between sets of sounds are measured in.

  musicnn                our forward of a pip package; MagnaTagATune's tagger
  musicnn_msd            the same network, the Million Song Dataset's tagger
  vggish=PATH            and trill=, clap=, mert=: weights that the user has
  NAME=PATH or PATH      any ONNX, SavedModel or `transformers` model, with an
                         `embedder.json` (model_settings.py)

  [N] at the embedder's rate -> windows [n, W] -> the network, a batch at a time
                             -> [n, D]

Windows of several clips share a batch, so that short clips cost no padding. What
remains after a clip's last whole window is not heard; a clip shorter than one
window is padded with zeros.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
import pathlib
import re
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.listeners import model_settings

DEFAULT = ('musicnn',)
_MUSICNN = {'musicnn': 'MTT_musicnn', 'musicnn_msd': 'MSD_musicnn'}
_LEAST_PEAK = 0.1  # of the official FAD code: quieter clips are not raised to 1
_HOP_TOLERANCE = 0.2  # ours: of what a network that cuts by itself claims


class Embedder:
  """Vectors of sounds.

  Attributes:
    name: what figures call it.
    sample_rate_hz: of the audio that it takes.
    window_samples: that one vector is of.
    hop_samples: from one vector to the next.
    digest: 16 hex digits of the weights.
  """

  def __init__(self, name: str, network: Any, margin_samples: int = 0):
    """An embedder of a `local_models.Network`.

    Args:
      name: what figures call it.
      network: the function of windows, with its settings.
      margin_samples: zeros before the first sample and behind the last.
    """
    self.name, self.digest = name, network.digest
    self.settings: model_settings.Settings = network.settings
    self.sample_rate_hz = self.settings.sample_rate_hz
    self.window_samples = self.settings.window_samples
    self.hop_samples = self.settings.hop_samples
    self._network, self._margin = network, margin_samples

  def about(self) -> dict[str, Any]:
    """All that decides the vectors: weights, rate, window, hop and options."""
    return dict(digest=self.digest, **self.settings.about())

  def embed(self, audio: np.ndarray) -> np.ndarray:
    """[N] float at the embedder's rate -> [n, D] float32, n 1 or more."""
    return next(self.embed_each([audio]))

  def embed_each(self, sounds: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """[n, D] float32 of each [N] sound, in order; read as they are needed.

    Raises:
      UserError: the network gave NaN or infinite numbers, or vectors of another
        hop than its settings say.
    """
    if self.settings.frames == 'model':
      for sound in sounds:
        yield self._by_itself(self._levelled(sound))
      return
    waiting: deque[tuple[int, list]] = deque()  # (windows, parts so far)
    rows: list[np.ndarray] = []
    for sound in sounds:
      windows = self.windows(sound)
      waiting.append((len(windows), []))
      rows.extend(windows)
      while len(rows) >= self._network.batch:
        self._hand_out(rows[:self._network.batch], waiting)
        del rows[:self._network.batch]
      yield from _done(waiting)
    if rows:
      self._hand_out(rows, waiting)
    yield from _done(waiting)

  def windows(self, audio: np.ndarray) -> np.ndarray:
    """[N] -> [n, window_samples] float32, one or more."""
    audio = np.pad(self._levelled(audio), self._margin)
    if len(audio) < self.window_samples:
      audio = np.pad(audio, (0, self.window_samples - len(audio)))
    return np.lib.stride_tricks.sliding_window_view(
        audio, self.window_samples)[::self.hop_samples]

  def _levelled(self, audio):
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not len(audio):
      raise ValueError(f'audio has shape {audio.shape}; expected [N].')
    if self.settings.peak:
      # As it is done there: by the largest sample, not by its magnitude.
      audio = audio / max(_LEAST_PEAK, float(audio.max()))
    return audio

  def _hand_out(self, rows, waiting):
    """Embeds windows, and gives the vectors to the clips that they are of."""
    count, batch = len(rows), self._network.batch
    stacked = np.stack(rows)
    if self._network.fixed and count < batch:
      stacked = np.pad(stacked, ((0, batch - count), (0, 0)))
    made = self._checked(self._network(stacked)[:count])
    for vectors in made:
      parts = next(p for n, p in waiting if len(p) < n)
      parts.append(vectors.mean(0, keepdims=True)
                   if self.settings.pool == 'mean' else vectors)

  def _by_itself(self, audio):
    """Vectors of a network that cuts a clip by itself."""
    short = self.window_samples - len(audio)
    audio = np.pad(audio, (0, max(0, short)))
    made = self._checked(self._network(audio[None]))[0]
    if len(made) > 3:
      hop = (len(audio) - self.window_samples) / (len(made) - 1)
      if abs(hop / self.hop_samples - 1) > _HOP_TOLERANCE:
        raise errors.UserError(
            f'{self.name} gave {len(made)} vectors for {len(audio)} samples, one '
            f'every {hop:.0f}; its settings say hop_samples '
            f'{self.hop_samples}.')
    return made

  def _checked(self, vectors):
    vectors = np.asarray(vectors, np.float32)
    if not np.all(np.isfinite(vectors)):
      raise errors.UserError(
          f'the embedder {self.name} gave numbers that are not finite for a clip '
          f'whose samples are.')
    return vectors


def _done(waiting):
  """Clips at the front whose windows are all embedded."""
  while waiting and len(waiting[0][1]) == waiting[0][0]:
    yield np.concatenate(waiting.popleft()[1])


class _MusicNN:
  """The tagger's penultimate layer as a network of windows."""

  fixed = True

  def __init__(self, model):
    from musiclm_jax.listeners import musicnn  # pylint: disable=g-import-not-at-top
    self._tagger = musicnn.MusicNN.load(model)
    self.batch = musicnn.PATCHES_AT_ONCE
    self.digest = self._tagger.digest
    self.settings = model_settings.Settings(
        sample_rate_hz=musicnn.SAMPLE_RATE_HZ, input='waveform',
        window_samples=musicnn.WINDOW_SAMPLES,
        hop_samples=musicnn.PATCH_SAMPLES)
    self.margin_samples = musicnn.MARGIN_SAMPLES

  def __call__(self, windows):
    return self._tagger.embed_windows(windows)[:, None]


def by_name(text: str) -> Embedder:
  """The embedder that `text` names; the module lists how.

  Args:
    text: a known name, NAME=PATH, or the path of a model.

  Raises:
    UserError: unknown name, no such path, missing packages, or a model that
      does not fit its settings.
  """
  name, given, path = text.partition('=')
  if not given:
    if text in _MUSICNN:
      network = _MusicNN(_MUSICNN[text])
      return Embedder(text, network, network.margin_samples)
    if text in model_settings.PRESETS:
      raise errors.UserError(
          f'the weights of {text} come with no package; download them, and '
          f'write {text}=PATH for their .onnx file or folder.')
    if not pathlib.Path(text).exists():
      raise errors.UserError(
          f'unknown embedder {text!r}; expected {", ".join(_MUSICNN)}, '
          f'{"=PATH, ".join(model_settings.PRESETS)}=PATH, or the path of a '
          f'model.')
    name, path = pathlib.Path(text).stem, text
  from musiclm_jax.listeners import local_models  # pylint: disable=g-import-not-at-top
  name = re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')
  if not name or name in _MUSICNN:
    raise errors.UserError(
        f'{text!r} gives an embedder no name of its own; write NAME=PATH.')
  settings, place = model_settings.read(pathlib.Path(path), name)
  return Embedder(name, local_models.load(place, settings))
