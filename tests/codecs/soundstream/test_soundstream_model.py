"""The generator: size, shapes, causality; and the codec around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import specs
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs.soundstream import discriminators
from musiclm_jax.codecs.soundstream import model
from musiclm_jax.nn import quantize

TINY = model.SoundStreamConfig(
    encoder_channels=4, decoder_channels=4, latent_dim=8)
HOP = TINY.spec.hop_samples


def _count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def _shapes(module, samples):
  return jax.eval_shape(
      module.init, jax.random.key(0), jnp.zeros((1, samples)))


@pytest.fixture(scope='module')
def tiny():
  # NumPy's numbers, because compiling a draw for every parameter takes longer
  # than all else here. Biases are not zero: silence must not hide a leak.
  rng = np.random.default_rng(0)

  def draw(x):
    scale = 0.05 if len(x.shape) == 1 else np.prod(x.shape[:-1])**-0.5
    return (rng.normal(size=x.shape) * scale).astype(np.float32)

  shapes = _shapes(model.SoundStream(TINY), HOP)['params']
  return jax.tree.map(draw, shapes)


@pytest.fixture(scope='module')
def tiny_codec(tiny):
  codebooks = jax.random.normal(jax.random.key(2), (12, 1024, 8))
  codebooks *= 0.7**jnp.arange(12)[:, None, None]
  return codec_tokenizer.Codec(TINY, tiny, codebooks, chunk_frames=64)


def test_base_has_the_papers_size():
  params = _shapes(model.SoundStream(model.SoundStreamConfig()), 960)
  assert _count(params) == 8_412_001  # 8.4 M in Table I


@pytest.mark.parametrize('encoder,decoder,millions', [
    (32, 32, 8.4), (16, 16, 2.4), (16, 32, 5.5), (8, 32, 4.8),
    (32, 16, 5.3), (32, 8, 4.4)])
def test_table_1_with_the_papers_strides(encoder, decoder, millions):
  spec = specs.CodecSpec(strides=(2, 4, 5, 8))
  config = model.SoundStreamConfig(
      spec=spec, encoder_channels=encoder, decoder_channels=decoder)
  count = _count(_shapes(model.SoundStream(config), 960))
  assert count / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize('samples', [1, HOP, HOP + 1, 5 * HOP - 1])
def test_frames_of_any_length(tiny, samples):
  module = model.SoundStream(TINY)
  shape = lambda x, method: jax.eval_shape(
      lambda x: module.apply({'params': tiny}, x, method=method), x)
  latents = shape(jax.ShapeDtypeStruct((2, samples), jnp.float32), 'encode')
  assert latents.shape == (2, TINY.spec.num_frames(samples), 8)
  assert shape(latents, 'decode').shape == (2, latents.shape[1] * HOP)


def test_encoder_is_causal_and_its_context_is_exact(tiny):
  context = TINY.encoder_context_frames
  assert context == 16
  frames = context + 8
  apply = jax.jit(lambda x: model.SoundStream(TINY).apply(
      {'params': tiny}, x, method='encode'))
  audio = jax.random.normal(jax.random.key(3), (1, frames * HOP)) * 0.1
  base = np.asarray(apply(audio))
  at = 4
  changed = np.asarray(apply(audio.at[0, at * HOP].add(1.0)))
  moved = np.abs(changed - base).max(-1)[0] > 1e-7
  assert not moved[:at].any() and moved[at]
  assert not moved[at + context + 1:].any()
  # The last sample of a frame reaches the next frame only through the past.
  changed = np.asarray(apply(audio.at[0, at * HOP - 1].add(1.0)))
  assert np.abs(changed - base).max(-1)[0, at - 1] > 1e-7


def test_decoder_is_causal_and_its_context_is_enough(tiny):
  context = TINY.decoder_context_frames
  assert context == 20
  apply = jax.jit(lambda z: model.SoundStream(TINY).apply(
      {'params': tiny}, z, method='decode'))
  latents = jax.random.normal(jax.random.key(4), (1, context + 8, 8))
  base = np.asarray(apply(latents)).reshape(-1, HOP)
  at = 4
  changed = np.asarray(apply(latents.at[0, at].add(1.0))).reshape(-1, HOP)
  moved = np.abs(changed - base).max(-1) > 1e-7
  assert not moved[:at].any() and moved[at]
  assert not moved[at + context + 1:].any()
  assert np.abs(changed - base)[at, 0] > 0  # from its first sample on


def test_chunks_equal_the_whole(tiny_codec):
  rng = np.random.default_rng(0)
  frames = 150  # several chunks of 64 with an odd rest
  audio = (rng.normal(size=(2, frames * HOP - 7)) * 0.1).astype(np.float32)
  whole = model.SoundStream(TINY)
  variables = {'params': tiny_codec.params}
  padded = np.pad(audio, ((0, 0), (0, 7)))
  latents = jax.jit(lambda x: whole.apply(
      variables, x, method='encode'))(padded)
  hop_blocks = padded.reshape(2, frames, HOP)
  chunked = tiny_codec._by_chunks(
      hop_blocks, jax.jit(lambda b: whole.apply(
          variables, b.reshape(2, -1), method='encode')),
      TINY.encoder_context_frames, 0, 'constant')
  np.testing.assert_allclose(chunked, latents, atol=1e-4)
  codes = tiny_codec.encode(audio)
  assert codes.shape == (2, frames, 12) and codes.dtype == np.int32
  decoded = tiny_codec.decode(codes)
  expected = jax.jit(lambda c: whole.apply(
      variables, quantize.rvq_decode(c, tiny_codec.codebooks),
      method='decode'))(codes)
  assert decoded.shape == (2, frames * HOP)
  np.testing.assert_allclose(decoded, expected, atol=1e-4)


def test_decode_from_the_first_levels(tiny_codec):
  rng = np.random.default_rng(1)
  codes = rng.integers(0, 1024, (1, 5, 12))
  few, all_levels = (tiny_codec.decode(codes[..., :q]) for q in (4, 12))
  assert few.shape == all_levels.shape == (1, 5 * HOP)
  assert np.abs(few - all_levels).max() > 1e-3


def test_padding_does_not_change_codes(tiny_codec):
  rng = np.random.default_rng(2)
  audio = (rng.normal(size=(1, 40 * HOP)) * 0.1).astype(np.float32)
  whole = tiny_codec.encode(audio)
  part = tiny_codec.encode(audio[:, :10 * HOP])
  assert np.mean(whole[:, :10] == part) > 0.99


@pytest.mark.parametrize('codes,message', [
    (np.zeros((1, 3, 13), int), '13 levels'),
    (np.full((1, 3, 2), 1024), '1024..1024'),
    (np.zeros((3, 2), int), r'expected \[B, T, q\]'),
    (np.zeros((1, 0, 12), int), 'not empty')])
def test_bad_codes_are_refused(tiny_codec, codes, message):
  with pytest.raises(ValueError, match=message):
    tiny_codec.decode(codes)


def test_component_round_trip(tiny_codec, tmp_path):
  bundle.save_component(
      tmp_path / 'soundstream', 'soundstream', TINY, TINY.spec,
      dict(params=tiny_codec.params, codebooks=tiny_codec.codebooks))
  loaded = codec_tokenizer.from_component(
      bundle.load_component(tmp_path / 'soundstream'))
  assert loaded.config == TINY and loaded.spec == TINY.spec
  audio = np.random.default_rng(3).normal(size=(1, 3 * HOP)) * 0.1
  np.testing.assert_array_equal(loaded.encode(audio), tiny_codec.encode(audio))


def test_discriminators_have_the_papers_shapes():
  config = discriminators.DiscriminatorConfig()
  module = discriminators.Discriminators(config)
  samples = 24_000
  params = _shapes(module, samples)['params']
  logits, features = jax.eval_shape(
      module.apply, {'params': params}, jnp.zeros((2, samples)))
  frames = (samples - 1024) // 256 + 1  # 90: halved three times, rounded up
  assert logits[0].shape == (2, -(-frames // 8))
  # Frequencies 512 / 2^6 and channels 16 C before the logits.
  assert features[0][-1].shape[2:] == (8, 512)
  assert [f.shape[-1] for f in features[1]] == [16, 64, 256, 1024, 1024, 1024]
  assert len(logits) == 4 and logits[1].shape[1] > logits[2].shape[1]
  groups = params['wave_0']['down_3']['direction'].shape
  assert groups == (41, 4, 1024)  # four input channels a group


def test_complex_stft_is_scipys():
  x = np.random.default_rng(0).normal(size=(1, 4096)).astype(np.float32)
  got = np.asarray(discriminators.complex_stft(x, 1024, 256))
  n = np.arange(1024)
  hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 1024)
  frame = np.fft.fft(x[0, 512:512 + 1024] * hann) / np.sqrt((hann**2).sum())
  np.testing.assert_allclose(
      got[0, 2, :, 0] + 1j * got[0, 2, :, 1], frame[:512], atol=1e-4)


def test_layer_norm_is_an_option_and_per_time_step():
  narrow = discriminators.DiscriminatorConfig(stft_channels=2, wave_scales=0)
  with_norm = _shapes(discriminators.Discriminators(narrow), 4096)
  without = _shapes(discriminators.Discriminators(
      dataclasses.replace(narrow, layer_norm=False)), 4096)
  names = lambda tree: set(tree['params']['stft']['unit_0'])
  assert 'norm' in names(with_norm) and 'norm' not in names(without)
  x = np.random.default_rng(1).normal(size=(1, 3, 16, 4)).astype(np.float32)
  norm = discriminators.StftUnit(4, 1, (1, 2), True)
  params = jax.jit(norm.init)(jax.random.key(0), x)
  _, seen = jax.jit(lambda p, x: norm.apply(
      p, x, capture_intermediates=True, mutable=['intermediates']))(params, x)
  got = seen['intermediates']['norm']['__call__'][0]
  expected = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)
  np.testing.assert_allclose(got, expected, atol=1e-3)


def test_halve_averages_four():
  x = np.arange(8, dtype=np.float32)[None]
  # Ends see three samples: padding is not counted.
  np.testing.assert_allclose(
      discriminators.halve(x), [[1.0, 2.5, 4.5, 6.0]])


def test_elu_is_elu():
  x = np.concatenate([-np.logspace(-8, 2, 200), [0.0], np.logspace(-8, 2, 200)])
  x = x.astype(np.float32)
  expected = np.where(x > 0, x, np.expm1(x.astype(np.float64)))
  np.testing.assert_allclose(model.elu(x), expected, atol=1.2e-7)
  slope = jax.vmap(jax.grad(lambda v: model.elu(v)))(x)
  np.testing.assert_allclose(
      slope, np.where(x > 0, 1, np.exp(np.minimum(x, 0))), atol=1.2e-7)
