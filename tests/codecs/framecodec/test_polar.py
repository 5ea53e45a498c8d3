"""Sine and cosine by short series, against NumPy's in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.codecs.framecodec import spectra


@pytest.mark.parametrize('reach', [4.0, 200.0, 10_000.0])
def test_sine_and_cosine_equal_numpys(reach):
  angle = np.linspace(-reach, reach, 20_001, dtype=np.float32)
  sine, cosine = spectra.sine_cosine(angle)
  exact = angle.astype(np.float64)
  np.testing.assert_allclose(sine, np.sin(exact), atol=2e-7)
  np.testing.assert_allclose(cosine, np.cos(exact), atol=2e-7)


def test_huge_angles_stay_bounded_and_nan_stays():
  sine, cosine = spectra.sine_cosine(
      np.array([3e8, -1e30, np.nan], np.float32))
  assert np.all(np.abs(sine[:2]) <= 1.0) and np.all(np.abs(cosine[:2]) <= 1.0)
  assert np.isnan(sine[2]) and np.isnan(cosine[2])


def test_gradient_of_polar():
  def total(magnitude, phase):
    real, imaginary = spectra.polar(magnitude, phase)
    return jnp.sum(2.0 * real + 3.0 * imaginary)

  magnitude, phase = np.float32([0.5, 2.0, 1.0]), np.float32([-3.0, 0.0, 40.0])
  by_magnitude, by_phase = jax.grad(total, (0, 1))(magnitude, phase)
  np.testing.assert_allclose(
      by_magnitude, 2 * np.cos(phase) + 3 * np.sin(phase), rtol=1e-5)
  np.testing.assert_allclose(
      by_phase, magnitude * (3 * np.cos(phase) - 2 * np.sin(phase)), rtol=1e-5)
