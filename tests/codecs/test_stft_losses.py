"""Spectral distances against values by SciPy and librosa; phases by hand."""

import itertools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from musiclm_jax.codecs import losses
from musiclm_jax.codecs import stft_losses

RATE = 24_000
LENGTH = 4_800


def _pair(seed=0, length=LENGTH):
  rng = np.random.default_rng(seed)
  real = rng.normal(size=(2, length)) * 0.1
  fake = 0.8 * real + rng.normal(size=real.shape) * 0.05
  return real.astype(np.float32), fake.astype(np.float32)


def _stft(signal, window):
  """[B, T, bins] complex, by SciPy; a full-scale sine has 1."""
  found = scipy.signal.stft(
      signal.astype(np.float64), window='hann', nperseg=window,
      noverlap=window - window // 4, boundary='zeros', padded=False)[2]
  return 2.0 * np.moveaxis(found, 1, 2)


def _turns(spectrum, axis):
  """How far the phase turns from each bin to its next one, by np.unwrap."""
  return np.diff(np.unwrap(np.angle(spectrum), axis=axis), axis=axis)


def _wrapped(x):
  return np.abs(x - 2 * np.pi * np.round(x / (2 * np.pi)))


@pytest.mark.parametrize('window', [256, 1024])
def test_magnitudes_by_scipy_and_librosa(window):
  real, fake = _pair()
  config = stft_losses.MagnitudeConfig(
      windows=(window,), num_mels=80, log_weight=0.7, power_weight=0.5)
  bands = {256: 20, 1024: 80}[window]
  filters = librosa.filters.mel(
      sr=RATE, n_fft=window, n_mels=bands, fmin=0, fmax=RATE / 2, htk=True,
      norm=None)
  sizes = [np.abs(_stft(x, window)) for x in (real, fake)]
  logs = [np.log(x @ filters.T + 1e-4) for x in sizes]
  small = [x**0.3 for x in sizes]
  expected = 0.7 * np.abs(logs[0] - logs[1]).mean() + (
      0.5 * np.abs(small[0] - small[1]).mean() / small[0].mean())
  assert float(config.distance(real, fake, RATE)) == pytest.approx(
      expected, rel=1e-4)


@pytest.mark.parametrize('window', [256, 2048])
def test_complex_spectra_by_scipy(window):
  real, fake = _pair()
  ours, theirs = (
      np.abs(x)**0.3 * np.exp(1j * np.angle(x))
      for x in (_stft(real, window), _stft(fake, window)))
  apart = ours - theirs
  expected = (np.abs(apart.real) + np.abs(apart.imag)).mean() / (
      np.abs(ours).mean())
  got = stft_losses.ComplexConfig(windows=(window,)).distance(real, fake, RATE)
  assert float(got) == pytest.approx(expected, rel=1e-4)


def test_complex_spectra_of_silence_and_of_chance():
  real, _ = _pair(length=24_000)
  config = stft_losses.ComplexConfig(windows=(512,))
  silence, other = np.zeros_like(real), _pair(1, 24_000)[0]
  # The mean of |cos| + |sin|.
  assert float(config.distance(real, silence, RATE)) == pytest.approx(
      4 / np.pi, rel=0.02)
  assert float(config.distance(real, other, RATE)) > 1.5
  assert float(config.distance(real, real, RATE)) == 0.0


@pytest.mark.parametrize('axis, weights', [(1, (1.0, 0.0)), (2, (0.0, 1.0))])
@pytest.mark.parametrize('window', [256, 1024])
def test_phases_turn_as_numpy_says(axis, weights, window):
  real, fake = _pair()
  spectra = [_stft(x, window) for x in (real, fake)]
  apart = _wrapped(_turns(spectra[0], axis) - _turns(spectra[1], axis))
  sizes = np.abs(spectra[0])
  energy = np.take(sizes, range(1, sizes.shape[axis]), axis) * np.take(
      sizes, range(sizes.shape[axis] - 1), axis)
  expected = (apart * energy).sum() / energy.sum()
  config = stft_losses.PhaseConfig((window,), *weights)
  got = float(config.distance(real, fake, RATE))
  assert got == pytest.approx(expected, rel=1e-3)
  assert 0.1 < got < np.pi / 2


def test_windows_are_averaged_and_parts_added():
  real, fake = _pair()
  for kind in (stft_losses.ComplexConfig, stft_losses.PhaseConfig,
               stft_losses.MagnitudeConfig):
    alone = [float(kind(windows=(w,)).distance(real, fake, RATE))
             for w in (256, 512)]
    both = float(kind(windows=[256, 512]).distance(real, fake, RATE))
    assert both == pytest.approx(np.mean(alone), rel=1e-5)
  config = lambda *weights: float(stft_losses.PhaseConfig(
      (512,), *weights).distance(real, fake, RATE))
  assert config(2.0, 3.0) == pytest.approx(
      2 * config(1.0, 0.0) + 3 * config(0.0, 1.0), rel=1e-5)


def test_where_a_phase_begins_is_free_and_how_it_turns_is_not():
  time = np.arange(24_000) / RATE
  hz = np.array([[220.0, 1_234.5, 4_321.0]]).T
  tones = 0.2 * np.sin(2 * np.pi * hz * time)
  shifted = np.imag(scipy.signal.hilbert(tones)).sum(0, keepdims=True)
  tones = tones.sum(0, keepdims=True)
  bent = 0.2 * np.sin(2 * np.pi * (hz + 40.0) * time).sum(0, keepdims=True)
  phase = stft_losses.PhaseConfig(windows=(1024,))
  whole = stft_losses.ComplexConfig(windows=(1024,))
  distance = lambda config, x: float(config.distance(
      *(a.astype(np.float32) for a in (tones, x)), RATE))
  assert distance(phase, shifted) < 0.05
  assert distance(whole, shifted) > 0.5
  # 40 Hz for a hop of 256 samples are 2.7 radians.
  assert distance(phase, bent) > 2.0


@pytest.mark.parametrize('axis', [1, 2])
def test_chance_is_a_quarter_of_a_turn(axis):
  rng = np.random.default_rng(0)
  ours, theirs = rng.normal(size=(2, 2, 2, 60, 60)).astype(np.float32)
  assert float(stft_losses._turned(ours, theirs, axis)) == pytest.approx(
      np.pi / 2, rel=0.03)


def test_silence_of_the_copy_counts_as_chance():
  real = _pair(0, 24_000)[0]
  config = stft_losses.PhaseConfig(windows=(512,))
  # Of each of the two parts.
  assert float(config.distance(real, 0 * real, RATE)) == pytest.approx(
      np.pi, rel=1e-3)
  assert float(config.distance(real, real, RATE)) < 1e-3


def test_silence_of_the_recording_does_not_count():
  real, fake = _pair(length=9_600)
  real[:, 4_800:] = 0.0
  noisy = fake.copy()
  noisy[:, 4_800 + 512:] = _pair(5, 9_600)[0][:, 4_800 + 512:]
  config = stft_losses.PhaseConfig(windows=(512,))
  values = [float(config.distance(real, x, RATE)) for x in (fake, noisy)]
  assert values[0] == pytest.approx(values[1], rel=1e-4)
  silence = np.zeros_like(real)
  assert float(config.distance(silence, fake, RATE)) == 0.0
  # Loud parts count for more than soft ones.
  loud = real + 0.01 * np.roll(real, 4_800, axis=1)
  louder = float(config.distance(loud, fake, RATE))
  assert louder == pytest.approx(values[0], rel=0.05)


@pytest.mark.parametrize('kind', ['Magnitude', 'Complex', 'Phase'])
def test_gradients_are_finite_in_silence_and_at_equality(kind):
  config = getattr(stft_losses, f'{kind}Config')(windows=(256,))
  gradient = jax.jit(jax.grad(lambda f, r: config.distance(r, f, RATE)))
  real, fake = _pair()
  half = real * (np.arange(LENGTH) > LENGTH // 2)
  choices = [np.zeros_like(real), real, half, 1e-6 * real]
  for one, other in itertools.product(choices, choices):
    assert np.all(np.isfinite(gradient(one, other)))
  assert np.abs(gradient(fake, real)).max() > 0


@pytest.mark.parametrize('kind', ['Complex', 'Phase'])
def test_gradients_lead_downwards(kind):
  config = getattr(stft_losses, f'{kind}Config')(windows=(256,))
  real, fake = _pair()
  both = jax.jit(jax.value_and_grad(lambda f: config.distance(real, f, RATE)))
  value, slope = both(jnp.asarray(fake))
  norm = float(jnp.sqrt(jnp.sum(slope**2)))
  step = 0.02 * float(value) / norm
  lower, _ = both(fake - step * slope / norm)
  # What the slope promises, and some curvature.
  assert 0.3 < (float(value) - float(lower)) / (0.02 * float(value)) < 1.2


def test_waveform_by_hand():
  real = np.array([[0.5, -0.5], [0.0, 1.0]], np.float32)
  fake = np.array([[0.5, 0.5], [0.5, 1.0]], np.float32)
  assert float(losses.waveform(real, fake)) == pytest.approx(
      (1.5 / 4) / (0.5 + 1e-3), rel=1e-5)
