"""Long tracks in stretches: the codes of the whole, bit for bit."""

import dataclasses

import fake_tokens
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_framecodec
import tiny_w2vbert

from musiclm_jax import specs
from musiclm_jax.nn import resnet
from musiclm_jax.tokenizers import stretches
from musiclm_jax.tokenizers.melody import embedder as melody_embedder
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.mulan import embedder as mulan_embedder
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.notes import embedder as notes_embedder
from musiclm_jax.tokenizers.notes import model as notes_model
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer
from musiclm_jax.tokens import shards

_TOKENS = specs.TokenSpec()
_RATE = 24_000


def drawn(module, *inputs, **options):
  """Parameters of a module, drawn by NumPy: nothing is compiled."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
      lambda: module.init(jax.random.key(0), *inputs, **options))['params']
  return jax.tree.map(
      lambda x: (rng.normal(size=x.shape) * max(
          1, np.prod(x.shape[:-1]))**-0.5).astype(np.float32), shapes)


def sound(seconds, rate=_RATE):
  """Chords and some noise; samples, and what reads them."""
  rng = np.random.default_rng(1)
  audio = tiny_w2vbert.play(1, seconds * rate / 24_000)[0][:seconds * rate]
  audio = audio + 0.01 * rng.normal(size=len(audio)).astype(np.float32)
  heard = []

  def read(start, count):
    assert 0 <= start and start + count <= len(audio), 'beyond the track'
    heard.append(count)
    return audio[start:start + count]

  return audio, read, heard


@pytest.mark.parametrize('ahead', [0, 3])
@pytest.mark.parametrize('frames', [40, 64, 170, 401, 1000])
def test_the_codec_by_stretches_is_the_codec(monkeypatch, ahead, frames):
  monkeypatch.setattr(stretches, '_CHUNKS', 3)
  config = small_framecodec.config(encoder_lookahead=ahead)
  codec = small_framecodec.codec(config, chunk_frames=64)
  hop = config.spec.hop_samples
  audio, read, heard = sound(10, small_framecodec.RATE)
  found = stretches.acoustic(codec, read, frames * hop)
  if frames < 64:  # a track that short is never encoded so
    whole = codec.encode(np.pad(audio[:frames * hop], (0, 24 * hop))[None])
  else:
    whole = codec.encode(audio[None, :frames * hop])
  np.testing.assert_array_equal(found, whole[0, :frames])
  assert len(np.unique(found)) > 8
  assert max(heard) <= 64 * 3 * hop


def test_a_codec_of_others_is_asked_for_its_stream():
  own = small_framecodec.codec(small_framecodec.config(), chunk_frames=64)

  @dataclasses.dataclass
  class Other:
    spec: specs.CodecSpec

    def stream_encoder(self):
      return own.stream_encoder()

  seconds = 35  # more than a block
  audio, read, _ = sound(seconds, small_framecodec.RATE)
  found = stretches.acoustic(Other(own.spec), read, len(audio))
  assert found.shape == (seconds * 100, 4)
  assert np.mean(found == own.encode(audio[None])[0]) > 0.999


@pytest.fixture(name='semantic', scope='module')
def semantic_fixture():
  """An untrained tokenizer, of which all tokens occur."""
  config = dataclasses.replace(tiny_w2vbert.TINY, conv_channels=(2, 2))
  params = drawn(
      w2vbert_model.W2vBert(config), jnp.zeros((1, _RATE)),
      jnp.full(1, _RATE), method='features')
  make = lambda *fitted: tokenizer.SemanticTokenizer(config, params, *fitted)
  features = make(0, 1, np.zeros((2, config.dim))).features(
      sound(10)[0][None])[0]
  mean, std = features.mean(0), features.std(0) + 1e-6
  return make(mean, std, ((features - mean) / std)[::25])


@pytest.mark.parametrize('seconds', [240, 283, 299])
def test_semantic_tokens_by_stretches_are_those_of_the_whole(semantic, seconds):
  """Eight windows at once, and a rest that is padded as it was."""
  audio, read, heard = sound(seconds)
  found = stretches.semantic(semantic, read, seconds, _TOKENS)
  padded = np.zeros((1, shards.padded(seconds) * _RATE), np.float32)
  padded[0, :len(audio)] = audio
  whole = semantic.encode(padded, [len(audio)])[0][:seconds * 25]
  np.testing.assert_array_equal(found, whole)
  assert len(np.unique(found)) > 3
  assert max(heard) <= 240 * _RATE


def test_mulan_by_stretches_is_mulan(monkeypatch):
  monkeypatch.setattr(stretches, '_JOINT_WINDOWS', 42)
  config = mulan_model.MulanConfig(
      num_mels=16, audio=resnet.ResNetConfig(
          stage_blocks=(1,), stage_channels=(4,), block='basic',
          stem='patches', stem_channels=4, norm_groups=2))
  params = drawn(mulan_model.Mulan(config), jnp.zeros((1, 10 * _RATE)), 1,
                 method='embed_windows')
  made = mulan_embedder.JointEmbedder(
      config, params, np.zeros((12, 1024, 128)), np.zeros(128))
  audio, read, _ = sound(73)
  found = stretches.mulan(made, read, 73, _TOKENS)
  np.testing.assert_array_equal(found, made.embed_audio_windows(audio[None])[0])
  assert found.shape == (64, 128)


def notes():
  config = notes_model.NotesConfig()
  return notes_embedder.NotesEmbedder(config, drawn(
      notes_model.Notes(config), jnp.zeros((1, _RATE))))


def melodies():
  config = melody_model.MelodyConfig(
      features='relative', hop_samples=320, frames_per_token=8, num_layers=1,
      num_heads=2, head_dim=8, dim=16, mlp_dim=32)
  books = np.random.default_rng(3).normal(
      size=(24, 512, config.melody.embedding_dim))
  return melody_embedder.MelodyEmbedder(config, drawn(
      melody_model.Melody(config), jnp.zeros((1, config.window_samples))),
                                        books.astype(np.float32))


@pytest.mark.parametrize('make', [notes, melodies])
def test_melodies_by_stretches_are_those_of_the_whole(monkeypatch, make):
  monkeypatch.setattr(stretches, '_MELODY_WINDOWS', 32)
  made, seconds = make(), 103
  tokens = dataclasses.replace(_TOKENS, melody=made.spec)
  audio, read, heard = sound(seconds)
  found = stretches.melody(made, read, seconds, tokens)
  whole = made.encode(audio[None], stride_seconds=1)
  np.testing.assert_array_equal(
      found, whole.reshape(-1, made.spec.num_codebooks))
  assert len(np.unique(found)) > 2
  assert max(heard) < (32 + 64 + 5) * _RATE


def test_no_tokenizer_gets_hours_at_once(tmp_path, monkeypatch):
  """Three hours, and no array of more than ten minutes."""
  rate = fake_tokens.RATE_HZ
  made, seconds, longest = fake_tokens.tokenizers(), 3 * 3600 + 7, []
  mark = lambda start, count: 1 + np.arange(start, start + count) // rate % 30_000

  def read(start, count):
    longest.append(count)
    return (mark(start, count) / 32767).astype(np.float32)

  monkeypatch.setattr(fake_tokens.Codec, 'spec', fake_tokens.TOKENS.codec,
                      raising=False)
  monkeypatch.setattr(fake_tokens.Codec, 'stream_encoder', lambda self: Stream(),
                      raising=False)

  class Stream:

    def stream(self, blocks):
      return map(made.codec.encode, blocks)

  acoustic, semantic, mulan = shards.check(
      made.tokens, seconds, made.encode_long(read, seconds))
  assert max(longest) <= 600 * rate
  line = mark(0, seconds * rate)[::rate]
  np.testing.assert_array_equal(acoustic[::50, 3], (line + 3) % 16)
  np.testing.assert_array_equal(semantic[::25], (line + 5) % 16)
  assert len(mulan) == seconds - 9
