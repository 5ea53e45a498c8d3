"""Audio -> semantic tokens, 25 a second: frozen w2v-BERT and its k-means."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import contracts
from musiclm_jax.nn import batching
from musiclm_jax.nn import lloyd
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model

_WINDOW_SECONDS = 30  # ours: the longest context, and the semantic crop
_TAIL_SECONDS = (2, 10, _WINDOW_SECONDS)  # lengths that get compiled
_ROW_COUNTS = (1, 4, 8)


def inference_params(params: dict[str, Any],
                     config: w2vbert_model.W2vBertConfig) -> dict[str, Any]:
  """The parameters that `W2vBert.features` reads, out of all."""
  kept = ['encoder', 'input']
  kept += [f'contrastive_{i}' for i in range(config.contrastive_blocks)]
  kept += [f'prediction_{i}' for i in range(config.feature_block)]
  return {name: params[name] for name in kept}


class FeatureExtractor:
  """([B, N] audio at 24 kHz, [B] samples) -> [B, ceil(N / 960), D], jitted.

  Two of one config share what is compiled.
  """

  def __init__(self, config: w2vbert_model.W2vBertConfig,
               params: dict[str, Any]):
    self.config = config
    self.params = params

  def __call__(self, audio: np.ndarray, num_samples: np.ndarray) -> jax.Array:
    return _features(self.config, self.params, jnp.asarray(audio),
                     jnp.asarray(num_samples))


class SemanticTokenizer:
  """The semantic tokenizer of a bundle.

  Audio is encoded in windows of 30 s that do not overlap; a shorter rest is
  padded to one of few lengths and masked, which changes no token.

  Attributes:
    spec: the `SemanticSpec`.
    centroids: [K, D] float32, in the standardised space.
    hop_samples: samples at the system's rate that one token stands for.
  """

  def __init__(self, config: w2vbert_model.W2vBertConfig,
               params: dict[str, Any], mean: np.ndarray, std: np.ndarray,
               centroids: np.ndarray):
    self.config = config
    self.spec = config.semantic_spec()
    self.centroids = np.asarray(centroids)
    self._rate = config.input_rate_hz
    self.hop_samples = self._rate // self.spec.frame_rate_hz
    self._extract = FeatureExtractor(config, params)
    self._weights = dict(params=params, mean=mean, std=std, centroids=centroids)

  def encode(self, audio: np.ndarray,
             num_samples: np.ndarray | None = None) -> np.ndarray:
    """Semantic tokens.

    Args:
      audio: [B, N] float32 at 24 kHz, N > 0.
      num_samples: [B] samples of audio in each row; what is beyond changes no
        token before it. None: all N.

    Returns:
      [B, ceil(N / 960)] int32, 0..K-1; past a row's audio they say nothing.
    """
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2 or not audio.shape[1]:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N > 0.')
    batch, total = audio.shape
    lengths = np.full(batch, total) if num_samples is None else (
        np.asarray(num_samples))
    window = _WINDOW_SECONDS * self._rate
    num_full = total // window
    parts = []
    if num_full:
      full = audio[:, :num_full * window].reshape(batch * num_full, window)
      inside = np.clip(
          lengths[:, None] - window * np.arange(num_full), 1, window)
      parts.append(self._encode_rows(
          full, window, inside.reshape(-1)).reshape(batch, -1))
    rest = audio[:, num_full * window:]
    if rest.shape[1]:
      padded = next(s * self._rate for s in _TAIL_SECONDS
                    if s * self._rate >= rest.shape[1])
      parts.append(self._encode_rows(rest, padded, np.clip(
          lengths - num_full * window, 1, rest.shape[1])))
    return np.concatenate(parts, axis=1)

  def features(self, audio: np.ndarray) -> np.ndarray:
    """What the tokens are clusters of, before it is standardised.

    Args:
      audio: [B, N] float32 at 24 kHz, N > 0, 30 s at most.

    Returns:
      [B, ceil(N / 960), D] float32.
    """
    audio = np.asarray(audio, np.float32)
    longest = _WINDOW_SECONDS * self._rate
    if audio.ndim != 2 or not 0 < audio.shape[1] <= longest:
      raise ValueError(
          f'audio has shape {audio.shape}; expected [B, N] with N from 1 to '
          f'{longest}.')
    return np.asarray(self._extract(
        audio, np.full(len(audio), audio.shape[1], np.int32)))

  def quantize(self, features: np.ndarray) -> np.ndarray:
    """Features [..., D] of `features` -> tokens [...] int32."""
    return np.asarray(_nearest(self._weights, jnp.asarray(features)))

  def _encode_rows(self, audio, padded_samples, lengths):
    """[R, n] -> [R, ceil(n / hop)] through batches of few shapes.

    `lengths` [R] are the samples of audio in each row, at least 1.
    """
    rows, num_samples = audio.shape
    padded = ((0, 0), (0, padded_samples - num_samples))
    tokens = batching.by_batches(
        lambda part, lengths: _tokens(
            self.config, self._weights, jnp.asarray(np.pad(part, padded)),
            jnp.asarray(lengths, jnp.int32)),
        [audio, lengths], [batching.size_for(rows, _ROW_COUNTS)])
    return tokens[:, :-(-num_samples // self.hop_samples)]


@functools.partial(jax.jit, static_argnums=0)
def _features(config, params, audio, num_samples):
  return w2vbert_model.W2vBert(config).apply(
      {'params': params}, audio, num_samples, method='features')


@functools.partial(jax.jit, static_argnums=0)
def _tokens(config, weights, audio, num_samples):
  return _nearest(
      weights, _features(config, weights['params'], audio, num_samples))


@jax.jit
def _nearest(weights, features):
  """Features -> ids of the nearest standardised centroid."""
  features = (features - weights['mean']) / weights['std']
  return lloyd.nearest(features, weights['centroids'])


def from_component(component: contracts.Component) -> SemanticTokenizer:
  """The tokenizer of a stored component."""
  config = w2vbert_model.W2vBertConfig(**component.config)
  tree = jax.tree.map(jnp.asarray, component.tree())
  fitted = tree['kmeans']
  return SemanticTokenizer(config, tree['params'], fitted['mean'],
                           fitted['std'], fitted['centroids'])
