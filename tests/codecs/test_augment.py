"""What is done to training audio: gains, mixtures, and nothing by default."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_codec

from musiclm_jax import errors
from musiclm_jax.codecs import augment

AUDIO = 0.5 * small_codec.tones(batch=64)['audio']


def _apply(key=0, audio=AUDIO, **settings):
  config = augment.AugmentConfig(**settings)
  return np.asarray(config.apply(jax.random.key(key), jnp.asarray(audio)))


def test_by_default_nothing_is_done():
  given = jnp.asarray(AUDIO)
  assert augment.AugmentConfig().apply(jax.random.key(0), given) is given
  assert not augment.AugmentConfig().active


def test_gains_are_drawn_between_their_ends():
  got = _apply(gain_db=(-12.0, 3.0))
  ratio = (got * AUDIO).sum(1) / (AUDIO * AUDIO).sum(1)
  np.testing.assert_allclose(got, ratio[:, None] * AUDIO, atol=1e-6)
  decibels = 20 * np.log10(ratio)
  assert -12 <= decibels.min() < -9 and 0 < decibels.max() <= 3
  assert np.mean(decibels) == pytest.approx(-4.5, abs=1.5)
  fixed = _apply(gain_db=(-6.0, -6.0))
  np.testing.assert_allclose(fixed, AUDIO * 10**(-0.3), rtol=1e-5)


def test_a_share_is_mixed_with_the_one_before():
  got = _apply(mixed_share=0.25)
  before = np.roll(AUDIO, 1, axis=0)
  mixed = np.abs(got - AUDIO).max(1) > 0
  assert 6 <= mixed.sum() <= 28
  np.testing.assert_allclose(
      got, AUDIO + mixed[:, None] * before, atol=1e-6)
  everyone = _apply(mixed_share=1.0, gain_db=(-6.0, -6.0))
  np.testing.assert_allclose(
      everyone, (AUDIO + before) * 10**(-0.3), rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(
      _apply(audio=AUDIO[:1], mixed_share=1.0), AUDIO[:1])


def test_it_is_a_function_of_the_key():
  settings = dict(gain_db=(-6.0, 3.0), mixed_share=0.5)
  np.testing.assert_array_equal(_apply(1, **settings), _apply(1, **settings))
  assert np.abs(_apply(1, **settings) - _apply(2, **settings)).max() > 0.01


def test_nothing_leaves_full_scale_and_silence_stays():
  loud = AUDIO / np.abs(AUDIO).max(1, keepdims=True)
  loud[0] = 0.0
  got = _apply(audio=loud, gain_db=(6.0, 6.0))
  assert not got[0].any()
  # Scaled, not clipped.
  np.testing.assert_allclose(got[1:], loud[1:], atol=1e-6)
  np.testing.assert_allclose(np.abs(got[1:]).max(1), 1.0, rtol=1e-6)


@pytest.mark.parametrize('settings', [
    dict(gain_db=(3.0, -3.0)), dict(gain_db=(1.0,)), dict(mixed_share=1.5),
    dict(gain_db=(float('nan'), 0.0)), dict(mixed_share=-0.1)])
def test_bad_settings_are_one_line(settings):
  with pytest.raises(errors.UserError, match=next(iter(settings))) as caught:
    augment.AugmentConfig(**settings)
  assert '\n' not in str(caught.value)


def test_training_batches_are_changed_and_no_others(monkeypatch):
  """By shapes alone: nothing is computed."""
  heard = []

  def apply(self, rng, audio):
    heard.append(audio.shape)
    return audio

  codec = small_codec.make(discriminator_start_step=-1)
  batch, key = small_codec.tones(samples=810), jax.random.key(0)
  state = jax.eval_shape(codec.init, key, batch)
  monkeypatch.setattr(augment.AugmentConfig, 'apply', apply)
  jax.eval_shape(codec.evaluate, state, batch, key)
  assert not heard
  jax.eval_shape(codec.update, state, batch, key)
  assert heard == [(8, 800)]  # whole frames
