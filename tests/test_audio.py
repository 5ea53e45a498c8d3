"""Audio files and front ends, against SciPy and librosa."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from scipy import signal
import soundfile

from musiclm_jax import audio
from musiclm_jax import audio_stream
from musiclm_jax import errors


@pytest.mark.parametrize('rate', [24_000, 44_100, 16_000])
def test_read_mixes_down_and_resamples(tmp_path, rate):
  t = np.arange(rate) / rate
  left = 0.5 * np.sin(2 * np.pi * 440 * t)
  soundfile.write(tmp_path / 'a.wav', np.stack([left, 0 * left], 1), rate)
  sound = audio.read(tmp_path / 'a.wav', 24_000)
  assert sound.dtype == np.float32 and abs(len(sound) - 24_000) <= 1
  expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / 24_000)
  np.testing.assert_allclose(sound[500:-500], expected[500:-500], atol=2e-3)


def _write(path, samples):
  soundfile.write(path, samples, 24_000, subtype='FLOAT')


@pytest.mark.parametrize('name, make, message', [
    ('missing.wav', lambda p: None, 'does not exist'),
    ('text.wav', lambda p: p.write_text('hello'), 'not readable audio'),
    ('empty.wav', lambda p: _write(p, np.zeros(0)), 'holds no samples'),
    ('nan.wav', lambda p: _write(p, np.full(9, np.nan)), 'NaN'),
    ('three.wav', lambda p: _write(p, np.zeros((9, 3))), '3 channels'),
])
def test_bad_files_are_named_with_the_reason(tmp_path, name, make, message):
  make(tmp_path / name)
  with pytest.raises(errors.UserError, match=message) as error:
    audio.read(tmp_path / name, 24_000)
  assert name in str(error.value) and '\n' not in str(error.value)


def test_write_limits_the_peak_and_never_clips(tmp_path):
  loud = 3 * np.sin(np.arange(2_400) / 10)
  audio.write(tmp_path / 'a.flac', loud, 24_000, {'title': 'loud'})
  with soundfile.SoundFile(tmp_path / 'a.flac') as file:
    assert file.title == 'loud' and file.samplerate == 24_000
    back = file.read()
  np.testing.assert_allclose(back, loud * 0.99 / np.abs(loud).max(), atol=1e-4)
  quiet = np.full(10, 0.1)
  np.testing.assert_array_equal(audio.limit_peak(quiet), np.float32(quiet))


def test_wav_and_flac_hold_the_same_nearest_samples(tmp_path):
  sound = np.random.default_rng(0).uniform(-0.9, 0.9, 999)
  for name in ('a.wav', 'a.flac'):
    audio.write(tmp_path / name, sound, 24_000)
    with audio_stream.Sink(tmp_path / f's{name}', 24_000) as sink:
      sink.write(sound)
      sink.finish()
  found = [soundfile.read(path, dtype='int16')[0]
           for path in sorted(tmp_path.iterdir())]
  assert len(found) == 4
  for samples in found:
    np.testing.assert_array_equal(samples, found[0])
  np.testing.assert_allclose(found[0], sound * 32767, atol=0.51)


def test_write_refuses_before_it_writes(tmp_path):
  with pytest.raises(errors.UserError, match='does not exist'):
    audio.write(tmp_path / 'no' / 'a.wav', np.zeros(9), 24_000)
  with pytest.raises(errors.UserError, match='.wav or .flac'):
    audio.write(tmp_path / 'a.mp3', np.zeros(9), 24_000)
  with pytest.raises(ValueError, match='NaN'):
    audio.write(tmp_path / 'a.wav', np.full(9, np.nan), 24_000)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('rates', [(24_000, 16_000), (16_000, 24_000),
                                   (48_000, 24_000)])
@pytest.mark.parametrize('length', [24_000, 24_007, 500])
def test_resample_equals_scipy(rates, length):
  x = np.random.default_rng(0).normal(size=(2, length)).astype(np.float32)
  divisor = np.gcd(*rates)
  expected = signal.resample_poly(
      x, rates[1] // divisor, rates[0] // divisor, axis=-1)
  found = audio.resample(jnp.asarray(x), *rates)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_compress_equals_the_power_and_its_gradient():
  magnitude = np.array([1e-10, 1e-4, 0.3, 1.0, 7.0], np.float32)
  np.testing.assert_allclose(
      audio.compress(magnitude, 0.15), magnitude**0.15, rtol=2e-6)
  gradient = jax.grad(lambda m: jnp.sum(audio.compress(m, 0.15)))(magnitude)
  np.testing.assert_allclose(gradient, 0.15 * magnitude**-0.85, rtol=2e-6)


def test_frame_equals_slices():
  x = np.arange(1_000.0)
  frames = np.asarray(audio.frame(jnp.asarray(x), 400, 160))
  assert frames.shape == (4, 400)
  for i in range(4):
    np.testing.assert_array_equal(frames[i], x[160 * i:160 * i + 400])
  with pytest.raises(ValueError, match='shorter than a frame'):
    audio.frame(jnp.zeros(399), 400, 160)


def test_log_mel_equals_librosa():
  spec = audio.MelSpec()
  x = np.random.default_rng(1).normal(size=16_000).astype(np.float32)
  pad = (spec.window_samples - spec.hop_samples) // 2
  padded = np.pad(x, (pad, pad))
  frames = librosa.util.frame(
      padded, frame_length=spec.window_samples, hop_length=spec.hop_samples)
  window = signal.get_window('hann', spec.window_samples)
  magnitude = np.abs(np.fft.rfft(frames.T * window, spec.fft_size))
  mels = magnitude @ librosa.filters.mel(
      sr=16_000, n_fft=512, n_mels=64, fmin=60, fmax=7_600, htk=True,
      norm=None).T
  found = audio.log_mel(jnp.asarray(x)[None], spec)[0]
  assert found.shape == (100, 64)
  np.testing.assert_allclose(found, np.log(np.maximum(mels, 1e-5)), atol=1e-3)


@pytest.mark.parametrize('length', [1, 159, 160, 161, 12_345])
def test_log_mel_frame_count(length):
  assert audio.log_mel(jnp.zeros((1, length)), audio.MelSpec()).shape[1] == (
      -(-length // 160))
