"""A codec with each kind of quantizer: it learns, is kept, streams, goes on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_codec

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax.codecs import container
from musiclm_jax.codecs import streaming
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.nn import quantize

BATCH = small_codec.tones()
PROJECTED = quantize.RvqConfig(
    kind='projected', projected_dim=3, gradient='rotation', init_iters=2,
    init_vectors=64)


def _trainable(rvq=PROJECTED, **changes):
  return small_codec.make(discriminator_start_step=-1, rvq=rvq, **changes)


@pytest.fixture(name='trained', scope='module')
def _trained(tmp_path_factory):
  """(directory, states before and after some steps, the last's metrics)."""
  trainable = _trainable()
  state = jax.jit(trainable.init)(jax.random.key(0), BATCH)
  fresh, update, metrics = state, jax.jit(trainable.update), {}
  for step in range(12):
    state, metrics = update(state, BATCH, jax.random.key(step))
  directory = tmp_path_factory.mktemp('bundle') / 'codec'
  exported = trainable.export(jax.device_get(state))
  bundle.save_component(directory, **dict(
      exported, metadata=dict(steps=12, corpus='tones')))
  return directory, (fresh, state), metrics


def test_entries_and_maps_learn_by_gradient(trained):
  _, (fresh, state), metrics = trained
  own = lambda s: s.params[quantize.PARAMS]
  moved = jax.tree.map(
      lambda a, b: float(jnp.abs(a - b).max()), own(state), own(fresh))
  assert min(moved.values()) > 1e-4, moved
  assert state.rvq.sums == {}
  assert all(np.isfinite(value) for value in metrics.values())
  assert metrics['codebook_perplexity/04'] > 1


def test_a_kept_codec_has_the_codes_of_the_training(trained):
  directory, (_, state), _ = trained
  codec = codec_tokenizer.from_component(bundle.load_component(directory))
  audio = BATCH['audio'][:2]
  (fake, _), quantized = jax.jit(_trainable()._reconstruct)(  # pylint: disable=protected-access
      state.params, state.rvq, audio, jnp.full(2, 4))
  codes = codec.encode(audio)
  assert np.mean(codes == quantized.codes) > 0.98
  np.testing.assert_allclose(
      codec.decode(np.asarray(quantized.codes)), fake, atol=1e-4)
  assert codec.codebooks.shape == (4, 16, 8)


def test_chunks_have_the_codes_of_the_whole(trained):
  codec = codec_tokenizer.from_component(bundle.load_component(trained[0]))
  audio = BATCH['audio'][:2]
  for levels in (4, 2):
    encoder = streaming.Encoder(codec, levels)
    chunks = encoder.stream(np.split(audio, 4, axis=1))
    got = np.concatenate(list(map(np.asarray, chunks)), axis=1)
    assert np.mean(got == codec.encode(audio)[..., :levels]) > 0.98


def test_the_search_is_part_of_the_identity(trained):
  codec = codec_tokenizer.from_component(bundle.load_component(trained[0]))
  own = dict(codec.params[quantize.PARAMS])
  own['down'] = own['down'].at[0, 0, 0].add(1e-3)
  other = codec_tokenizer.Codec(
      codec.config, {**codec.params, quantize.PARAMS: own}, codec.codebooks)
  assert container.identity(other) != container.identity(codec)


def test_a_decoder_that_learns_alone_leaves_codes_as_they_are(trained):
  """Weights that decay included."""
  directory, *_ = trained
  decaying = dataclasses.replace(
      _trainable().optimizer, name='adamw', weight_decay=0.1)
  trainable = _trainable(
      start_from=str(directory), learns='decoder', optimizer=decaying)
  state = jax.jit(trainable.init)(jax.random.key(0), BATCH)
  update = jax.jit(trainable.update)
  for step in range(3):
    state, _ = update(state, BATCH, jax.random.key(step))
  kept = bundle.load_component(directory).tree()
  for part in ('encoder', quantize.PARAMS):
    jax.tree.map(np.testing.assert_array_equal, state.params[part],
                 kept['params'][part])
  np.testing.assert_array_equal(state.rvq.codebooks, kept['codebooks'])
  assert any(np.abs(a - b).max() > 0 for a, b in zip(
      *map(jax.tree.leaves, (state.params['decoder'],
                             kept['params']['decoder']))))


def test_it_goes_on_only_as_it_began(trained):
  directory, *_ = trained
  for rvq in (quantize.RvqConfig(),
              dataclasses.replace(PROJECTED, projected_dim=2)):
    with pytest.raises(errors.UserError, match='learnt in another way'):
      _trainable(rvq, start_from=str(directory)).init(
          jax.random.key(0), BATCH)


@pytest.mark.slow
def test_averages_with_a_gradient_that_is_rotated():
  """Another gradient for the encoder, the same for the decoder."""
  parts = {}
  for gradient in quantize.GRADIENTS:
    trainable = _trainable(quantize.RvqConfig(
        gradient=gradient, init_iters=2, init_vectors=64))
    state = jax.jit(trainable.init)(jax.random.key(0), BATCH)

    def loss(params, trainable=trainable, state=state):
      (fake, _), _ = trainable._reconstruct(  # pylint: disable=protected-access
          params, state.rvq, BATCH['audio'], jnp.full(8, 2))
      return jnp.mean(jnp.square(fake - BATCH['audio']))

    parts[gradient] = jax.jit(jax.grad(loss))(state.params)
  differ = lambda part: max(float(jnp.abs(a - b).max()) for a, b in zip(
      *(jax.tree.leaves(parts[g][part]) for g in quantize.GRADIENTS)))
  scale = lambda part: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(
      parts['straight'][part]))
  assert differ('decoder') < 1e-4 * scale('decoder')
  assert differ('encoder') > 1e-2 * scale('encoder')
