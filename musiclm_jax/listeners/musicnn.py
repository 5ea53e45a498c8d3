"""Pretrained listeners that know nothing of our models: musicnn.

Pons and Serra, "musicnn: pre-trained convolutional neural networks for music
audio tagging" (2019): 16 kHz -> 96 log-mels -> patches of 3 s -> tags.

  [B, N] -> [B * P, 187, 96] -> wide and tall filters, maximum over the bands
         -> three convolutions in time -> maximum and mean over time
         -> 200 (penultimate) -> 50 tags

The weights are those of the pip package `musicnn` (ISC licence), whose own code
needs Keras 2; the forward below is ours and is tested against theirs. Its mels
are cast to float16 before they are multiplied by 10,000, which overflows for
anything but quiet audio; ours stay float32. Its extractor returns the first
patch's penultimate for all patches of a clip; ours returns each.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import hashlib
import importlib.util
import pathlib
from typing import Self

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors

SAMPLE_RATE_HZ = 16_000
_FFT_SIZE = 512
_HOP_SAMPLES = 256
_NUM_MELS = 96
_PATCH_FRAMES = 187  # 3 s less the window, as the extractor rounds it
PATCH_SAMPLES = _PATCH_FRAMES * _HOP_SAMPLES
# What a patch hears, and the zeros around a clip: its frames are centred on
# multiples of the hop.
WINDOW_SAMPLES = PATCH_SAMPLES - _HOP_SAMPLES + _FFT_SIZE
MARGIN_SAMPLES = _FFT_SIZE // 2
_SHORTEST_SAMPLES = 3 * SAMPLE_RATE_HZ
_NORM_EPS = 1e-3  # tf.layers' default
PATCHES_AT_ONCE = 8  # each takes 15 MB between two layers
_PACKAGE = 'musicnn'

MTT_TAGS = (
    'guitar', 'classical', 'slow', 'techno', 'strings', 'drums', 'electronic',
    'rock', 'fast', 'piano', 'ambient', 'beat', 'violin', 'vocal', 'synth',
    'female', 'indian', 'opera', 'male', 'singing', 'vocals', 'no vocals',
    'harpsichord', 'loud', 'quiet', 'flute', 'woman', 'male vocal', 'no vocal',
    'pop', 'soft', 'sitar', 'solo', 'man', 'classic', 'choir', 'voice',
    'new age', 'dance', 'male voice', 'female vocal', 'beats', 'harp', 'cello',
    'no voice', 'weird', 'country', 'metal', 'female voice', 'choral')
MSD_TAGS = (
    'rock', 'pop', 'alternative', 'indie', 'electronic', 'female vocalists',
    'dance', '00s', 'alternative rock', 'jazz', 'beautiful', 'metal',
    'chillout', 'male vocalists', 'classic rock', 'soul', 'indie rock',
    'Mellow', 'electronica', '80s', 'folk', '90s', 'chill', 'instrumental',
    'punk', 'oldies', 'blues', 'hard rock', 'ambient', 'acoustic',
    'experimental', 'female vocalist', 'guitar', 'Hip-Hop', '70s', 'party',
    'country', 'easy listening', 'sexy', 'catchy', 'funk', 'electro',
    'heavy metal', 'Progressive rock', '60s', 'rnb', 'indie pop', 'sad',
    'House', 'happy')
_TAGS = {'MTT_musicnn': MTT_TAGS, 'MSD_musicnn': MSD_TAGS}


class MusicNN:
  """musicnn: 50 tags and a 200-d embedding for every three seconds.

  Attributes:
    tags: the names of the 50 tags, in the order of the probabilities.
  """

  def __init__(self, tags: Sequence[str], weights: Mapping[str, np.ndarray]):
    """A tagger from the checkpoint's arrays; see `load`."""
    self.tags = tuple(tags)
    self._weights = jax.tree.map(jnp.asarray, weights)

  @classmethod
  def load(cls, model: str = 'MTT_musicnn') -> Self:
    """The tagger with the weights of the installed package.

    Args:
      model: 'MTT_musicnn' (MagnaTagATune: instruments, voices, moods) or
        'MSD_musicnn' (Million Song Dataset: genres).

    Raises:
      UserError: unknown model, or the weights or their reader are missing; the
        message says what to install.
    """
    if model not in _TAGS:
      raise errors.choice('musicnn model', model, sorted(_TAGS))
    return cls(_TAGS[model], _read_checkpoint(model))

  @classmethod
  def load_if_there(cls, say: Callable[[str], None], without: str) -> Self | None:
    """The usual tagger, or None where it is not installed.

    Args:
      say: takes the line that says so.
      without: how the line begins.
    """
    try:
      return cls.load()
    except errors.UserError as error:
      say(f'{without}: {error}')
      return None

  def tag(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Probabilities of the tags, averaged over the clip's patches.

    Args:
      audio: [B, N] float in -1..1. Fewer than three seconds are padded with
        zeros; what remains after the last whole patch is not heard, as in the
        package's extractor.
      sample_rate_hz: the rate of `audio`; resampled to 16 kHz on the device.

    Returns:
      [B, 50] float32 in 0..1.
    """
    return self._patches(audio, sample_rate_hz)[0].mean(axis=1)

  def embed(self, audio: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """[B, P, 200] float32, the penultimate layer of each patch; see `tag`."""
    return self._patches(audio, sample_rate_hz)[1]

  def embed_windows(self, windows: np.ndarray) -> np.ndarray:
    """[P, WINDOW_SAMPLES] float at 16 kHz -> [P, 200], as `embed`.

    Windows of a clip begin every PATCH_SAMPLES, the first of them with
    MARGIN_SAMPLES of zeros. P of PATCHES_AT_ONCE keeps to one compiled program.
    """
    mels = _log_mel_windows(np.asarray(windows, np.float32))
    return np.asarray(_forward(self._weights, mels)[1])

  @property
  def digest(self) -> str:
    """16 hex digits of the weights."""
    made = hashlib.sha256()
    for name in sorted(self._weights):
      value = np.asarray(self._weights[name])
      made.update(f'{name}{value.shape}'.encode() + value.tobytes())
    return made.hexdigest()[:16]

  def _patches(self, audio, sample_rate_hz):
    """[B, N] -> ([B, P, 50] probabilities, [B, P, 200] penultimate)."""
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 2:
      raise ValueError(f'audio has shape {audio.shape}; expected [B, N].')
    num_patches = _num_patches(audio.shape[1], sample_rate_hz)
    # The last patch's window ends half a window after its last frame.
    needed = num_patches * PATCH_SAMPLES * sample_rate_hz // SAMPLE_RATE_HZ
    needed += sample_rate_hz // 10
    audio = audio[:, :needed]
    audio = np.pad(audio, ((0, 0), (0, needed - audio.shape[1])))
    rows = max(1, PATCHES_AT_ONCE // num_patches)
    tags, penultimate = [], []
    for start in range(0, len(audio), rows):
      part = audio[start:start + rows]
      missing = rows - len(part)
      part = np.pad(part, ((0, missing), (0, 0)))
      mels = _log_mel_patches(part, sample_rate_hz, num_patches)
      results = [
          _forward(self._weights, mels[i:i + PATCHES_AT_ONCE])
          for i in range(0, len(mels), PATCHES_AT_ONCE)]
      for parts, k in ((tags, 0), (penultimate, 1)):
        whole = np.concatenate([np.asarray(r[k]) for r in results])
        whole = whole.reshape(rows, num_patches, -1)
        parts.append(whole[:rows - missing])
    return np.concatenate(tags), np.concatenate(penultimate)


def _num_patches(num_samples, sample_rate_hz):
  """Whole patches of a clip: 10 s at 16 kHz have 626 frames, three patches."""
  num_samples = -(-num_samples * SAMPLE_RATE_HZ // sample_rate_hz)
  num_samples = max(num_samples, _SHORTEST_SAMPLES)
  return (1 + num_samples // _HOP_SAMPLES) // _PATCH_FRAMES


@functools.partial(jax.jit, static_argnums=(1, 2))
def _log_mel_patches(audio, sample_rate_hz, num_patches):
  """[B, N] -> [B * P, 187, 96], log10(1 + 10000 x) of Slaney mels x of power.

  Frames are centred on multiples of the hop; zeros lie outside the clip.
  """
  audio = audio_lib.resample(audio, sample_rate_hz, SAMPLE_RATE_HZ)
  num_frames = num_patches * _PATCH_FRAMES
  half = _FFT_SIZE // 2
  total = (num_frames - 1) * _HOP_SAMPLES + _FFT_SIZE
  return _log_mel(jnp.pad(audio, ((0, 0), (half, half)))[:, :total])


@jax.jit
def _log_mel_windows(windows):
  """[P, WINDOW_SAMPLES] -> [P, 187, 96]."""
  return _log_mel(windows)


def _log_mel(audio):
  """[B, N] -> [B * P, 187, 96], frames from the first sample on."""
  power = jnp.square(
      audio_lib.stft_magnitude(audio, _FFT_SIZE, _HOP_SAMPLES, _FFT_SIZE))
  mels = jnp.matmul(power, _mel_matrix(), precision=lax.Precision.HIGHEST)
  return jnp.log10(1 + 10_000 * mels).reshape(-1, _PATCH_FRAMES, _NUM_MELS)


@functools.cache
def _mel_matrix():
  """[257, 96] float32: librosa's defaults (Slaney scale, area 1, 0..8 kHz)."""
  import librosa  # pylint: disable=g-import-not-at-top
  return librosa.filters.mel(
      sr=SAMPLE_RATE_HZ, n_fft=_FFT_SIZE,
      n_mels=_NUM_MELS).T.astype(np.float32)


@jax.jit
def _forward(weights, mels):
  """[P, 187, 96] -> ([P, 50] probabilities, [P, 200] penultimate)."""
  x = _norm(weights, 0, mels[..., None])
  padded = jnp.pad(x, ((0, 0), (3, 3), (0, 0), (0, 0)))
  front = [_front(weights, i, padded, 'VALID') for i in (0, 1)]  # timbre
  front += [_front(weights, i, x, 'SAME') for i in (2, 3, 4)]  # rhythm
  front = jnp.concatenate(front, axis=-1)  # [P, 187, 561]

  first = _middle(weights, 5, front)  # [P, 187, 64]
  second = _middle(weights, 6, first) + first
  third = _middle(weights, 7, second) + second
  features = jnp.concatenate([front, first, second, third], axis=-1)

  # Maximum and mean of a feature lie side by side.
  pooled = jnp.stack([features.max(axis=1), features.mean(axis=1)], axis=-1)
  pooled = _norm(weights, 9, pooled.reshape(len(pooled), -1))  # [P, 1506]
  penultimate = _norm(
      weights, 10, jax.nn.relu(_dense(weights, 'dense', pooled)))
  return jax.nn.sigmoid(_dense(weights, 'dense_1', penultimate)), penultimate


def _front(weights, index, x, padding):
  """One kind of filter on the mels; its maximum over the bands."""
  x = jax.nn.relu(_conv(weights, index, x, padding))
  return _norm(weights, index + 1, x).max(axis=2)


def _middle(weights, index, x):
  """A convolution of 7 frames over all features of [P, T, D]."""
  x = jnp.pad(x, ((0, 0), (3, 3), (0, 0)))[..., None]
  x = jax.nn.relu(_conv(weights, index, x, 'VALID'))
  return _norm(weights, index + 1, x)[:, :, 0]


def _conv(weights, index, x, padding):
  name = f'conv2d_{index}' if index else 'conv2d'
  y = lax.conv_general_dilated(
      x, weights[f'{name}/kernel'], (1, 1), padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      precision=lax.Precision.HIGHEST)
  return y + weights[f'{name}/bias']


def _dense(weights, name, x):
  y = jnp.matmul(x, weights[f'{name}/kernel'], precision=lax.Precision.HIGHEST)
  return y + weights[f'{name}/bias']


def _norm(weights, index, x):
  """Batch normalisation by the stored moments."""
  name = f'batch_normalization_{index}' if index else 'batch_normalization'
  scale = weights[f'{name}/gamma'] * lax.rsqrt(
      weights[f'{name}/moving_variance'] + _NORM_EPS)
  return (x - weights[f'{name}/moving_mean']) * scale + weights[f'{name}/beta']


@functools.cache
def _read_checkpoint(model):
  """{name: array} of the package's checkpoint, optimiser state left out."""
  # find_spec, since importing the package fails without its old requirements.
  found = importlib.util.find_spec(_PACKAGE)
  if found is None:
    raise errors.UserError(
        'the music tagger musicnn is not installed; run `pip install '
        '--no-deps musicnn==0.1.0`.')
  try:
    import tensorflow as tf  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise errors.UserError(
        'reading the weights of musicnn needs TensorFlow, which is not '
        'installed; run `pip install "musiclm_jax[train]"`.') from error
  folder = pathlib.Path(found.submodule_search_locations[0]) / model
  # The files are called `.index` and `.data-...`: the prefix ends in a slash,
  # which tf.train.load_checkpoint would take for a folder.
  reader = tf.compat.v1.train.NewCheckpointReader(f'{folder}/')
  return {
      name: reader.get_tensor(name)
      for name in reader.get_variable_to_shape_map()
      if '/Adam' not in name and '/' in name}
