"""Training: it learns, it starts its discriminators in time, it exports."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.codecs import losses
from musiclm_jax.codecs import stft_losses
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs import trainer
from musiclm_jax.codecs.soundstream import discriminators
from musiclm_jax.codecs.soundstream import model
from musiclm_jax.nn import quantize
from musiclm_jax.training import optim

SPEC = specs.CodecSpec(num_codebooks=4, codebook_size=32, coarse_codebooks=1)
TINY = trainer.CodecTrainable(
    model=model.SoundStreamConfig(
        spec=SPEC, encoder_channels=4, decoder_channels=4, latent_dim=8,
        dilations=(1,)),
    rvq=quantize.RvqConfig(dropout_rate=0.0, init_iters=2, init_vectors=128),
    discriminator_start_step=-1,
    spectral=losses.SpectralConfig(windows=(256, 1024)),
    weights=trainer.LossWeights(waveform=30.0),
    optimizer=optim.OptimizerConfig(
        name='adam', learning_rate=5e-3, warmup_steps=0, schedule='constant',
        b1=0.8, b2=0.99))
ADVERSARIAL = dataclasses.replace(
    TINY, discriminator_start_step=2,
    spectral=losses.SpectralConfig(windows=(512,)),
    discriminators=discriminators.DiscriminatorConfig(
        stft_channels=1, wave_scales=0))


def _batch(batch=2, seconds=0.2):
  time = np.arange(int(seconds * 24_000)) / 24_000
  rng = np.random.default_rng(0)
  tones = [0.2 * np.sin(2 * np.pi * f * time) for f in (220.0, 330.0)]
  audio = np.stack(tones[:batch]) + rng.normal(size=(batch, len(time))) * 1e-3
  return {'audio': jnp.asarray(audio, jnp.float32)}


def _run(trainable, steps, batch):
  state = jax.jit(trainable.init)(jax.random.key(0), batch)
  update = jax.jit(trainable.update)
  history = []
  for step in range(steps):
    state, metrics = update(state, batch, jax.random.key(step))
    history.append(jax.device_get(metrics))
  return state, history, update


def _fresh(trainable):
  return jax.jit(trainable.init)(jax.random.key(0), _batch())


@pytest.fixture(scope='module')
def learned():
  return _run(TINY, 60, _batch())


def test_overfits_one_batch(learned):
  state, history, _ = learned
  assert int(state.step) == 60
  start = np.mean([m['loss'] for m in history[:3]])
  end = np.mean([m['loss'] for m in history[-5:]])
  assert end < 0.5 * start, (start, end)
  evaluate = jax.jit(TINY.evaluate)
  metrics = evaluate(state, _batch(), jax.random.key(0))
  before = evaluate(_fresh(TINY), _batch(), jax.random.key(0))
  assert metrics['si_sdr'] > before['si_sdr']
  assert metrics['mel_distance'] < before['mel_distance']


def test_metrics_have_every_level(learned):
  metrics = learned[1][-1]
  for level in range(1, 5):
    assert 0 < metrics[f'codebook_usage/{level:02d}'] <= 1
    assert 1 <= metrics[f'codebook_perplexity/{level:02d}'] <= 32
  assert all(np.isfinite(v) for v in metrics.values())


def test_loss_is_the_weighted_sum(learned):
  m = learned[1][-1]
  expected = m['spectral'] + 30.0 * m['waveform'] + 0.25 * m['commitment']
  assert m['loss'] == pytest.approx(expected, rel=1e-5)


def test_codebooks_start_with_the_latents():
  state = _fresh(TINY)
  _, metrics = jax.jit(TINY.update)(state, _batch(), jax.random.key(0))
  latents = jax.jit(lambda p, x: model.SoundStream(TINY.model).apply(
      {'params': p}, x, method='encode'))(state.params, _batch()['audio'])
  assert metrics['commitment'] < 0.5 * jnp.var(latents)


@pytest.mark.slow
def test_discriminators_start_in_time_without_another_compilation():
  state, history, update = _run(ADVERSARIAL, 4, _batch())
  assert [bool(m['adversarial'] > 0) for m in history] == [
      False, False, True, True]
  assert [bool(m['discriminator'] > 0) for m in history] == [
      False, False, True, True]
  assert update._cache_size() == 1
  fresh = _fresh(ADVERSARIAL)
  moved = jax.tree.map(
      lambda a, b: float(jnp.abs(a - b).max()), state.discriminator_params,
      fresh.discriminator_params)
  assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.slow
def test_gradient_equals_that_of_the_whole_loss():
  """The step's gradients by parts against one gradient of the sum."""
  trainable = dataclasses.replace(ADVERSARIAL, discriminator_start_step=0)
  batch = _batch()
  state = _fresh(trainable)
  levels = jnp.full(2, SPEC.num_codebooks)
  apply = lambda x: trainable._discriminators.apply(
      {'params': state.discriminator_params}, x)

  def whole(params):
    (fake, commitment), _ = trainable._reconstruct(
        params, state.rvq, batch['audio'], levels)
    real_features = apply(batch['audio'])[1]
    logits, features = apply(fake)
    level = jnp.mean(jnp.abs(batch['audio'])) + 1e-3
    return (trainable.spectral.distance(batch['audio'], fake, 24_000) +
            30.0 * jnp.mean(jnp.abs(batch['audio'] - fake)) / level +
            losses.hinge_generator(logits) +
            100.0 * losses.feature_matching(real_features, features) +
            0.25 * commitment)

  value, grads = jax.jit(jax.value_and_grad(whole))(state.params)
  norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
  _, metrics = jax.jit(trainable.update)(
      state, batch, jax.random.key(0))
  assert float(metrics['loss']) == pytest.approx(float(value), rel=1e-4)
  assert float(metrics['grad_norm']) == pytest.approx(float(norm), rel=1e-3)


def test_export_gives_a_codec(learned, tmp_path):
  state = jax.device_get(learned[0])
  bundle.save_component(tmp_path / 'c', **TINY.export(state, None))
  loaded = codec_tokenizer.from_component(bundle.load_component(tmp_path / 'c'))
  audio = np.asarray(_batch()['audio'])
  codes = loaded.encode(audio)
  # The bitrate scales: fewer levels are what training with dropout heard.
  for levels in (1, 2, 4):
    fake = TINY._from_levels(
        state.params, state.rvq, jnp.asarray(audio), jnp.full(2, levels))
    np.testing.assert_allclose(
        loaded.decode(codes[..., :levels]), fake, atol=1e-4)
  assert np.abs(loaded.decode(codes[..., :1]) - fake).max() > 1e-3


PARTS = dataclasses.replace(
    TINY, spectral=losses.SpectralConfig(windows=(512,)),
    complex=stft_losses.ComplexConfig(windows=(512,)),
    phase=stft_losses.PhaseConfig(windows=(256,)),
    weights=trainer.LossWeights(
        spectral=0.5, waveform=3.0, complex=2.0, phase=0.25))


@pytest.fixture(name='parts', scope='module')
def _parts():
  """(audio, fake, gradients, metrics) of four losses."""
  audio = np.asarray(_batch()['audio'])
  fake = 0.5 * audio + 0.01
  return audio, fake, *jax.jit(PARTS._reconstruction_gradient)(audio, fake)


def test_losses_that_know_phases_are_options(parts):
  audio, fake, gradients, metrics = parts
  assert set(gradients) == {'spectral', 'waveform', 'complex', 'phase'}
  distances = dict(
      spectral=PARTS.spectral, complex=PARTS.complex, phase=PARTS.phase)

  @jax.jit
  def whole(fake):
    values = {name: distance.distance(audio, fake, 24_000)
              for name, distance in distances.items()}
    total = (0.5 * values['spectral'] + 2.0 * values['complex'] +
             0.25 * values['phase'] + 3.0 * losses.waveform(audio, fake))
    return total, values

  whole, values = jax.grad(whole, has_aux=True)(fake)
  for name, value in values.items():
    assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)
  scale = np.abs(whole).max()
  np.testing.assert_allclose(
      PARTS.weights.combine(gradients), whole, atol=1e-4 * scale)
  total = PARTS.weights.total(dict(metrics, commitment=8.0, grad_norm=5.0))
  expected = 0.25 * 8.0 + sum(getattr(PARTS.weights, name) * value
                              for name, value in metrics.items())
  assert float(total) == pytest.approx(float(expected), rel=1e-6)
  # Off, they are neither computed nor shown.
  assert set(jax.eval_shape(TINY._reconstruction_gradient, audio, fake)[1]) == {
      'spectral', 'waveform'}


def test_the_balancer_gives_them_their_shares(parts):
  gradients = parts[2]
  weights = dataclasses.replace(PARTS.weights, balanced=True)
  expected = sum(
      getattr(weights, name) / 5.75 * g / np.linalg.norm(g)
      for name, g in gradients.items())
  np.testing.assert_allclose(
      weights.combine(gradients), expected, rtol=1e-3, atol=1e-6)


def test_codebooks_that_are_there_are_used_from_the_first_step():
  late = dataclasses.replace(
      TINY, rvq=dataclasses.replace(TINY.rvq, start_step=5))
  assert late._start_step == 5
  for learns in ('all', 'decoder'):
    assert dataclasses.replace(
        late, start_from='bundle/codec', learns=learns)._start_step == 0


def test_crops_shorter_than_a_frame_are_refused():
  with pytest.raises(errors.UserError, match='at least one frame, 480'):
    TINY.init(jax.random.key(0), {'audio': jnp.zeros((1, 100))})
