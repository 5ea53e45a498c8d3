"""Chunk by chunk equals the whole, for any chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import specs
from musiclm_jax.codecs import streaming
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs.soundstream import model
from musiclm_jax.nn import quantize

TINY = model.SoundStreamConfig(
    encoder_channels=4, decoder_channels=4, latent_dim=8)
# Other strides, kernels and dilations: a stream that holds for one set only
# would be tied to it. Small, because each length of chunk is compiled.
SMALL = model.SoundStreamConfig(
    spec=specs.CodecSpec(strides=(4, 6), num_codebooks=6, codebook_size=32),
    encoder_channels=4, decoder_channels=6, latent_dim=6, kernel_size=5,
    latent_kernel_size=4, dilations=(1, 2))
ROWS = 3


def _codec(config):
  @jax.jit
  def init(rng):
    params = model.SoundStream(config).init(
        rng, jnp.zeros((1, config.spec.hop_samples)))['params']
    # Biases away from zero: silence must not hide a wrong past.
    params = jax.tree.map(
        lambda p: p + 0.05 * jax.random.normal(rng, p.shape), params)
    codebooks = jax.random.normal(rng, (
        config.spec.num_codebooks, config.spec.codebook_size,
        config.latent_dim))
    levels = jnp.arange(config.spec.num_codebooks)[:, None, None]
    return params, codebooks * 0.3 * 0.7**levels

  return codec_tokenizer.Codec(config, *init(jax.random.key(0)))


@pytest.fixture(name='codec', scope='module')
def _small_codec():
  return _codec(SMALL)


@pytest.fixture(name='encoder', scope='module')
def _encoder(codec):
  return streaming.Encoder(codec)


@pytest.fixture(name='decoder', scope='module')
def _decoder(codec):
  return streaming.Decoder(codec)


def _whole(codec, frames):
  """audio, latents, codes and decoded audio of a whole signal."""
  hop = codec.spec.hop_samples
  rng = np.random.default_rng(1)
  audio = 0.2 * rng.normal(size=(ROWS, frames * hop)).astype(np.float32)
  module = model.SoundStream(codec.config)

  @jax.jit
  def run(params, codebooks, audio):
    latents = module.apply({'params': params}, audio, method='encode')
    codes = quantize.rvq_encode(latents, codebooks)
    decoded = module.apply(
        {'params': params}, quantize.rvq_decode(codes, codebooks),
        method='decode')
    return latents, codes, decoded

  return (audio, *map(np.asarray, run(codec.params, codec.codebooks, audio)))


@pytest.fixture(name='whole', scope='module')
def _small_whole(codec):
  return _whole(codec, 61)


def _chunkings(frames, choice, count):
  """Drawn lists of chunk lengths, in frames, that add up to `frames`."""
  for seed in range(count):
    rng, lengths = np.random.default_rng(seed), []
    while sum(lengths) < frames:
      n = int(rng.choice(choice))  # of few lengths: each is compiled
      lengths += [n] if sum(lengths) + n <= frames else [1]
    yield lengths


def _check(encoder, decoder, whole, lengths):
  """Streams the signal in chunks of these lengths; compares everything."""
  audio, latents, codes, decoded = whole
  hop = encoder.spec.hop_samples
  states = encoder.init(ROWS), encoder.init(ROWS), decoder.init(ROWS)
  got, at = ([], [], []), 0
  for n in lengths:
    chunk = audio[:, at * hop:(at + n) * hop]
    parts = (encoder.latents(states[0], chunk), encoder.step(states[1], chunk),
             decoder.step(states[2], codes[:, at:at + n]))
    states, outputs = zip(*parts)
    for have, new in zip(got, outputs):
      have.append(np.asarray(new))
    at += n
  got = [np.concatenate(g, axis=1) for g in got]
  assert np.abs(decoded).max() > 0.01, 'silence cannot fail'
  np.testing.assert_allclose(got[0], latents, atol=1e-4)
  assert got[1].shape == codes.shape and got[1].dtype == np.int32
  # Rounding may turn an entry that is as near as another.
  assert np.mean(got[1][..., 0] == codes[..., 0]) > 0.99
  assert np.mean(got[1] == codes) > 0.98
  np.testing.assert_allclose(got[2], decoded, atol=1e-4)


def test_chunks_equal_the_whole(encoder, decoder, whole):
  _check(encoder, decoder, whole, [61])
  _check(encoder, decoder, whole, [1] * 61)
  for lengths in _chunkings(61, [1, 2, 5], 4):
    _check(encoder, decoder, whole, lengths)


@pytest.mark.slow
def test_chunks_equal_the_whole_at_the_default_strides():
  codec = _codec(TINY)
  frames = TINY.decoder_context_frames + 4
  _check(streaming.Encoder(codec), streaming.Decoder(codec),
         _whole(codec, frames), [1, 4, 1, 4, 4, 1, 1, 4, 4])


def test_the_state_is_the_last_inputs_and_nothing_more(
    codec, encoder, decoder):
  config = codec.config
  state = encoder.init(2)
  width, expected = config.encoder_channels, [(config.kernel_size - 1, 1)]
  for stride in config.spec.strides:
    for dilation in config.dilations:
      expected.append(((config.kernel_size - 1) * dilation, width))
    expected.append((stride, width))
    width *= 2
  expected.append((config.latent_kernel_size - 1, width))
  found = sorted(leaf.shape for leaf in jax.tree.leaves(state))
  assert found == sorted((2, *shape) for shape in expected)
  # Decoder: its convolutions, and one step before each transposed one.
  state = decoder.init(2)
  blocks = len(config.spec.strides)
  assert len(jax.tree.leaves(state)) == 2 + blocks * (
      1 + len(config.dilations))
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(state))


def test_a_state_can_be_kept_and_continued_twice(encoder, whole):
  audio, hop = whole[0], encoder.spec.hop_samples
  state, _ = encoder.step(encoder.init(ROWS), audio[:, :2 * hop])
  first = encoder.latents(state, audio[:, 2 * hop:4 * hop])[1]
  encoder.latents(state, -audio[:, :2 * hop])
  again = encoder.latents(state, audio[:, 2 * hop:4 * hop])[1]
  np.testing.assert_array_equal(first, again)
  fresh = encoder.latents(encoder.init(ROWS), audio[:, 2 * hop:4 * hop])[1]
  assert np.abs(first - fresh).max() > 1e-3, 'the past does not matter'


def test_rows_do_not_mix(encoder, whole):
  audio, latents = whole[:2]
  hop = encoder.spec.hop_samples
  state, _ = encoder.latents(encoder.init(1), audio[1:2, :5 * hop])
  _, got = encoder.latents(state, audio[1:2, 5 * hop:10 * hop])
  np.testing.assert_allclose(got[0], latents[1, 5:10], atol=1e-4)


def test_fewer_levels_are_the_first_ones(codec, encoder, decoder, whole):
  audio, hop = whole[0], codec.spec.hop_samples
  few = streaming.Encoder(codec, levels=2)
  _, codes = few.step(few.init(ROWS), audio[:, :5 * hop])
  _, expected = encoder.step(encoder.init(ROWS), audio[:, :5 * hop])
  np.testing.assert_array_equal(codes, expected[..., :2])
  _, low = decoder.step(decoder.init(ROWS), codes)
  np.testing.assert_allclose(low, codec.decode(codes), atol=1e-4)


@pytest.mark.parametrize('samples', [0, 1, -1])
def test_only_whole_frames(encoder, samples):
  size = samples + (encoder.spec.hop_samples if samples else 0)
  with pytest.raises(ValueError, match='expected .B, n '):
    encoder.step(encoder.init(1), np.zeros((1, size), np.float32))


def test_mistakes_in_batch_and_levels_are_named(codec, decoder):
  levels = codec.spec.num_codebooks
  state = decoder.init(2)
  with pytest.raises(ValueError, match='1 rows and the state 2'):
    decoder.step(state, np.zeros((1, 3, levels), int))
  with pytest.raises(ValueError, match=f'1 to {levels}'):
    decoder.step(state, np.zeros((2, 3, levels + 1), int))
  with pytest.raises(ValueError, match=f'1 to {levels}'):
    streaming.Encoder(codec, levels=levels + 1)


def test_the_shipped_codec_streams():
  codec = bundle.Bundle(bundle.shipped()).get('codec')
  hop, seconds = codec.spec.hop_samples, 2
  t = np.arange(seconds * codec.spec.sample_rate_hz) / 24_000
  audio = (0.3 * np.sin(2 * np.pi * 220 * t * (1 + t)))[None].astype(np.float32)
  chunks = lambda x, size: [x[:, i:i + size] for i in range(0, x.shape[1], size)]
  expected = codec.encode(audio)
  codes = np.concatenate(
      list(streaming.Encoder(codec).stream(chunks(audio, 25 * hop))), 1)
  sound = np.concatenate(
      list(streaming.Decoder(codec).stream(chunks(expected, 25))), 1)
  assert codes.shape == expected.shape
  assert np.mean(codes == expected) > 0.99
  np.testing.assert_allclose(sound, codec.decode(expected), atol=1e-4)
