"""The spectra that the auxiliary task names; a constant-Q one as a product.

  signal -> frames as long as the longest window -> [window, 2 x bins] -> size

Bin k is the sum of the signal times a Hann window of Q periods of its frequency
times exp(-2 pi i f_k t) (Brown, 1991). Low bins have long windows, high ones
short ones, all centred on the same moment. Frames are few (25 a second), so the
product costs less than any trick that avoids it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import audio

_POWER = 0.3
_SILENCE = 1e-6


@dataclasses.dataclass(frozen=True)
class ConstantQSpec:
  """Which bins, how often.

  Attributes:
    sample_rate_hz: of the signal.
    hop_samples: from one frame to the next.
    low_hz: of the first bin; C2.
    bins_per_octave: 12 are semitones.
    num_bins: from `low_hz` upwards.
  """

  sample_rate_hz: int = 16_000
  hop_samples: int = 640  # a semantic token
  low_hz: float = 65.406  # ours: the folk tunes' basses
  bins_per_octave: int = 12  # MERT
  num_bins: int = 72  # ours: C2 to B7

  @property
  def quality(self) -> float:
    """Q: periods in a window, so that a bin just ends where the next begins."""
    return 1.0 / (2.0**(1.0 / self.bins_per_octave) - 1.0)

  def frequencies(self) -> np.ndarray:
    """[num_bins] Hz."""
    return self.low_hz * 2.0**(
        np.arange(self.num_bins) / self.bins_per_octave)


@functools.cache
def kernel(spec: ConstantQSpec) -> np.ndarray:
  """[window, 2 x bins] float32: real parts, then imaginary ones.

  A sine of amplitude 1 at a bin's frequency has size 1 there.
  """
  hop = spec.hop_samples
  longest = spec.quality * spec.sample_rate_hz / spec.low_hz
  size = -(-int(np.ceil(longest)) // hop) * hop
  seconds = (np.arange(size) - (size - 1) / 2) / spec.sample_rate_hz
  columns = []
  for frequency in spec.frequencies():
    inside = seconds * frequency / spec.quality  # -1/2 .. 1/2
    window = np.where(np.abs(inside) < 0.5, 0.5 + 0.5 * np.cos(
        2 * np.pi * inside), 0.0)
    columns.append(2 * window / window.sum() * np.exp(
        -2j * np.pi * frequency * seconds))
  columns = np.stack(columns, axis=-1)
  return np.concatenate(
      [columns.real, columns.imag], axis=-1).astype(np.float32)


def magnitudes(signal: jax.Array, spec: ConstantQSpec) -> jax.Array:
  """[B, N] -> [B, ceil(N / hop), bins]: the size of each bin.

  Frame t is centred on the middle of the samples that token t stands for.
  """
  matrix = kernel(spec)
  size, hop = len(matrix), spec.hop_samples
  frames = -(-signal.shape[-1] // hop)
  left = (size - hop) // 2
  right = (frames - 1) * hop + size - left - signal.shape[-1]
  signal = jnp.pad(signal, ((0, 0), (left, right)))
  parts = audio.frame(signal, size, hop) @ matrix
  real, imaginary = jnp.split(parts, 2, axis=-1)
  return jnp.sqrt(jnp.square(real) + jnp.square(imaginary))


def targets(signal: jax.Array, spec: ConstantQSpec, mel_spec: audio.MelSpec,
            num_samples: jax.Array | None = None) -> jax.Array:
  """What the auxiliary task asks for: constant-Q bins, then mel bands.

  Sizes are compressed by a power (ours), averaged over a token and divided by
  their mean in the row: a clip that is played softly looks like the same clip
  played loudly. With a logarithm instead, most of the distance between two
  frames is noise that nobody hears.

  Args:
    signal: [B, N] float32 at both specs' rate.
    spec: a ConstantQSpec.
    mel_spec: an audio.MelSpec; its hop divides that of `spec`.
    num_samples: [B] samples of audio in each row, zeros follow; None: all.

  Returns:
    [B, ceil(N / hop), bins + mels] float32 of mean 1 in both parts, 0 in
    silence.
  """
  bins = jnp.maximum(magnitudes(signal, spec), _SILENCE)**_POWER
  bands = jnp.exp(0.5 * audio.log_mel(signal, mel_spec))
  frames, each = bins.shape[1], spec.hop_samples // mel_spec.hop_samples
  bands = jnp.pad(bands, (
      (0, 0), (0, frames * each - bands.shape[1]), (0, 0)), mode='edge')
  bands = bands.reshape(len(bands), frames, each, -1).mean(axis=2)
  if num_samples is None:
    num_samples = jnp.full(len(signal), signal.shape[-1])
  valid = jnp.arange(frames) * spec.hop_samples < num_samples[:, None]
  quietest = _SILENCE**_POWER, mel_spec.floor**0.5
  return jnp.concatenate([
      _relative(x, low, valid[..., None])
      for x, low in zip((bins, bands), quietest)], axis=-1)


def _relative(sizes, low, valid):
  """[B, T, D] over the mean of each row's valid frames, 0 beyond them."""
  sizes = jnp.where(valid, sizes - low, 0.0)
  count = valid.sum(axis=1, keepdims=True) * sizes.shape[-1]
  mean = sizes.sum(axis=(1, 2), keepdims=True) / jnp.maximum(count, 1)
  return sizes / (mean + low)
