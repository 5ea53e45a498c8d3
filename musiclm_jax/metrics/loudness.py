"""Loudness as ITU-R BS.1770-4 measures it, of mono sound at any rate.

  sound ─> K-weighting ─> power of 400 ms blocks ─> two gates ─> mean, in LUFS

The standard tabulates the K-weighting's two filters at 48 kHz; here they are
made anew for a rate from the analogue filters that the table belongs to, so that
nothing needs to be resampled to be measured.
"""

import math

import numpy as np
import numpy.typing as npt

# The analogue filters behind the standard's table: a shelf that lifts the highs
# as a head does, and a high-pass. Their bilinear transform at 48 kHz is the table.
_SHELF_HZ, _SHELF_GAIN_DB, _SHELF_Q = 1681.974450955533, 3.999843853973347, (
    0.7071752369554196)
_SHELF_SLOPE = 0.4996667741545416
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
_OFFSET = -0.691  # dB: a 997 Hz sine of full scale has -3.01 LUFS
_BLOCK_S, _HOP_S = 0.4, 0.1
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU below what passes the first


def weighting(rate_hz: int) -> np.ndarray:
  """[2, 6] second-order sections of the K-weighting, as SciPy takes them."""
  k = math.tan(math.pi * _SHELF_HZ / rate_hz)
  high = 10**(_SHELF_GAIN_DB / 20)
  band = high**_SHELF_SLOPE
  scale = 1 + k / _SHELF_Q + k * k
  shelf = [(high + band * k / _SHELF_Q + k * k) / scale,
           2 * (k * k - high) / scale,
           (high - band * k / _SHELF_Q + k * k) / scale,
           1.0, 2 * (k * k - 1) / scale, (1 - k / _SHELF_Q + k * k) / scale]
  k = math.tan(math.pi * _HIGH_PASS_HZ / rate_hz)
  scale = 1 + k / _HIGH_PASS_Q + k * k
  high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / scale,
               (1 - k / _HIGH_PASS_Q + k * k) / scale]
  return np.asarray([shelf, high_pass])


def integrated(audio: npt.ArrayLike, rate_hz: int) -> float:
  """Integrated loudness in LUFS.

  Args:
    audio: [N] float in -1..1. Of less than a block of 400 ms, all is one block.
    rate_hz: of `audio`.

  Returns:
    LUFS; -inf where nothing passes the gate at -70 LUFS.
  """
  from scipy import signal  # pylint: disable=g-import-not-at-top
  weighted = signal.sosfilt(
      weighting(rate_hz), np.asarray(audio, np.float64))
  block = min(round(_BLOCK_S * rate_hz), len(weighted))
  hop = round(_HOP_S * rate_hz)
  total = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
  starts = np.arange(0, len(weighted) - block + 1, hop)
  power = (total[starts + block] - total[starts]) / block
  power = power[power > _power(_ABSOLUTE_GATE)]
  if not len(power):
    return -math.inf
  gate = power.mean() * 10**(_RELATIVE_GATE / 10)
  return _lufs(power[power > gate].mean())


def _lufs(power):
  return float(_OFFSET + 10 * np.log10(power))


def _power(lufs):
  return 10**((lufs - _OFFSET) / 10)
