"""Any `transformers` audio encoder as a semantic tokenizer.

  audio [B, N] at 24 kHz -> the encoder's rate -> output of one block
        -> means of neighbours -> standardised -> nearest of our k-means

Windows of 30 s that do not overlap, each padded at both ends so that N samples
give exactly ceil(N / hop) tokens, as ours do.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokenizers.adapters import hub
from musiclm_jax.tokenizers.adapters import options as options_lib
from musiclm_jax.tokenizers.adapters import waveforms

MODELS = {
    'data2vec-audio': 'Data2VecAudioModel',
    'hubert': 'HubertModel',
    'mert_model': 'HubertModel',
    'unispeech': 'UniSpeechModel',
    'unispeech-sat': 'UniSpeechSatModel',
    'wav2vec2': 'Wav2Vec2Model',
    'wav2vec2-bert': 'Wav2Vec2BertModel',
    'wav2vec2-conformer': 'Wav2Vec2ConformerModel',
    'wavlm': 'WavLMModel',
}
# Switches of MERT that make it another model than HuBERT.
_MERT_SWITCHES = {'feature_extractor_cqt': (False,), 'deepnorm': (False,),
                  'attention_relax': (-1, None)}
_MEL_HOP, _MEL_WINDOW = 160, 400  # fixed in w2v-BERT 2.0's extractor
_WINDOW_SECONDS = 30
_ROWS = 4


class SemanticTokenizer:
  """Features of one block, and the ids of the clusters they fall into.

  Attributes:
    spec: the `SemanticSpec`: the encoder's sample rate and total stride.
    hop_samples: samples at the system's rate that one token stands for.
    centroids: [K, D] float32, in the standardised space; None before `use`.
  """

  spec: specs.SemanticSpec
  hop_samples: int
  centroids: np.ndarray | None

  def __init__(self, options: options_lib.SemanticOptions,
               audio_rate_hz: int = waveforms.RATE_HZ):
    self._audio_rate_hz = audio_rate_hz
    directory = options.directory
    self._kind = hub.model_type(directory, MODELS, '--semantic')
    if self._kind == 'mert_model':
      _check_mert(directory)
    self._model = hub.load(directory, MODELS[self._kind])
    self._extractor = hub.load_processor(directory, _extractor(self._kind))
    self._rate_hz = self._extractor.sampling_rate
    self._hop, self._field = _stride(self._kind, self._model, self._extractor)
    own = waveforms.frame_rate(
        directory, self._rate_hz, self._hop, audio_rate_hz)
    rate = options.rate or own
    if own % rate:
      raise errors.UserError(
          f'--semantic asks for {rate} tokens a second of {directory}, which '
          f'gives {own}; expected a divisor of {own}.')
    self._pool = own // rate
    self.spec = specs.SemanticSpec(
        sample_rate_hz=self._rate_hz, mel_hop_samples=self._hop,
        subsampling=self._pool, codebook_size=options.clusters)
    self.hop_samples = audio_rate_hz // rate
    self.centroids = self._mean = self._std = None
    self._features = None
    self._watch(directory, options.layer)

  def _watch(self, directory, layer):
    """Keeps the output of block `layer`, and drops the blocks above it."""
    blocks = self._model.encoder.layers
    if layer > len(blocks):
      raise errors.UserError(
          f'--semantic asks for layer {layer} of {directory}; expected 1 to '
          f'{len(blocks)}.')
    self._model.encoder.layers = blocks[:layer]

    def keep(module, inputs, output):
      del module, inputs
      self._features = output[0] if isinstance(output, tuple) else output

    blocks[layer - 1].register_forward_hook(keep)

  def use(self, mean: ArrayLike, std: ArrayLike, centroids: ArrayLike) -> None:
    """Sets what `encode` clusters by."""
    self._mean, self._std = np.asarray(mean), np.asarray(std)
    self.centroids = np.asarray(centroids, np.float32)

  def features(self, audio: ArrayLike) -> np.ndarray:
    """[B, N] float32 at 24 kHz -> [B, ceil(N / hop_samples), D] float32."""
    audio = waveforms.check(audio)
    window = _WINDOW_SECONDS * self._audio_rate_hz
    parts = [self._window(audio[:, start:start + window])
             for start in range(0, audio.shape[1], window)]
    return np.concatenate(parts, axis=1)

  def encode(self, audio: ArrayLike, num_samples: ArrayLike | None = None
             ) -> np.ndarray:
    """Ids of audio.

    Args:
      audio: [B, N] float32 at 24 kHz.
      num_samples: [B] the rows' own lengths, which the encoder is given alone,
        because what it makes of padding would change the rest; None: all N.

    Returns:
      [B, ceil(N / hop_samples)] int32, 0 past a row's own ids.
    """
    if self.centroids is None:
      raise ValueError('the k-means is not fitted; call `use` first.')
    if num_samples is None:
      return np.stack([self._nearest(row) for row in self.features(audio)])
    lengths = np.asarray(num_samples)
    made = self.extract(audio, lengths)
    ids = np.zeros(made.shape[:2], np.int32)
    for row, features, length in zip(ids, made, lengths):
      frames = -(-int(length) // self.hop_samples)
      row[:frames] = self._nearest(features[:frames])
    return ids

  def extract(self, audio: ArrayLike, num_samples: ArrayLike) -> np.ndarray:
    """`features` of rows of different lengths, as the k-means wants them.

    Args:
      audio: [B, N] float32 at 24 kHz, padded.
      num_samples: [B] the rows' own lengths.

    Returns:
      [B, ceil(N / hop_samples), D] float32, zeros past a row's own frames.
    """
    audio = np.asarray(audio, np.float32)
    made = [None] * len(audio)
    for length in sorted(set(map(int, num_samples))):
      rows = [i for i, n in enumerate(num_samples) if n == length]
      for row, found in zip(rows, self.features(audio[rows, :length])):
        made[row] = found
    frames = -(-audio.shape[1] // self.hop_samples)
    return np.stack([
        np.pad(x, ((0, frames - len(x)), (0, 0))) for x in made])

  def _window(self, audio):
    """`features` of at most one window."""
    frames = -(-audio.shape[1] // self.hop_samples) * self._pool
    audio = waveforms.resample(audio, self._audio_rate_hz, self._rate_hz)
    # Frame t sees `field` samples around the middle of its own hop.
    left = (self._field - self._hop) // 2
    total = (frames - 1) * self._hop + self._field
    parts = []
    for i in range(0, len(audio), _ROWS):
      inputs = self._inputs(audio[i:i + _ROWS], left, total)
      parts.append(self._forward(inputs))
    made = np.concatenate(parts)
    if made.shape[1] != frames:
      raise ValueError(
          f'the encoder gave {made.shape[1]} frames; expected {frames}.')
    return made.reshape(len(made), frames // self._pool, self._pool, -1).mean(2)

  def _inputs(self, audio, left, total):
    """What the model is called with, from its own feature extractor."""
    pad = ((0, 0), (left, max(0, total - left - audio.shape[1])))
    padded = lambda x: np.pad(x, pad)[:, :total]
    options = dict(sampling_rate=self._rate_hz, return_tensors='np')
    if self._kind == 'wav2vec2-bert':
      made = self._extractor(list(padded(audio)), **options)
      return dict(input_features=made['input_features'])
    # Normalised before padding: zeros at the ends are no part of the music.
    made = self._extractor(list(audio), **options)['input_values']
    return dict(input_values=padded(np.asarray(made, np.float32)))

  def _forward(self, inputs):
    torch = hub.package('torch')
    with torch.inference_mode():
      self._model(**{name: torch.from_numpy(np.asarray(x, np.float32)).to(
          self._model.device) for name, x in inputs.items()})
    found, self._features = self._features, None
    return found.float().cpu().numpy()

  def _nearest(self, features):
    """[T, D] -> [T] int32."""
    x = (features - self._mean) / self._std
    scores = x @ self.centroids.T - 0.5 * np.sum(self.centroids**2, -1)
    return np.argmax(scores, -1).astype(np.int32)


def _extractor(kind):
  return ('SeamlessM4TFeatureExtractor' if kind == 'wav2vec2-bert' else
          'Wav2Vec2FeatureExtractor')


def _stride(kind, model, extractor):
  """(samples between frames, samples that one frame sees)."""
  if kind == 'wav2vec2-bert':
    stride = extractor.stride
    return _MEL_HOP * stride, _MEL_WINDOW + (stride - 1) * _MEL_HOP
  config = model.config
  field = 1
  for i, kernel in enumerate(config.conv_kernel):
    field += (kernel - 1) * math.prod(config.conv_stride[:i])
  return math.prod(config.conv_stride), field


def _check_mert(directory):
  """MERT is HuBERT's architecture unless one of its switches is on."""
  config = hub.read_json(f'{directory}/config.json')
  for name, values in _MERT_SWITCHES.items():
    if config.get(name, values[0]) not in values:
      raise errors.UserError(
          f'{directory} is a MERT with {name} = {config[name]}, whose code is '
          f'not part of transformers; expected one that is HuBERT inside, '
          f'{name} = {values[0]}.')
