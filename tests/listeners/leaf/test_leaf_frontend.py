"""The front end beside plain NumPy, its own equations and librosa's PCEN."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from scipy import signal

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.listeners.leaf import frontend

CONFIG = frontend.FrontEndConfig()
_RATE = 16_000


def _kernel():
  return np.asarray(frontend.gabor(
      *map(jnp.asarray, frontend.mel_gabors(CONFIG)), 401))


def test_gabor_filters_are_what_the_paper_writes():
  centre, width = 1.2, 23.0
  kernel = np.asarray(frontend.gabor(
      jnp.array([centre]), jnp.array([width]), 401))[:, 0]
  for t in (-200, -31, 0, 7, 200):
    expected = np.exp(1j * centre * t) * np.exp(-t**2 / (2 * width**2)) / (
        np.sqrt(2 * np.pi) * width)
    assert kernel[t + 200] == pytest.approx(expected, abs=1e-6)
  # Its response is a Gaussian of height 1 about the centre.
  spectrum = np.abs(np.fft.fft(kernel, 16_384))
  frequency = 2 * np.pi * np.arange(16_384) / 16_384
  np.testing.assert_allclose(
      spectrum, np.exp(-(width * (frequency - centre))**2 / 2), atol=2e-5)


def test_it_begins_as_a_mel_bank():
  """Each filter peaks and is half as high where sqrt(mel) is."""
  size = 16_384
  mels = np.sqrt(audio_lib.mel_matrix(_RATE, size, 40, 60.0, 7_800.0))
  response = np.abs(np.fft.fft(_kernel(), size, axis=0))[:size // 2 + 1]
  bins = np.abs(response.argmax(0) - mels.argmax(0))
  assert bins.max() <= 2  # of 0.98 Hz
  wide = np.sum(mels >= mels.max(0) / 2, axis=0)
  found = np.sum(response >= response.max(0) / 2, axis=0)
  # The lowest filters are longer than their window, which widens them.
  np.testing.assert_allclose(found[6:], wide[6:], rtol=0.03)
  assert np.all(found[:6] >= 0.97 * wide[:6])


def test_squared_modulus_is_a_convolution_centred_on_each_sample():
  x = np.random.default_rng(0).standard_normal(1_003).astype(np.float32)
  kernel = _kernel()[:, [3, 20, 39]]
  found = np.asarray(frontend.squared_modulus(x[None], kernel))[0]
  for k in range(3):
    expected = np.abs(signal.fftconvolve(x, kernel[:, k], 'same'))**2
    np.testing.assert_allclose(found[:, k], expected, atol=1e-5, rtol=1e-3)
  thinned = np.asarray(frontend.squared_modulus(x[None], kernel, 5))[0]
  np.testing.assert_allclose(thinned, found[::5], rtol=1e-4, atol=1e-6)


def test_low_pass_is_a_gaussian_over_each_hop():
  energy = np.random.default_rng(1).random((1, 800, 2)).astype(np.float32)
  widths = np.array([0.4, 0.1], np.float32)
  found = np.asarray(frontend.low_pass(energy, widths, 401, 160))[0]
  assert found.shape == (5, 2)
  t = np.arange(401)
  for channel, width in enumerate(widths):
    window = np.exp(-0.5 * ((t - 200) / (width * 200))**2)
    padded = np.pad(energy[0, :, channel], (120, 500))
    for frame in range(5):
      expected = padded[160 * frame:160 * frame + 401] @ window
      assert found[frame, channel] == pytest.approx(expected, rel=1e-4)


def test_thinned_filters_tell_nearly_the_same():
  x = np.random.default_rng(2).standard_normal((1, 8_000)) / 10
  outputs = []
  for stride in (1, 5):
    module = frontend.FrontEnd(frontend.FrontEndConfig(filter_stride=stride))
    out, _ = jax.jit(module.init_with_output)(jax.random.PRNGKey(0), x)
    outputs.append(np.asarray(out))
  assert outputs[0].shape == (1, 50, 40)
  assert np.abs(outputs[1] / outputs[0] - 1)[:, 2:-2].max() < 0.02


def _numbers(rng):
  return dict(gain=rng.uniform(0.5, 1, 3), smoothing=rng.uniform(0.02, 0.5, 3),
              bias=rng.uniform(0.5, 3, 3), root=rng.uniform(1, 4, 3))


def test_spcen_by_a_loop():
  rng = np.random.default_rng(3)
  energy, numbers = rng.random((2, 9, 3)), _numbers(rng)
  found = frontend.spcen(
      jnp.asarray(energy, jnp.float32),
      **{k: jnp.asarray(v, jnp.float32) for k, v in numbers.items()},
      floor=1e-12)
  gain, s, bias, root = numbers.values()
  smooth = energy[:, 0]
  for t in range(9):
    smooth = (1 - s) * smooth + s * energy[:, t] if t else smooth
    expected = (energy[:, t] / (1e-12 + smooth)**gain + bias)**(
        1 / root) - bias**(1 / root)
    np.testing.assert_allclose(found[:, t], expected, rtol=2e-5, atol=1e-6)


def test_spcen_as_librosa_has_it():
  energy = np.random.default_rng(4).random((1, 30, 4))
  b = 0.04
  expected = librosa.pcen(
      energy[0].T, gain=0.96, bias=2, power=0.5, b=b, eps=1e-12,
      zi=(1 - b) * energy[0, :1].T)
  full = lambda x: jnp.full(4, x)
  found = frontend.spcen(jnp.asarray(energy), full(0.96), full(b), full(2.0),
                         full(2.0), 1e-12)
  np.testing.assert_allclose(found[0].T, expected, rtol=1e-4)


def test_all_of_it_is_learned_and_finite_in_silence():
  module = frontend.FrontEnd(frontend.FrontEndConfig(
      num_filters=4, filter_stride=5))
  x = jnp.zeros((1, 1_600)).at[0, 800:].set(
      jnp.sin(jnp.arange(800) * 0.7))
  params = jax.jit(module.init)(jax.random.PRNGKey(0), x)['params']
  assert set(params) == {'centres', 'widths', 'pooling', 'gain', 'smoothing',
                         'bias', 'root'}
  loss = lambda params, x: jnp.sum(jnp.square(module.apply(
      {'params': params}, x)))
  gradient = jax.jit(jax.grad(loss))
  for name, grad in gradient(params, x).items():
    assert np.isfinite(grad).all() and np.abs(grad).max() > 0, name
  silent = gradient(params, jnp.zeros_like(x))
  assert all(np.isfinite(g).all() for g in silent.values())


def test_bad_settings_are_one_line():
  for given in (dict(window_samples=400), dict(filter_stride=7),
                dict(high_hz=9_000.0)):
    with pytest.raises(errors.UserError, match=next(iter(given))):
      frontend.FrontEndConfig(**given)
