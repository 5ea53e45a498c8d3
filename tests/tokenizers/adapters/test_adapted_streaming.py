"""Streams of what knows whole signals only, against the whole."""

import numpy as np
import pytest

from musiclm_jax import specs
from musiclm_jax.tokenizers.adapters import codecs
from musiclm_jax.tokenizers.adapters import streaming

HOP = 3
BACK, AHEAD = 4, 2
RATE, FRAMES = 24_000, 25  # samples and frames a second


class Blur:
  """[B, t] -> [B, t * HOP]: each frame hears 4 before it and 2 after it."""

  def __init__(self):
    self.lengths = []

  def __call__(self, frames):
    self.lengths.append(frames.shape[1])
    padded = np.pad(frames, ((0, 0), (BACK, AHEAD)))
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, BACK + 1 + AHEAD, axis=1)
    return np.repeat(windows @ 2.0**np.arange(BACK + 1 + AHEAD), HOP, axis=1)


def cut(signal, sizes):
  edges = np.cumsum([0, *sizes])
  assert edges[-1] == signal.shape[1]
  return [signal[:, a:b] for a, b in zip(edges, edges[1:])]


def streamed(sizes, left=BACK, right=AHEAD, frames=20):
  """(the whole, the parts of a stream, what the function was given)."""
  signal = np.random.default_rng(0).integers(0, 9, (2, frames)).astype(float)
  whole, blur = Blur()(signal), Blur()
  stream = streaming.Overlapping(blur, left, right, outputs_per_frame=HOP)
  return whole, list(stream.stream(cut(signal, sizes))), blur.lengths


@pytest.mark.parametrize('sizes', [
    [20], [1] * 20, [5] * 4, [1, 9, 2, 8], [19, 1]])
def test_a_stream_equals_the_whole(sizes):
  whole, parts, _ = streamed(sizes)
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_too_little_context_shows():
  for left, right in ((BACK - 1, AHEAD), (BACK, AHEAD - 1)):
    whole, parts, _ = streamed([5] * 4, left, right)
    made = np.concatenate(parts, axis=1)
    assert made.shape == whole.shape and (made != whole).any()


def test_what_is_known_comes_at_once_and_the_rest_last():
  _, parts, lengths = streamed([5] * 4)
  assert [p.shape[1] for p in parts] == [3 * HOP, 5 * HOP, 5 * HOP, 5 * HOP,
                                         2 * HOP]
  assert max(lengths) == BACK + AHEAD + 5  # no more is kept than is needed
  _, parts, _ = streamed([1, 1, 18])
  assert [p.shape[1] for p in parts] == [18 * HOP, 2 * HOP]
  _, parts, _ = streamed([5] * 4, right=0)
  assert [p.shape[1] for p in parts] == [5 * HOP] * 4


def test_an_encoder_takes_whole_frames():
  encode = lambda audio: audio[:, ::HOP].astype(int)
  stream = streaming.Overlapping(encode, 2, 0, inputs_per_frame=HOP)
  audio = np.arange(24.0)[None]
  made = list(stream.stream([audio[:, :9], audio[:, 9:]]))
  assert [m.tolist() for m in made] == [[[0, 3, 6]], [[9, 12, 15, 18, 21]]]
  for wrong in (audio[:, :4], audio[0], audio[:, :0]):
    with pytest.raises(ValueError, match=r'\[B, n \* 3\]'):
      list(stream.stream([wrong]))
  assert list(stream.stream([])) == []


def test_streams_of_one_object_do_not_mix():
  stream = streaming.Overlapping(Blur(), BACK, AHEAD, outputs_per_frame=HOP)
  signal = np.arange(12.0)[None]
  first, second = (stream.stream(cut(signal, [6, 6])) for _ in range(2))
  next(first)
  made = list(second)
  np.testing.assert_array_equal(
      np.concatenate(made, axis=1), Blur()(signal))


class Foreign(codecs.Codec):
  """An adapted codec whose model is a few lines of NumPy.

  A code is the size of a frame's first sample, and all samples of a frame are
  its code, with half the code before and, unless it is causal, a third of that
  after it.
  """

  def __init__(self, causal, rate_hz):
    self.causal, self._rate_hz = causal, rate_hz
    self._hop = rate_hz // FRAMES
    self.spec = specs.CodecSpec(
        strides=(RATE // FRAMES,), num_codebooks=3, codebook_size=50,
        coarse_codebooks=1)

  def _encode(self, audio):
    first = np.rint(np.abs(audio[:, ::self._hop]) * 40).astype(np.int32)
    return np.stack([first, first // 2, first // 3], axis=-1)

  def _decode(self, codes):
    levels = np.pad(codes[..., 0] / 50, ((0, 0), (1, 1)))
    mixed = levels[:, 1:-1] + levels[:, :-2] / 2
    if not self.causal:
      mixed = mixed + levels[:, 2:] / 3
    return np.repeat(mixed, self._hop, axis=1).astype(np.float32)


@pytest.mark.parametrize('causal, rate_hz, ahead', [
    (True, RATE, 0), (True, 16_000, 1), (False, RATE, FRAMES)])
def test_an_adapted_codec_by_chunks_equals_the_whole(causal, rate_hz, ahead):
  codec = Foreign(causal, rate_hz)
  hop, rng = codec.spec.hop_samples, np.random.default_rng(1)
  assert (codec.encoder_lookahead, codec.decoder_lookahead) == (ahead, ahead)
  assert codec.latency_samples == (1 + 2 * ahead) * hop
  # Slow enough to be the same after resampling; longer than the context.
  audio = np.repeat(rng.uniform(0, 1, (1, 13 * FRAMES)), hop, axis=1)
  codes = codec.encode(audio)
  assert codes.shape == (1, 13 * FRAMES, 3)
  heard = list(codec.stream_encoder(2).stream(
      cut(audio, [FRAMES * hop] * 13)))
  assert heard[0].shape == (1, FRAMES - ahead, 2) or ahead == FRAMES
  np.testing.assert_array_equal(
      np.concatenate(heard, axis=1), codes[..., :2])
  sound = list(codec.stream_decoder().stream(cut(codes, [FRAMES] * 13)))
  np.testing.assert_allclose(
      np.concatenate(sound, axis=1), codec.decode(codes), atol=1e-5)
  for levels in (0, 4):
    with pytest.raises(ValueError, match=f'levels is {levels}; expected 1 to 3'):
      codec.stream_encoder(levels)
