"""Which recordings are the same: an audio fingerprint, and an index of them.

  spectrum -> its peaks -> constellations of three peaks near each other -> a
  number each -> of a recording, the 256 smallest scrambled numbers

The numbers do not depend on the level, hardly on how a file was coded, and not on
where it begins. Scrambled, the smallest are a fair draw, the same in all copies,
so that recordings of any length cost the same (Broder, 1997); and constellations
are so many (2**32) that other music has next to none of them in common. A match
is one only where the numbers also follow each other as in the other recording
(the idea of landmarks: Wang, 2003). All limits here are `ours`.
"""

import collections
import itertools

import numpy as np

MOST = 256  # numbers kept of a recording
_RATE_HZ = 24_000
_WINDOW, _HOP = 2048, 512  # 85 ms, 21 ms
_FIRST_BIN, _STOP_BIN = 20, 340  # 0.23 to 4 kHz
_NEAR_FRAMES, _NEAR_BINS = 5, 8  # a peak is the largest this near
_FLOOR = 3e-3  # of the largest value of its block: -50 dB
_PEAKS_PER_SECOND = 14
_REACH_FRAMES = 64
_FAN = 5  # peaks after an anchor that constellations are made with
_BLOCK_SECONDS = 30
_SCRAMBLE = np.uint32(2654435761)  # odd, so that no two numbers become one
_MOST_ALIKE = 64  # recordings with one number; it tells nothing of more
_LEAST_NUMBERS = 24
_LEAST_BINS = 6  # of all peaks; a steady tone has fewer: nothing to know it by
_LEAST_VOTES, _LEAST_SHARE = 6, 0.06
_JITTER_FRAMES = 2


class Printer:
  """Takes a recording block by block."""

  def __init__(self):
    self._waiting, self._count, self._frames = [], 0, 0
    self._peaks = []

  def add(self, audio: np.ndarray) -> None:
    """Adds [n] float32 at 24 kHz."""
    self._waiting.append(audio)
    self._count += len(audio)
    if self._count >= _BLOCK_SECONDS * _RATE_HZ:
      self._take()

  def finish(self) -> np.ndarray:
    """[n, 2] uint32 of n <= MOST: (scrambled number, frame), in order."""
    if self._count >= _WINDOW:
      self._take()
    peaks = np.concatenate([np.zeros((0, 2), np.int64), *self._peaks])
    if len(np.unique(peaks[:, 1])) < _LEAST_BINS:
      return np.zeros((0, 2), np.uint32)
    numbers, frames = _constellations(peaks)
    with np.errstate(over='ignore'):
      numbers = numbers * _SCRAMBLE
    numbers, first = np.unique(numbers, return_index=True)
    return np.stack([numbers, frames[first]], 1)[:MOST].astype(np.uint32)

  def _take(self):
    """The peaks of what waits; what the next window needs goes on waiting."""
    audio = np.concatenate(self._waiting)
    count = (len(audio) - _WINDOW) // _HOP + 1
    peaks = _peaks(audio, count)
    peaks[:, 0] += self._frames
    self._peaks.append(peaks)
    self._frames += count
    self._waiting = [audio[count * _HOP:]]
    self._count = len(self._waiting[0])


def _peaks(audio, count):
  """[n, 2] int64 (frame, bin) of the peaks of `count` frames, in order."""
  from scipy import fft  # pylint: disable=g-import-not-at-top
  from scipy import ndimage  # pylint: disable=g-import-not-at-top
  frames = np.lib.stride_tricks.sliding_window_view(audio, _WINDOW)[::_HOP][:count]
  window = np.hanning(_WINDOW).astype(np.float32)
  size = np.abs(fft.rfft(frames * window)[:, _FIRST_BIN:_STOP_BIN])
  # In music the low bins are the loud ones; their share of peaks is no larger.
  size *= np.sqrt(np.arange(_FIRST_BIN, _STOP_BIN, dtype=np.float32))
  near = ndimage.maximum_filter(
      size, (2 * _NEAR_FRAMES + 1, 2 * _NEAR_BINS + 1), mode='constant')
  found = np.argwhere((size == near) & (size > _FLOOR * size.max(initial=0)))
  most = int(np.ceil(_PEAKS_PER_SECOND * count * _HOP / _RATE_HZ))
  if len(found) > most:
    loud = size[found[:, 0], found[:, 1]]
    found = found[np.sort(np.argsort(-loud, kind='stable')[:most])]
  return found


def _constellations(peaks):
  """([n] uint32 numbers, [n] frames) of each peak with two after it."""
  numbers, frames = [], []
  for one in range(1, _FAN):
    for two in range(one + 1, _FAN + 1):
      a, b, c = peaks[:-two], peaks[one:len(peaks) - two + one], peaks[two:]
      near = (c[:, 0] - a[:, 0] <= _REACH_FRAMES) & (b[:, 0] > a[:, 0]) & (
          c[:, 0] > b[:, 0])
      a, b, c = a[near], b[near], c[near]
      steps = (b[:, 0] - a[:, 0]) >> 2, (c[:, 0] - a[:, 0]) >> 2
      number = a[:, 1] >> 1
      for value, bits in ((b[:, 1] >> 1, 8), (c[:, 1] >> 1, 8),
                          (np.minimum(steps[0], 15), 4),
                          (np.minimum(steps[1], 15), 4)):
        number = number << bits | value
      numbers.append(number.astype(np.uint32))
      frames.append(a[:, 0])
  return np.concatenate(numbers), np.concatenate(frames)


def alike(prints: list[np.ndarray]) -> list[tuple[int, int, float]]:
  """Recordings that are the same, or one a part of the other.

  Args:
    prints: of each recording, as `Printer.finish` gives them.

  Returns:
    [(i, j, share of what could match that does)], i < j, in order.
  """
  sizes = [len(p) if len(p) >= _LEAST_NUMBERS else 0 for p in prints]
  if not sum(sizes):
    return []
  owners = np.repeat(np.arange(len(prints)), sizes)
  joined = np.concatenate([p[:size] for p, size in zip(prints, sizes)])
  order = np.argsort(joined[:, 0], kind='stable')
  numbers, owners = joined[order, 0], owners[order]
  edges = np.flatnonzero(np.diff(numbers, prepend=~numbers[:1], append=~numbers[-1:]))
  runs = np.diff(edges)
  found = collections.Counter()
  for first, length in zip(edges[:-1][runs > 1], runs[runs > 1]):
    if length <= _MOST_ALIKE:
      members = owners[first:first + length].tolist()  # in order, each once
      found.update(itertools.combinations(members, 2))
  pairs = []
  for (i, j), shared in sorted(found.items()):
    if shared >= _LEAST_VOTES:
      votes, share = _compare(prints[i], prints[j])
      if votes >= _LEAST_VOTES and share >= _LEAST_SHARE:
        pairs.append((i, j, round(share, 3)))
  return pairs


def _compare(one, other):
  """(numbers that two have in common at one distance in time, their share)."""
  # Beyond the largest number that both would have kept, one is not known.
  last = min(p[-1, 0] if len(p) == MOST else np.uint32(2**32 - 1)
             for p in (one, other))
  one, other = (p[p[:, 0] <= last] for p in (one, other))
  _, a, b = np.intersect1d(one[:, 0], other[:, 0], return_indices=True)
  if not len(a):
    return 0, 0.0
  apart = np.sort(one[a, 1].astype(np.int64) - other[b, 1])
  votes = int(np.max(np.searchsorted(
      apart, apart + 2 * _JITTER_FRAMES, side='right') - np.arange(len(apart))))
  return votes, votes / min(len(one), len(other))
