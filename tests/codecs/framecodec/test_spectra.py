"""Spectra of frames against NumPy and SciPy; there and back again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from musiclm_jax.codecs.framecodec import spectra
from musiclm_jax.nn import streams

SIZE = 240
METHODS = ['fft', 'product']


def _noise(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('method', METHODS)
def test_spectrum_by_numpy(method):
  frames = _noise(2, 3, SIZE)
  window = scipy.signal.get_window('hann', SIZE)
  expected = np.fft.rfft(frames.astype(np.float64) * window) * 4 / SIZE
  real, imaginary = spectra.spectrum(frames, method)
  assert real.shape == imaginary.shape == (2, 3, SIZE // 2 + 1)
  np.testing.assert_allclose(real, expected.real, atol=1e-5)
  np.testing.assert_allclose(imaginary, expected.imag, atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_a_full_scale_sine_has_one(method):
  sine = np.sin(2 * np.pi * 20 * np.arange(SIZE) / SIZE).astype(np.float32)
  size = np.hypot(*spectra.spectrum(sine, method))
  assert size[20] == pytest.approx(1.0, abs=1e-4)
  np.testing.assert_allclose(size[[19, 21]], 0.5, atol=1e-4)
  assert np.delete(size, [19, 20, 21]).max() < 1e-4


def test_features_show_phases_counted_from_the_signals_start():
  """A tone at a bin's own frequency stands still; NumPy has the same numbers."""
  hop, period, k = SIZE // 4, 4, 21
  tone = 0.5 * np.cos(2 * np.pi * k * np.arange(12 * hop) / SIZE + 0.7)
  samples = np.lib.stride_tricks.sliding_window_view(
      tone.astype(np.float32), SIZE)[::hop][None]
  turns = 2 * np.pi * (np.arange(samples.shape[1])[:, None] % period
                       ) * np.arange(SIZE // 2 + 1) / period
  shown = np.asarray(spectra.features(
      samples, 8, 0, 8_000, turns=jnp.asarray(turns[None], jnp.float32)))
  bins = SIZE // 2 + 1
  real, imaginary = shown[0, :, :bins], shown[0, :, bins:2 * bins]
  expected = 8.0 * 0.5**0.3 * np.exp(0.7j)
  np.testing.assert_allclose(real[:, k], expected.real, atol=1e-3)
  np.testing.assert_allclose(imaginary[:, k], expected.imag, atol=1e-3)
  without = np.asarray(spectra.features(samples, 8, 0, 8_000))
  near = slice(k - 1, k + 2)  # elsewhere there is the floor, which has no phase
  np.testing.assert_allclose(np.hypot(real, imaginary)[:, near],
                             without[0, :, near] + 0.8, atol=1e-3)
  np.testing.assert_array_equal(shown[0, :, 2 * bins:], without[0, :, bins:])


@pytest.mark.filterwarnings('ignore:NOLA')  # its ends are left out below
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('overlap', [3, 4, 5])
def test_frames_by_scipy(method, overlap):
  """Random spectra of no signal: SciPy divides by the sum of its windows."""
  hop = SIZE // overlap
  real, imaginary = _noise(1, 12, SIZE // 2 + 1), _noise(
      1, 12, SIZE // 2 + 1, seed=1)
  imaginary[..., [0, -1]] = 0.0  # of a real signal
  frames = spectra.frames(real, imaginary, overlap, method)
  got = streams.OverlapAdd(hop).apply({}, frames)
  _, expected = scipy.signal.istft(
      np.moveaxis(real[0] + 1j * imaginary[0], 0, 1) / 2, window='hann',
      nperseg=SIZE, noverlap=SIZE - hop, boundary=False)
  inner = slice(SIZE - hop, 12 * hop)  # where all windows are there
  np.testing.assert_allclose(got[0, inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('overlap', [3, 4])
def test_there_and_back_is_the_signal(method, overlap):
  hop, blocks = SIZE // overlap, 10
  signal = _noise(2, blocks * hop)
  silence = np.zeros((2, SIZE - hop), np.float32)
  frames = streams.Frames(SIZE, hop).apply(
      {}, np.concatenate([signal, silence], axis=1))
  back = streams.OverlapAdd(hop).apply({}, spectra.frames(
      *spectra.spectrum(frames, method), overlap, method))
  # A frame ends with its block, and begins to be given out when it is there.
  np.testing.assert_allclose(back[:, SIZE - hop:], signal, atol=1e-5)


def test_a_product_equals_the_transform_and_so_do_their_gradients():
  frames = _noise(2, SIZE)

  def there_and_back(x, method):
    real, imaginary = spectra.spectrum(x, method)
    return jnp.sum(jnp.sin(spectra.frames(real, imaginary**2, 4, method)))

  value, slope = zip(*(
      jax.value_and_grad(there_and_back)(frames, m) for m in METHODS))
  assert float(value[0]) == pytest.approx(float(value[1]), rel=1e-4)
  np.testing.assert_allclose(slope[0], slope[1], atol=1e-5)
