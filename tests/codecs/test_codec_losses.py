"""Every loss against NumPy and librosa values computed another way."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from musiclm_jax import audio as audio_lib
from musiclm_jax.codecs import losses

RATE = 24_000


def _pair(batch=2, length=4800, seed=0):
  rng = np.random.default_rng(seed)
  real = rng.normal(size=(batch, length)) * 0.1
  fake = real + rng.normal(size=real.shape) * 0.05
  return real.astype(np.float32), fake.astype(np.float32)


def _reference_spectral(real, fake, window):
  """One scale, with SciPy's window and a loop over frames."""
  size = max(window, 512)
  hann = scipy.signal.get_window('hann', window)
  filters = librosa.filters.mel(
      sr=RATE, n_fft=size, n_mels=64, fmin=0, fmax=RATE / 2, htk=True,
      norm=None)
  values = []
  for r, f in zip(real, fake):
    r, f = (np.pad(x.astype(np.float64), window // 2) for x in (r, f))
    for start in range(0, len(r) - window + 1, window // 4):
      spectra = [np.fft.rfft(x[start:start + window] * hann, size)
                 for x in (r, f)]
      mels = [filters @ np.abs(x) for x in spectra]
      logs = [np.log(np.maximum(m, 1e-5)) for m in mels]
      values.append(np.abs(mels[0] - mels[1]).sum() +
                    np.sqrt(window / 2) * np.linalg.norm(logs[0] - logs[1]))
  return np.mean(values)


@pytest.mark.parametrize('window', [64, 256, 1024])
def test_spectral_distance(window):
  real, fake = _pair(length=2048)
  config = losses.SpectralConfig(windows=(window,))
  got = jax.jit(lambda r, f: config.distance(r, f, RATE))(real, fake)
  assert float(got) == pytest.approx(
      _reference_spectral(real, fake, window), rel=1e-3)


def test_spectral_scales_add_and_length_does_not_matter():
  real, fake = _pair(length=24_000)
  parts = [losses.SpectralConfig(windows=(w,)).distance(real, fake, RATE)
           for w in (512, 1024)]
  both = losses.SpectralConfig(windows=(512, 1024))
  whole = float(both.distance(real, fake, RATE))
  assert whole == pytest.approx(float(sum(parts)), rel=1e-5)
  half = float(both.distance(real[:, :12_000], fake[:, :12_000], RATE))
  assert half == pytest.approx(whole, rel=0.05)


def test_spectral_gradient_is_finite_in_silence_and_at_equality():
  real, _ = _pair()
  config = losses.SpectralConfig(windows=(64, 512))
  gradient = jax.jit(jax.grad(lambda f, r: config.distance(r, f, RATE)))
  silence = np.zeros_like(real)
  for fake, target in ((silence, silence), (silence, real), (real, real)):
    assert np.all(np.isfinite(gradient(fake, target)))


def test_every_band_has_a_bin():
  for window in losses.SpectralConfig().windows:
    filters = audio_lib.mel_matrix(RATE, max(window, 512), 64, 0.0, RATE / 2)
    assert np.mean(filters.sum(0) > 0) > 0.8


def test_hinge_by_hand():
  real = [jnp.asarray([[2.0, 0.5]]), jnp.asarray([[-1.0]])]
  fake = [jnp.asarray([[-2.0, 0.0]]), jnp.asarray([[3.0]])]
  # (mean(0, .5) + mean(0, 1)) and (2 + 4), averaged over two.
  assert float(losses.hinge_discriminator(real, fake)) == pytest.approx(
      ((0.25 + 0.5) + (2 + 4)) / 2)
  assert float(losses.hinge_generator(fake)) == pytest.approx(
      (np.mean([3, 1]) + 0) / 2)


def test_feature_matching_by_hand():
  real = [[np.zeros((1, 2)), np.ones((1, 3))], [np.full((1, 4), 2.0)]]
  fake = [[np.ones((1, 2)), np.ones((1, 3))], [np.full((1, 4), -1.0)]]
  assert float(losses.feature_matching(real, fake)) == pytest.approx(
      ((1 + 0) / 2 + 3) / 2)


def test_si_sdr_by_hand():
  rng = np.random.default_rng(0)
  real = rng.normal(size=(1, 8000))
  real -= real.mean()
  noise = rng.normal(size=(1, 8000))
  noise -= noise.mean()
  noise -= real * (noise @ real.T) / (real @ real.T)
  noise *= np.linalg.norm(real) / np.linalg.norm(noise) / 10.0
  # Energies 100 to 1 are 20 dB, whatever the gain.
  for gain in (1.0, 0.3):
    got = losses.si_sdr(jnp.asarray(real), jnp.asarray((real + noise) * gain))
    assert float(got) == pytest.approx(20.0, abs=0.01)


def test_mel_distance_of_a_gain():
  real, _ = _pair()
  spec = audio_lib.MelSpec(sample_rate_hz=RATE, low_hz=0.0, high_hz=12_000.0)
  got = losses.mel_distance(real, real * np.float32(np.e), spec)
  assert float(got) == pytest.approx(1.0, abs=0.02)


def test_balance_gives_each_loss_its_share():
  a = np.zeros((1, 4), np.float32)
  b = a.copy()
  a[0, 0], b[0, 1] = 100.0, 0.001
  total = np.asarray(losses.balance([a, b], [3.0, 1.0]))
  np.testing.assert_allclose(total, [[0.75, 0.25, 0, 0]], atol=1e-4)
  alone = np.asarray(losses.balance([a, np.zeros_like(b)], [3.0, 1.0]))
  np.testing.assert_allclose(alone, [[1, 0, 0, 0]], atol=1e-4)
