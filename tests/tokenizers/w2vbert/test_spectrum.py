"""The auxiliary task's spectra: against sums written out, levels, padding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import configs
from musiclm_jax.tokenizers.w2vbert import losses
from musiclm_jax.tokenizers.w2vbert import model
from musiclm_jax.tokenizers.w2vbert import spectrum
from musiclm_jax.tokenizers.w2vbert import tokenizer
from musiclm_jax.tokenizers.w2vbert import trainer

SPEC = spectrum.ConstantQSpec()
MELS = model.W2vBertConfig().mel_spec()


def noise(seconds=1, rate=16_000, seed=0):
  return np.random.default_rng(seed).normal(
      size=(1, seconds * rate)).astype(np.float32)


def test_bins_against_the_definition():
  """One frame, bin by bin, as Brown writes it, without a matrix."""
  signal = noise()
  found = np.asarray(spectrum.magnitudes(signal, SPEC))[0]
  frame, rate = 12, SPEC.sample_rate_hz
  quality = 1 / (2**(1 / 12) - 1)
  centre = (frame + 0.5) * SPEC.hop_samples - 0.5
  for k in (0, 20, 71):
    frequency = 65.406 * 2**(k / 12)
    half = quality * rate / frequency / 2
    inside = np.arange(int(np.ceil(centre - half)), int(centre + half) + 1)
    inside = inside[np.abs(inside - centre) < half]
    window = 0.5 + 0.5 * np.cos(np.pi * (inside - centre) / half)
    wave = np.exp(-2j * np.pi * frequency * (inside - centre) / rate)
    expected = 2 * np.abs((signal[0, inside] * window * wave).sum()
                          / window.sum())
    np.testing.assert_allclose(found[frame, k], expected, rtol=1e-4)


def test_a_tone_stands_in_its_semitone():
  seconds = np.arange(16_000) / 16_000
  for k in (12, 40, 60):
    tone = 0.5 * np.sin(2 * np.pi * SPEC.frequencies()[k] * seconds)
    found = np.asarray(spectrum.magnitudes(
        tone[None].astype(np.float32), SPEC))[0, 12]
    assert found.argmax() == k
    np.testing.assert_allclose(found[k], 0.5, rtol=1e-3)
    assert found[k + 2] < 0.1 * found[k]


def test_frames_and_their_number():
  for samples in (1, 639, 640, 641, 16_000):
    found = spectrum.targets(np.zeros((2, samples), np.float32), SPEC, MELS)
    assert found.shape == (2, -(-samples // 640), 72 + MELS.num_mels)
    np.testing.assert_allclose(found, 0.0, atol=1e-5)  # silence


def test_loudness_does_not_matter_and_padding_neither():
  signal = noise(2)
  found = np.asarray(spectrum.targets(signal, SPEC, MELS))
  np.testing.assert_allclose(found[..., :72].mean(), 1.0, rtol=0.05)
  np.testing.assert_allclose(found[..., 72:].mean(), 1.0, rtol=0.05)
  quiet = np.asarray(spectrum.targets(0.1 * signal, SPEC, MELS))
  np.testing.assert_allclose(quiet, found, rtol=0.1, atol=0.1)
  padded = np.pad(signal, ((0, 0), (0, 16_000)))
  longer = np.asarray(spectrum.targets(
      padded, SPEC, MELS, jnp.array([signal.shape[1]])))
  np.testing.assert_allclose(longer[:, :50], found, atol=1e-5)
  assert not np.any(longer[:, 50:])


def test_unexplained_against_hand():
  truth = np.array([[[0.0], [2.0], [9.0]]])
  mask = np.array([[True, True, False]])
  of = lambda predicted: float(losses.unexplained(
      np.array(predicted, np.float32).reshape(1, 3, 1), truth, mask))
  assert of([1, 1, 0]) == pytest.approx(1.0)  # the mean
  assert of([0, 2, 0]) == pytest.approx(0.0)
  assert of([0, 1, 0]) == pytest.approx(0.5)


def _small(**settings):
  return model.W2vBertConfig(
      num_mels=16, conv_channels=(4, 4), dim=16, num_heads=2, mlp_dim=32,
      position='rotary', contrastive_blocks=1, prediction_blocks=2,
      feature_block=1, codebook_size=8, codebook_dim=16, num_clusters=4,
      dropout_rate=0.0, **settings)


def test_the_task_is_learned_and_counts():
  """A gradient step lowers the share that is not explained."""
  config = _small(spectrum_weight=1.0, spectrum_input=True)
  trained = trainer.W2vBertTrainable(model=config)
  batch = {'audio': noise(1, 24_000)}
  state = trained.init(jax.random.key(0), batch)
  assert state.params['spectrum']['kernel'].shape == (16, 72 + 16)
  before = trained.evaluate(state, batch, jax.random.key(1))
  loss = lambda params: trained.evaluate(
      state.replace(params=params), batch, jax.random.key(1))
  grads = jax.grad(lambda p: loss(p)['loss'])(state.params)
  assert np.any(grads['encoder']['project_spectrum']['kernel'])
  after = loss(jax.tree.map(lambda p, g: p - 0.01 * g, state.params, grads))
  assert after['spectrum_unexplained'] < before['spectrum_unexplained']
  plain = dataclasses.replace(config, spectrum_weight=0.0)
  without = trainer.W2vBertTrainable(model=plain).evaluate(
      state, batch, jax.random.key(1))
  assert 'spectrum_unexplained' not in without
  np.testing.assert_allclose(
      before['loss'] - before['spectrum_unexplained'], without['loss'],
      rtol=1e-4)


def test_padding_changes_no_feature_with_the_spectrum_as_input():
  config = _small(spectrum_input=True)
  params = model.W2vBert(config).init(
      jax.random.key(0), noise(1, 24_000), method='features')['params']
  extract = tokenizer.FeatureExtractor(config, params)
  signal = noise(1, 24_000)
  alone = np.asarray(extract(signal, np.array([24_000])))
  padded = np.asarray(extract(
      np.pad(signal, ((0, 0), (0, 24_000))), np.array([24_000])))
  np.testing.assert_allclose(padded[:, :25], alone, atol=1e-4)


def test_the_paper_size_has_neither():
  config = configs.load('w2vbert_base', [
      "MODEL_DIR = 'x'", "CORPUS_DIR = 'y'"]).arguments['trainable'].model
  assert config.spectrum_weight == 0.0 and not config.spectrum_input
