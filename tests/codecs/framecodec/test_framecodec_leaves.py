"""Leaves of the codec at the frame rate: they build and have their sizes."""

import re

import jax
import jax.numpy as jnp
import pytest
import untrained_codec

from musiclm_jax import configs
from musiclm_jax.codecs.framecodec import discriminators

SIZES = ['tiny', 'demo', 'demo_decoder', 'gpu', 'base']


def _load(size, *more):
  bindings = ["MODEL_DIR = '/nowhere'", "CORPUS_DIR = '/nowhere'", *more]
  return configs.load(f'framecodec_{size}', bindings).arguments


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  return untrained_codec.save(
      tmp_path_factory.mktemp('bundle') / 'codec', _load('demo')['trainable'].model)


@pytest.mark.parametrize('size', SIZES)
def test_the_header_states_the_number_of_parameters(size, trained):
  more = [f"START_FROM = '{trained}'"] if size == 'demo_decoder' else []
  trainable = _load(size, *more)['trainable']
  batch = dict(audio=jax.ShapeDtypeStruct((2, 24_000), jnp.float32))
  state = jax.eval_shape(trainable.init, jax.random.key(0), batch)
  text = configs.resolve(f'framecodec_{size}').read_text()
  header = re.search(r'Parameters: ([\d,]+), and ([\d,]+) in the codebooks'
                     r'(?:; ([\d,]+) in the discriminators)?', text)
  number = lambda text: int((text or '0').replace(',', ''))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert (count(state.params), state.rvq.codebooks.size,
          count(state.discriminator_params)) == tuple(
              number(header[i]) for i in (1, 2, 3))


def test_base_is_large_and_fills_a_matrix_unit():
  trainable = _load('base')['trainable']
  config = trainable.model
  params = jax.eval_shape(
      config.build().init, jax.random.key(0),
      jnp.zeros((1, config.spec.hop_samples)))['params']
  total = sum(x.size for x in jax.tree.leaves(params))
  total += config.latent_dim * config.spec.num_codebooks * (
      config.spec.codebook_size)
  assert 20e6 < total < 24e6
  widths = (config.encoder_dim, config.decoder_dim, config.latent_dim,
            trainable.discriminators.width)
  assert all(width % 128 == 0 for width in widths)
  assert config.fourier == 'fft'
  assert trainable.discriminators.fourier == 'product'


@pytest.mark.parametrize('size', SIZES)
def test_one_binding_turns_the_discriminators_on_or_off(size, trained):
  step = 'trainer.CodecTrainable.discriminator_start_step = '
  more = [f"START_FROM = '{trained}'"] if size == 'demo_decoder' else []
  trainable = _load(size, *more)['trainable']
  assert trainable.adversarial == (size == 'demo_decoder')
  off, on = (_load(size, *more, step + when)['trainable']
             for when in ('-1', '7'))
  assert not off.adversarial and on.adversarial
  assert isinstance(on.discriminators, discriminators.DiscriminatorConfig)
  assert on.discriminator_optimizer.learning_rate > 0
  assert [g.name for g in on.gates()][-1] == 'discriminator_runaway'


def test_the_second_phase_quantises_from_its_first_step(trained):
  demo = _load('demo')['trainable']
  second = _load('demo_decoder', f"START_FROM = '{trained}'")['trainable']
  assert second.learns == 'decoder' and second.model == demo.model
  # The demo's codes come late; here they are there.
  assert demo._start_step == demo.rvq.start_step > 0
  assert second._start_step == 0


def test_losses_and_changes_of_the_audio_are_reached_by_bindings():
  trainable = _load(
      'demo', 'trainer.LossWeights.complex = 2.0',
      'trainer.LossWeights.phase = 0.5',
      'stft_losses.ComplexConfig.windows = (512, 2048)',
      'stft_losses.PhaseConfig.delay_weight = 0.0',
      'augment.AugmentConfig.gain_db = (0.0, 0.0)',
      'augment.AugmentConfig.mixed_share = 0.0')['trainable']
  assert (trainable.weights.complex, trainable.weights.phase) == (2.0, 0.5)
  assert trainable.complex.windows == (512, 2048)
  assert trainable.phase.delay_weight == 0.0
  assert not trainable.augment.active
  assert _load('tiny')['trainable'].augment.active
