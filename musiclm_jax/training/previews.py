"""What a trainable shows at evaluation: sounds and pictures for TensorBoard."""

from collections.abc import Sequence
import dataclasses

import numpy as np

# Colours of rising level: dark blue, violet, orange, light yellow.
_COLOURS = np.array([
    [4, 6, 32], [92, 24, 118], [236, 104, 54], [252, 250, 190]], np.float32)


@dataclasses.dataclass(frozen=True)
class Audio:
  """A sound: `samples` [N] float in -1..1."""

  samples: np.ndarray
  sample_rate_hz: int


@dataclasses.dataclass(frozen=True)
class Image:
  """A picture: `pixels` [H, W, 3] uint8."""

  pixels: np.ndarray


def panels(spectrograms: Sequence[np.ndarray], span: float = 8.0) -> Image:
  """An `Image` of spectrograms one under the other, low frequencies below.

  Args:
    spectrograms: list of [T, M] log magnitudes. They share one scale of
      colours: from `span` under the highest value of the first one up to it.
    span: natural logarithms; 8 are some 70 dB.
  """
  spectrograms = [np.asarray(s, np.float32) for s in spectrograms]
  high = float(spectrograms[0].max())
  gap = np.full((4, len(spectrograms[0])), np.nan, np.float32)
  rows = []
  for spectrogram in spectrograms:
    rows += [spectrogram.T[::-1], gap]
  level = np.concatenate(rows[:-1])
  position = np.clip((level - (high - span)) / span, 0.0, 1.0) * (
      len(_COLOURS) - 1)
  scale = np.arange(len(_COLOURS))
  pixels = np.stack([
      np.interp(np.nan_to_num(position), scale, _COLOURS[:, c])
      for c in range(3)], axis=-1)
  pixels[np.isnan(level)] = 255.0
  return Image(np.round(pixels).astype(np.uint8))
