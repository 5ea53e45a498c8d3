"""The leaves of SoundStream: they parse, build and have their sizes."""

import re

import jax
import jax.numpy as jnp
import pytest
import untrained_codec

from musiclm_jax import configs


@pytest.mark.parametrize(
    'size', ['tiny', 'demo', 'demo_decoder', 'gpu', 'base'])
def test_the_header_states_the_number_of_parameters(size, tmp_path):
  leaf = f'soundstream_{size}'
  bindings = dict(MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')
  if size == 'demo_decoder':
    demo = configs.load('soundstream_demo', bindings).arguments['trainable']
    bindings['START_FROM'] = str(
        untrained_codec.save(tmp_path / 'codec', demo.model))
  trainable = configs.load(leaf, bindings).arguments['trainable']
  batch = dict(audio=jax.ShapeDtypeStruct((2, 24_000), jnp.float32))
  state = jax.eval_shape(trainable.init, jax.random.key(0), batch)
  header = re.search(r'Parameters: ([\d,]+), and ([\d,]+) in the codebooks',
                     configs.resolve(leaf).read_text())
  count = sum(x.size for x in jax.tree.leaves(state.params))
  assert count == int(header[1].replace(',', ''))
  assert state.rvq.codebooks.size == int(header[2].replace(',', ''))
  in_discriminators = sum(
      x.size for x in jax.tree.leaves(state.discriminator_params))
  stated = re.search(r'([\d,]+) in the discriminators',
                     configs.resolve(leaf).read_text())
  if stated:
    assert in_discriminators == int(stated[1].replace(',', ''))
  if size == 'demo':
    assert count + state.rvq.codebooks.size < 2_500_000


def test_base_trains_as_the_paper_says():
  trainable = configs.load(
      'soundstream_base', dict(MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')
  ).arguments['trainable']
  weights, shape = trainable.weights, trainable.discriminators
  assert (weights.spectral, weights.adversarial, weights.feature) == (1, 1, 100)
  assert weights.commitment == 0.25 and not weights.balanced
  assert (shape.stft_channels, shape.window_samples, shape.hop_samples) == (
      32, 1024, 256)
  assert (shape.wave_scales, shape.wave_channels) == (3, 16)
  assert (trainable.rvq.decay, trainable.rvq.dropout_rate) == (0.99, 1.0)
  assert trainable.spectral.windows == (64, 128, 256, 512, 1024, 2048)
  assert trainable.model.spec.strides == (3, 4, 5, 8)


def test_settings_of_the_discriminators_are_reached_by_bindings():
  arguments = configs.load('soundstream_gpu', [
      "MODEL_DIR = '/nowhere'", "CORPUS_DIR = '/nowhere'",
      'trainer.LossWeights.balanced = True',
      'trainer.CodecTrainable.discriminator_update_probability = 0.67',
      "runaway.RunawayConfig.action = 'stop'",
      'MAX_ROLLBACKS = 1', 'PREVIEW_CLIPS = 0']).arguments
  trainable = arguments['trainable']
  assert trainable.weights.balanced
  assert trainable.discriminator_update_probability == 0.67
  assert [g.action for g in trainable.gates()] == ['stop', 'stop']
  assert arguments['recovery'].max_rollbacks == 1
  assert arguments['preview_clips'] == 0
