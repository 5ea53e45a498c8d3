"""VGGish's examples against TensorFlow's own spectra and mel matrix."""

import numpy as np
import pytest

from musiclm_jax.listeners import vggish_frontend


def _audio(rows=2, samples=16_000):
  rng = np.random.default_rng(0)
  t = np.arange(samples) / 16_000
  return (0.3 * np.sin(2 * np.pi * 440 * t)
          + 0.05 * rng.normal(size=(rows, samples)))


def test_log_mels_are_those_of_tensorflow():
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  audio = _audio()
  spectrum = tf.signal.stft(
      tf.constant(audio), 400, 160, 512, window_fn=tf.signal.hann_window)
  matrix = tf.signal.linear_to_mel_weight_matrix(
      64, 257, 16_000, 125.0, 7_500.0, dtype=tf.float64)
  wanted = tf.math.log(tf.abs(spectrum) @ matrix + 0.01).numpy()
  found = vggish_frontend.log_mel(audio)
  assert found.shape == wanted.shape == (2, 98, 64)
  np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_second_has_one_example():
  audio = _audio()
  found = vggish_frontend.examples(audio)
  assert found.shape == (2, 1, 96, 64) and found.dtype == np.float32
  np.testing.assert_array_equal(
      found[:, 0], vggish_frontend.log_mel(audio)[:, :96])
  # Two examples need 192 frames: 30,960 samples.
  assert vggish_frontend.examples(_audio(1, 30_960)).shape[1] == 2
  assert vggish_frontend.examples(_audio(1, 30_959)).shape[1] == 1


def test_a_tone_is_in_its_band():
  t = np.arange(16_000) / 16_000
  mels = vggish_frontend.log_mel(np.sin(2 * np.pi * 1_000 * t)[None])[0]
  # 1,000 Hz are 1,000 mels; 66 edges lie evenly over 185.2 .. 2,774.6 mels.
  edges = np.linspace(1127 * np.log1p(125 / 700), 1127 * np.log1p(7500 / 700), 66)
  middle = np.argmin(abs(edges[1:-1] - 1127 * np.log1p(1000 / 700)))
  assert mels.mean(0).argmax() == middle


def test_silence_is_the_offset():
  mels = vggish_frontend.log_mel(np.zeros((1, 400)))
  np.testing.assert_allclose(mels, np.log(0.01), rtol=1e-6)


@pytest.mark.parametrize('samples, match', [
    (399, '400 or more'), (15_000, 'an example has 96')])
def test_too_short_for_an_example(samples, match):
  with pytest.raises(ValueError, match=match):
    vggish_frontend.examples(np.zeros((1, samples)))
