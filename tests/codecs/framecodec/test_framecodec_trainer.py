"""Training the codec at the frame rate: it learns, and its decoder alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_framecodec as small

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax.codecs import stft_losses
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs import trainer
from musiclm_jax.codecs.framecodec import discriminators
from musiclm_jax.codecs.framecodec import spectra
from musiclm_jax.training import optim

BATCH = small.tones()
STEPS = 60


def _run(trainable, steps):
  state = jax.jit(trainable.init)(jax.random.key(0), BATCH)
  update, history = jax.jit(trainable.update), []
  for step in range(steps):
    state, metrics = update(state, BATCH, jax.random.key(step))
    history.append(jax.device_get(metrics))
  return jax.device_get(state), history


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  """(directory, state, metrics of each step) of a short training."""
  trainable = small.trainable()
  state, history = _run(trainable, STEPS)
  directory = tmp_path_factory.mktemp('bundle') / 'codec'
  bundle.save_component(directory, **trainable.export(state))
  return directory, state, history


def test_it_learns(trained):
  _, state, history = trained
  assert int(state.step) == STEPS
  losses = [m['spectral'] for m in history]
  assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
  assert all(np.isfinite(v) for m in history for v in m.values())


def test_what_it_exports_is_a_codec(trained):
  directory, state, _ = trained
  loaded = codec_tokenizer.from_component(bundle.load_component(directory))
  assert loaded.config == small.config()
  audio = BATCH['audio']
  codes = loaded.encode(audio)
  for levels in (1, 4):
    expected = small.trainable()._from_levels(
        state.params, state.rvq, audio, jnp.full(len(audio), levels))
    np.testing.assert_allclose(
        loaded.decode(codes[..., :levels]), expected, atol=1e-4)


def test_the_decoder_alone_keeps_the_codes_bit_for_bit(trained):
  """Against discriminators, which is the second phase."""
  directory, state, _ = trained
  second = small.trainable(
      start_from=str(directory), learns='decoder',
      rvq=dataclasses.replace(small.trainable().rvq, start_step=1_000),
      discriminators=discriminators.DiscriminatorConfig(
          windows=(128,), width=8, dilations=(1,)),
      discriminator_start_step=1,
      weights=trainer.LossWeights(adversarial=0.1, feature=0.1),
      discriminator_optimizer=optim.OptimizerConfig(
          name='adam', learning_rate=1e-3, warmup_steps=0,
          schedule='constant'))
  later, history = _run(second, 4)
  jax.tree.map(np.testing.assert_array_equal, later.params['encoder'],
               state.params['encoder'])
  np.testing.assert_array_equal(later.rvq.codebooks, state.rvq.codebooks)
  kernels = [s.params['decoder']['head']['phase']['kernel']
             for s in (state, later)]
  assert np.abs(kernels[0] - kernels[1]).max() > 0
  assert [m['adversarial'] > 0 for m in history] == [False, True, True, True]
  # Its codes are used from the first step on, whatever the recipe says of
  # codebooks that must first be made.
  assert history[0]['spectral'] < 1.5 * trained[2][-1]['spectral']
  component = second.export(later)
  config = small.config()
  both = [codec_tokenizer.Codec(config, p, state.rvq.codebooks)
          for p in (state.params, component['weights']['params'])]
  codes = [c.encode(BATCH['audio']) for c in both]
  np.testing.assert_array_equal(*codes)
  assert component['metadata']['learned'] == 'decoder'


@pytest.mark.parametrize('change, said', [
    (dict(decoder_dim=24), 'decoder_dim: 16, expected 24'),
    (dict(encoder_blocks=1), 'encoder_blocks: 2, expected 1')])
def test_another_shape_cannot_go_on_from_it(trained, change, said):
  other = small.trainable(
      model=small.config(**change), start_from=str(trained[0]))
  with pytest.raises(errors.UserError, match=said) as caught:
    jax.eval_shape(other.init, jax.random.key(0), BATCH)
  assert '\n' not in str(caught.value)


def test_crops_shorter_than_a_frame_are_refused():
  with pytest.raises(errors.UserError, match=f'one frame, {small.HOP}'):
    small.trainable().init(
        jax.random.key(0), {'audio': jnp.zeros((1, small.HOP - 1))})


# ---- discriminators ----

CONFIG = discriminators.DiscriminatorConfig(
    windows=(64, 128), bands=2, width=8, dilations=(1, 2))


def test_discriminators_have_a_logit_for_each_frame_and_band():
  module, audio = CONFIG.build(), jnp.zeros((3, 1_024))
  params = jax.eval_shape(module.init, jax.random.key(0), audio)['params']
  logits, features = jax.eval_shape(module.apply, {'params': params}, audio)
  # One more frame than hops: half a window of zeros stands at either end.
  assert [x.shape for x in logits] == [(3, 65)] * 2 + [(3, 33)] * 2
  assert [[f.shape[-1] for f in fs] for fs in features] == [[8] * 3] * 4
  # Bins are channels: a band of 16 bins, two parts each, three frames.
  first = params['window_64_band_0']['first']['map']['kernel']
  assert first.shape == (16 * 2 * 3, 8)
  # Products alone: no convolution of any kind.
  program = str(jax.make_jaxpr(
      lambda p: module.apply({'params': p}, audio))(
          jax.tree.map(lambda x: jnp.zeros(x.shape), params)))
  assert 'dot_general' in program and 'conv_general' not in program


def test_a_layer_is_a_convolution_over_time():
  layer = discriminators.Layer(5, dilation=2)
  x = np.random.default_rng(0).normal(size=(2, 9, 4)).astype(np.float32)
  params = layer.init(jax.random.key(0), x)['params']
  kernel = np.asarray(params['map']['kernel']).reshape(3, 4, 5)
  padded = np.pad(x, ((0, 0), (2, 2), (0, 0)))
  expected = sum(padded[:, 2 * i:2 * i + 9] @ kernel[i] for i in range(3))
  np.testing.assert_allclose(
      layer.apply({'params': params}, x), expected, atol=1e-5)


def test_they_hear_compressed_spectra_with_their_phases():
  audio = small.noise(8, rows=1)
  got = np.asarray(discriminators.compressed(audio, 128))
  padded = np.pad(audio, ((0, 0), (64, 64)))
  real, imaginary = spectra.spectrum(padded[:, 96:96 + 128])
  spectrum = (np.asarray(real) + 1j * np.asarray(imaginary))[0, :-1]
  expected = 8 * np.abs(spectrum)**0.3 * np.exp(1j * np.angle(spectrum))
  np.testing.assert_allclose(
      got[0, 3, :, 0] + 1j * got[0, 3, :, 1], expected, atol=1e-2)
  np.testing.assert_allclose(
      discriminators.compressed(audio, 128, 'product'), got, atol=1e-2)


def test_they_may_be_shown_magnitudes_alone():
  """Then a sound and its mirror image are one to them."""
  audio = small.noise(8, rows=1)
  parts = np.asarray(discriminators.compressed(audio, 128))
  got = discriminators.compressed(audio, 128, shown='magnitudes')
  np.testing.assert_allclose(
      got[..., 0], np.linalg.norm(parts, axis=-1), atol=1e-3)
  for shown, differ in (('complex', True), ('magnitudes', False)):
    module = dataclasses.replace(CONFIG, shown=shown).build()
    params = jax.jit(module.init)(jax.random.key(0), audio)
    (one, _), (other, _) = (module.apply(params, x) for x in (audio, -audio))
    assert differ == any(
        np.abs(a - b).max() > 1e-3 for a, b in zip(one, other))
  with pytest.raises(errors.UserError, match='known: complex, magnitudes'):
    discriminators.DiscriminatorConfig(shown='phases')


@pytest.mark.parametrize('shown', discriminators.SHOWN)
def test_their_gradients_are_finite_on_silence(shown):
  module = dataclasses.replace(CONFIG, shown=shown).build()
  params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 512)))['params']
  slope = jax.jit(jax.grad(lambda x: sum(
      jnp.mean(x) for x in module.apply({'params': params}, x)[0])))
  assert np.all(np.isfinite(slope(jnp.zeros((1, 512)))))
  assert np.abs(slope(small.noise(8)[:1, :512])).max() > 0


@pytest.mark.parametrize('changes', [
    dict(windows=(510,)), dict(windows=(512,), bands=3)])
def test_bands_must_divide_the_bins(changes):
  with pytest.raises(ValueError, match='windows are'):
    discriminators.DiscriminatorConfig(**changes)


@pytest.mark.parametrize('kind', ['Complex', 'Phase'])
def test_it_trains_with_losses_that_know_phases(kind):
  """Two steps, balanced with the magnitudes."""
  name = kind.lower()
  config = getattr(stft_losses, f'{kind}Config')(windows=(256,))
  trainable = small.trainable(
      weights=trainer.LossWeights(balanced=True, **{name: 1.0}),
      **{name: config})
  _, history = _run(trainable, 2)
  assert all(np.isfinite(v) for m in history for v in m.values())
  assert history[0][name] > 0.1
