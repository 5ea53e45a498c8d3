"""Can one hear where windows join? Joins against every other moment.

Two jumps are measured at each join and, in the same way, at moments every 5 ms
that are not near one:

  click     the largest second difference of the samples within 1 ms, over the
            usual one within 20 ms: a step or a spike in the waveform
  spectral  the mean difference of the log-mel spectra of the 50 ms before and
            the 50 ms after: another sound begins

A join's rank is the share of the other moments that jump at least as much. If
joins are like any other moment, ranks are uniform in 0..1.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

_STEP_SECONDS = 0.005
_NEAR_SECONDS = 0.06  # other moments keep this distance from joins
_PEAK_SECONDS, _AROUND_SECONDS, _SIDE_SECONDS = 0.001, 0.02, 0.05
_MELS = 40
_AT_ONCE = 4096  # moments


@dataclasses.dataclass(frozen=True)
class Seams:
  """What stands out at joins.

  Attributes:
    seconds: [J] where the joins are.
    click_ranks: [J] share of other moments with as large a click; small ones
      stand out.
    spectral_ranks: [J] the same of the spectral jump.
  """

  seconds: np.ndarray
  click_ranks: np.ndarray
  spectral_ranks: np.ndarray

  @property
  def click_p(self) -> float:
    """Probability of so outstanding a worst join by chance."""
    return _worst(self.click_ranks)

  @property
  def spectral_p(self) -> float:
    """The same of the spectral jump."""
    return _worst(self.spectral_ranks)

  @property
  def clean(self) -> bool:
    """Neither jump stands out, at a level of one in a hundred each."""
    return min(self.click_p, self.spectral_p) >= 0.01


def measure(
    audio: np.ndarray, sample_rate_hz: int, joins: Sequence[float]) -> Seams:
  """Seams of a sound.

  Args:
    audio: [N] float, at least a second.
    sample_rate_hz: of it.
    joins: seconds where windows meet; those too near the ends do not count.

  Returns:
    `Seams`.
  """
  audio = np.asarray(audio, np.float64)
  edge = int(_NEAR_SECONDS * sample_rate_hz)
  at = np.unique([int(round(j * sample_rate_hz)) for j in joins]).astype(int)
  at = at[(at >= edge) & (at < len(audio) - edge)]
  others = np.arange(edge, len(audio) - edge,
                     int(_STEP_SECONDS * sample_rate_hz))
  if len(at):
    after = np.searchsorted(at, others)
    gaps = np.minimum(np.abs(others - at[np.maximum(after - 1, 0)]),
                      np.abs(others - at[np.minimum(after, len(at) - 1)]))
    others = others[gaps >= edge]
  ranks = []
  for jump in (_clicks, _spectral):
    found = jump(audio, sample_rate_hz, np.concatenate([at, others]))
    rest = np.sort(found[len(at):])
    higher = len(rest) - np.searchsorted(rest, found[:len(at)], side='left')
    ranks.append((higher + 1) / (len(rest) + 1))
  return Seams(at / sample_rate_hz, *ranks)


def _worst(ranks):
  """P(the least of so many uniform ranks is that small)."""
  if not len(ranks):
    return 1.0
  return float(1.0 - (1.0 - ranks.min())**len(ranks))


def _around(audio, places, before, after):
  """[P, before + after] samples around each place."""
  return audio[places[:, None] + np.arange(-before, after)[None]]


def _clicks(audio, rate, places):
  """[P] second differences at each place, over the usual ones around it."""
  bend = np.abs(np.diff(audio, 2, prepend=0.0, append=0.0))
  near, far = int(_PEAK_SECONDS * rate), int(_AROUND_SECONDS * rate)
  parts = []
  for part in np.array_split(places, 1 + len(places) // _AT_ONCE):
    peak = _around(bend, part, near, near).max(axis=1)
    usual = np.quantile(_around(bend, part, far, far), 0.9, axis=1)
    parts.append(peak / np.maximum(usual, 1e-7))
  return np.concatenate(parts)


def _spectral(audio, rate, places):
  """[P] mean difference of log-mel spectra of both sides, in nats."""
  from musiclm_jax import audio as audio_lib  # pylint: disable=g-import-not-at-top
  size = int(_SIDE_SECONDS * rate)
  window = np.hanning(size)
  mels = audio_lib.mel_matrix(rate, size, _MELS, 60.0, 0.45 * rate)
  sides = []
  for before, after in ((size, 0), (0, size)):
    logs = [np.log(np.abs(np.fft.rfft(
        _around(audio, part, before, after) * window)) @ mels + 1e-3)
            for part in np.array_split(places, 1 + len(places) // _AT_ONCE)]
    sides.append(np.concatenate(logs))
  return np.abs(sides[1] - sides[0]).mean(axis=1)
