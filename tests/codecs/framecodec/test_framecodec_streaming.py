"""Chunk by chunk equals the whole, whoever looks ahead."""

import functools

import jax
import numpy as np
import pytest
import small_framecodec as small

from musiclm_jax.codecs import streaming
from musiclm_jax.codecs.framecodec import model
from musiclm_jax.nn import quantize
from musiclm_jax.nn import streams

HOP, ROWS, FRAMES = small.HOP, 2, 47
LOOKAHEADS = [(0, 3), (2, 1), (3, 0)]


@functools.cache
def _case(lookahead, shown='magnitudes'):
  """(codec, audio, latents, codes, decoded audio), all of the whole."""
  codec = small.codec(small.config(
      encoder_lookahead=lookahead[0], decoder_lookahead=lookahead[1],
      shown=shown), chunk_frames=32)
  audio = small.noise(FRAMES, ROWS)

  @jax.jit
  def whole(audio):
    apply = functools.partial(codec.model.apply, {'params': codec.params})
    latents = apply(audio, method='encode')
    codes = quantize.rvq_encode(latents, codec.codebooks)
    decoded = apply(
        quantize.rvq_decode(codes, codec.codebooks), method='decode')
    return latents, codes, decoded, apply(audio)

  return (codec, audio, *map(np.asarray, whole(audio)))


@functools.cache
def _streams(lookahead):
  codec = _case(lookahead)[0]
  return streaming.Encoder(codec), streaming.Decoder(codec)


def _chunkings(count):
  for seed in range(count):
    rng, lengths = np.random.default_rng(seed), []
    while sum(lengths) < FRAMES:
      n = int(rng.choice([1, 2, 5]))  # of few lengths: each is compiled
      lengths += [n] if sum(lengths) + n <= FRAMES else [1]
    yield lengths


def _cut(array, lengths, size=1):
  ends = np.cumsum([0, *lengths]) * size
  return [array[:, a:b] for a, b in zip(ends, ends[1:])]


def _same_codes(got, expected):
  """Rounding may turn an entry that is as near as another."""
  assert got.shape == expected.shape and got.dtype == np.int32
  assert np.mean(got == expected) > 0.98


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_a_stream_equals_the_whole(lookahead):
  _, audio, _, codes, decoded, _ = _case(lookahead)
  encoder, decoder = _streams(lookahead)
  assert np.abs(decoded).max() > 0.01, 'silence cannot fail'
  for lengths in [[1] * FRAMES, *_chunkings(3)]:
    got = list(encoder.stream(_cut(audio, lengths, HOP)))
    _same_codes(np.concatenate(got, axis=1), codes)
    sound = list(decoder.stream(_cut(codes, lengths)))
    np.testing.assert_allclose(
        np.concatenate(sound, axis=1), decoded, atol=1e-4)


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_phases_are_counted_on_from_chunk_to_chunk(lookahead):
  codec, audio, latents, *_ = _case(lookahead, 'complex')
  encoder, ahead = streaming.Encoder(codec), lookahead[0]
  for lengths in _chunkings(2):
    state, parts = encoder.init(ROWS), []
    for chunk in _cut(audio, lengths, HOP):
      state, part = encoder.latents(state, chunk)
      parts.append(np.asarray(part))
    np.testing.assert_allclose(np.concatenate(parts, axis=1)[:, ahead:],
                               latents[:, :FRAMES - ahead], atol=1e-4)


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_steps_come_as_late_as_the_lookahead(lookahead):
  """Latents of the whole, `encoder_lookahead` frames later; then its audio."""
  codec, audio, latents, _, _, through = _case(lookahead)
  encoder, decoder = _streams(lookahead)
  assert (encoder.delay_frames, decoder.delay_frames) == lookahead
  state, late = encoder.init(ROWS), []
  for chunk in _cut(audio, [5] * 9 + [2], HOP):
    state, part = encoder.latents(state, chunk)
    late.append(np.asarray(part))
  late = np.concatenate(late, axis=1)
  ahead = lookahead[0]
  np.testing.assert_allclose(
      late[:, ahead:], latents[:, :FRAMES - ahead], atol=1e-4)
  # And without a quantizer from sample to sample: what goes in comes out
  # `latency_samples` later, less the frame that must be full.
  step = jax.jit(lambda state, x: streams.step(
      codec.model, codec.params, state, x, method='decode'))
  state, sound = None, []
  for chunk in _cut(late[:, ahead:], [1] * (FRAMES - ahead)):
    state = state or streams.start(
        codec.model, codec.params, chunk, method='decode')
    part, state = step(state, chunk)
    sound.append(np.asarray(part))
  sound = np.concatenate(sound, axis=1)
  late_by = lookahead[1] * HOP
  count = (FRAMES - ahead) * HOP - late_by
  np.testing.assert_allclose(
      sound[:, late_by:], through[:, :count], atol=1e-4)
  assert late_by + ahead * HOP + HOP == codec.latency_samples


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_a_codec_by_chunks_equals_the_whole(lookahead):
  codec, audio, _, codes, decoded, _ = _case(lookahead)
  assert codec.chunk_frames < FRAMES
  _same_codes(codec.encode(audio), codes)
  np.testing.assert_allclose(codec.decode(codes), decoded, atol=1e-4)
  # Padding of short clips does not reach them.
  short = codec.encode(audio[:, :7 * HOP])
  safe = 7 - lookahead[0]
  assert np.mean(short[:, :safe] == codes[:, :safe]) > 0.98


@pytest.mark.parametrize('lookahead', LOOKAHEADS)
def test_fewer_levels_are_the_first_ones(lookahead):
  codec, audio, _, codes, _, _ = _case(lookahead)
  few = streaming.Encoder(codec, levels=2)
  got = np.concatenate(list(few.stream(_cut(audio, [5] * 9 + [2], HOP))), 1)
  _same_codes(got, codes[..., :2])
  sound = np.concatenate(list(
      _streams(lookahead)[1].stream(_cut(codes[..., :2], [5] * 9 + [2]))), 1)
  np.testing.assert_allclose(sound, codec.decode(codes[..., :2]), atol=1e-4)


LAYERS = {
    'Block': (lambda c: model.Block(3, 3, 0.5), (16,)),
    'Blocks': (lambda c: model.Blocks(12, 2, 3, 3), (16,)),
    'Encoder': (model.Encoder, (HOP,)),
    'Head': (model.Head, (16,)),
    'Decoder': (model.Decoder, (6,)),
}


@pytest.mark.parametrize('name', sorted(LAYERS))
def test_each_layer_streams(name):
  make, width = LAYERS[name]
  config = small.config(encoder_lookahead=0, decoder_lookahead=0)
  module = make(config)
  rng = np.random.default_rng(3)
  x = rng.normal(size=(ROWS, FRAMES, *width)).astype(np.float32)
  if name == 'Encoder':  # of samples
    x = 0.1 * x.reshape(ROWS, -1)
  unit = x.shape[1] // FRAMES
  params = jax.tree.map(
      lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32),
      jax.jit(module.init)(jax.random.key(0), x)['params'])
  whole = np.asarray(jax.jit(module.apply)({'params': params}, x))
  scale = np.abs(whole).max()
  step = jax.jit(lambda state, x: streams.step(module, params, state, x))
  for lengths in _chunkings(2):
    state, got = streams.start(module, params, x[:, :unit]), []
    for chunk in _cut(x, lengths, unit):
      part, state = step(state, chunk)
      got.append(np.asarray(part))
    np.testing.assert_allclose(
        np.concatenate(got, 1) / scale, whole / scale, atol=1e-5)
