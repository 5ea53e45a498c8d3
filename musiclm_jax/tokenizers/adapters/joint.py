"""CLAP as a joint embedder: its two towers, and an RVQ fitted by us."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokenizers.adapters import hub
from musiclm_jax.tokenizers.adapters import options as options_lib
from musiclm_jax.tokenizers.adapters import waveforms

MODELS = {'clap': 'ClapModel'}
_ROWS = 8  # windows in one call
_TEXTS = 64


class JointEmbedder:
  """A `transformers` CLAP of a local directory.

  Attributes:
    spec: the `JointSpec`; the dimension is that of the projections.
    codebooks: [Q, K, D] float32; None before `use`.
  """

  spec: specs.JointSpec
  codebooks: np.ndarray | None

  def __init__(self, options: options_lib.JointOptions,
               audio_rate_hz: int = waveforms.RATE_HZ):
    self._audio_rate_hz = audio_rate_hz
    directory = options.directory
    hub.model_type(directory, MODELS, '--joint')
    self._model = hub.load(directory, MODELS['clap'])
    self._extractor = hub.load_processor(directory, 'ClapFeatureExtractor')
    self._tokenizer = None
    self._directory = directory
    window = self._extractor.max_length_s
    if int(window) != window:
      raise errors.UserError(
          f'{directory} hears windows of {window} s; expected whole seconds.')
    self._rate_hz = self._extractor.sampling_rate
    self.spec = specs.JointSpec(
        sample_rate_hz=self._rate_hz,
        embedding_dim=self._model.config.projection_dim,
        num_codebooks=options.codebooks, codebook_size=options.entries,
        window_seconds=int(window))
    self.codebooks = self._shift = None

  def use(self, codebooks: ArrayLike, text_shift: ArrayLike) -> None:
    """Sets the RVQ [Q, K, D], and the [D] that is added to text embeddings."""
    self.codebooks = np.asarray(codebooks, np.float32)
    self._shift = np.asarray(text_shift, np.float32)

  def embed_audio_windows(self, audio: ArrayLike) -> np.ndarray:
    """[B, N] float32 at 24 kHz -> [B, W, D], each of unit length."""
    audio = waveforms.check(audio)
    count = self.spec.num_windows(audio.shape[1] / self._audio_rate_hz)
    audio = waveforms.resample(audio, self._audio_rate_hz, self._rate_hz)
    size = self.spec.window_seconds * self._rate_hz
    stride = self.spec.window_stride_seconds * self._rate_hz
    short = size + (count - 1) * stride - audio.shape[1]
    audio = np.pad(audio, ((0, 0), (0, max(0, short))))
    windows = [row[w * stride:w * stride + size]
               for row in audio for w in range(count)]
    made = np.concatenate([self._audio(windows[i:i + _ROWS])
                           for i in range(0, len(windows), _ROWS)])
    return made.reshape(len(audio), count, -1)

  def embed_audio(self, audio: ArrayLike) -> np.ndarray:
    """[B, N] -> [B, D]: the mean over windows, at unit length."""
    return unit(self.embed_audio_windows(audio).mean(1))

  def embed_text(self, texts: Sequence[str]) -> np.ndarray:
    """List of strings -> [len(texts), D] at unit length."""
    if self._tokenizer is None:
      self._tokenizer = hub.load_processor(self._directory, 'AutoTokenizer')
    parts = [np.zeros((0, self.spec.embedding_dim), np.float32)]
    parts += [self._text(list(texts[i:i + _TEXTS]))
              for i in range(0, len(texts), _TEXTS)]
    made = np.concatenate(parts)
    return made if self._shift is None else unit(made + self._shift)

  def quantize(self, embeddings: ArrayLike) -> np.ndarray:
    """[B, D] -> [B, Q] int32 codes."""
    if self.codebooks is None:
      raise ValueError('the RVQ is not fitted; call `use` first.')
    from musiclm_jax.nn import quantize  # pylint: disable=g-import-not-at-top
    return np.asarray(quantize.rvq_encode(
        np.asarray(embeddings, np.float32), self.codebooks))

  def _audio(self, windows):
    """List of [n] windows at the model's rate -> [len, D]."""
    torch = hub.package('torch')
    made = self._extractor(
        windows, sampling_rate=self._rate_hz, return_tensors='np')
    features = torch.from_numpy(np.asarray(made['input_features'], np.float32))
    # `is_longer` tells CLAP which clips were cut down to its window. None of
    # ours were, as all windows have that length; the extractor's own answer is
    # not used because it marks one clip at random where none is longer.
    longer = torch.zeros((len(windows), 1), dtype=torch.bool)
    device = self._model.device
    with torch.inference_mode():
      found = self._model.get_audio_features(
          input_features=features.to(device), is_longer=longer.to(device))
    return _embedding(found)

  def _text(self, texts):
    torch = hub.package('torch')
    # RoBERTa numbers its tokens from 2, because position 1 is that of padding
    # and 0 is unused: so many fewer fit than it has positions.
    longest = self._model.config.text_config.max_position_embeddings - 2
    tokens = self._tokenizer(
        texts, padding=True, truncation=True, max_length=longest,
        return_tensors='pt')
    with torch.inference_mode():
      found = self._model.get_text_features(
          input_ids=tokens['input_ids'].to(self._model.device),
          attention_mask=tokens['attention_mask'].to(self._model.device))
    return _embedding(found)


def unit(vectors: np.ndarray) -> np.ndarray:
  """[..., D] -> the same at unit length."""
  length = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.maximum(length, 1e-12)


def _embedding(found):
  """[B, D] at unit length, of what a tower returned.

  transformers 5 returns an object with `pooler_output`; before, the array alone.
  """
  return unit(getattr(found, 'pooler_output', found).float().cpu().numpy())
