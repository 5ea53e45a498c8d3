"""Loudness against the standard's own table and figures."""

import math

import numpy as np
import pytest

from musiclm_jax.metrics import loudness


def sine(hertz, rate, seconds=4.0, peak=1.0):
  return peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def test_the_filters_are_the_table_of_bs_1770_at_48_khz():
  np.testing.assert_allclose(loudness.weighting(48_000), [
      [1.53512485958697, -2.69169618940638, 1.19839281085285,
       1.0, -1.69065929318241, 0.73248077421585],
      [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]], atol=1e-8)


@pytest.mark.parametrize('rate', [16_000, 24_000, 44_100, 48_000])
def test_a_full_scale_sine_has_the_standards_loudness(rate):
  """-3.01 LUFS at 997 Hz in one channel; 20 dB less sound is 20 LU less."""
  assert loudness.integrated(sine(997, rate), rate) == pytest.approx(
      -3.01, abs=0.05)
  assert loudness.integrated(sine(997, rate, peak=0.1), rate) == pytest.approx(
      -23.01, abs=0.05)


def test_lows_count_less_and_highs_more():
  low, middle, high = (loudness.integrated(sine(hertz, 48_000), 48_000)
                       for hertz in (40, 997, 6_000))
  assert low < middle - 4 and high > middle + 2.5


def test_pauses_are_gated_out():
  """EBU Tech 3341, case 3: -36, -23, -36 dB measure as the middle alone."""
  rate = 16_000
  loud, soft = (sine(1_000, rate, seconds, 10**(level / 20))
                for seconds, level in ((20.0, -20.0), (5.0, -33.0)))
  assert loudness.integrated(
      np.concatenate([soft, loud, soft]), rate) == pytest.approx(
          loudness.integrated(loud, rate), abs=0.1)


def test_silence_and_what_is_shorter_than_a_block():
  assert loudness.integrated(np.zeros(48_000), 48_000) == -math.inf
  assert loudness.integrated(sine(997, 48_000, 0.2), 48_000) == pytest.approx(
      -3.0, abs=0.2)


def test_against_ffmpeg(tmp_path):
  """An independent meter, on noise whose level changes."""
  ffmpeg = pytest.importorskip('imageio_ffmpeg').get_ffmpeg_exe()
  import re  # pylint: disable=g-import-not-at-top
  import subprocess  # pylint: disable=g-import-not-at-top

  import soundfile  # pylint: disable=g-import-not-at-top
  rate = 24_000
  rng = np.random.default_rng(0)
  audio = rng.standard_normal(8 * rate) * np.repeat(
      [0.02, 0.1, 0.001, 0.2], 2 * rate)
  soundfile.write(tmp_path / 'a.wav', audio, rate, subtype='FLOAT')
  said = subprocess.run(
      [ffmpeg, '-nostats', '-i', tmp_path / 'a.wav', '-filter_complex',
       'ebur128', '-f', 'null', '-'], capture_output=True, text=True,
      check=True).stderr
  theirs = float(re.findall(r'I:\s+(-?[\d.]+) LUFS', said)[-1])
  assert loudness.integrated(audio, rate) == pytest.approx(theirs, abs=0.15)
