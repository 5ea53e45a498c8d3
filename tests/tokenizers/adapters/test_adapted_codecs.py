"""EnCodec, DAC and Mimi with random weights, against the models themselves."""

import dataclasses

import numpy as np
import pytest
import small_foreign as small
import tiny_stage

from musiclm_jax import bundle
from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.systems.musiclm import pipeline
from musiclm_jax.systems.musiclm.stages import model
from musiclm_jax.tokenizers.adapters import codecs
from musiclm_jax.tokenizers.adapters import options

pytestmark = pytest.mark.hf
KINDS = ('encodec', 'dac', 'mimi')


def load(folder, **choice):
  return codecs.Codec(options.CodecOptions(str(folder), **choice))


@pytest.fixture(params=KINDS)
def made(request, models):
  return request.param, load(models('codec', request.param))


def test_spec_is_that_of_the_configuration(made):
  kind, codec = made
  spec = codec.spec
  rates = dict(encodec=75, dac=75, mimi=25)
  assert spec.frame_rate_hz == rates[kind]
  assert spec.codebook_size == 32 and spec.coarse_codebooks == 4
  strides = dict(encodec=(2, 4, 5, 8), dac=(2, 4, 5, 8), mimi=(3, 4, 5, 8, 2))
  assert spec.strides == strides[kind]
  # EnCodec: 3 kbps / (75 Hz * 5 bits) = 8 levels.
  assert spec.num_codebooks == dict(encodec=8, dac=6, mimi=6)[kind]


@pytest.mark.parametrize('samples', [1, 960, 961, 5_111])
def test_counts_are_rounded_up(made, samples):
  _, codec = made
  spec = codec.spec
  codes = codec.encode(small.noise(2, samples))
  frames = -(-samples // spec.hop_samples)
  assert codes.shape == (2, frames, spec.num_codebooks)
  assert codes.dtype == np.int32
  assert codes.min() >= 0 and codes.max() < spec.codebook_size
  audio = codec.decode(codes)
  assert audio.shape == (2, frames * spec.hop_samples)
  assert audio.dtype == np.float32 and np.all(np.isfinite(audio))


def test_codes_differ_and_repeat(made, models):
  kind, codec = made
  audio = small.noise(2, 9_600)
  codes = codec.encode(audio)
  assert len(np.unique(codes[..., 0])) > 1
  again = load(models('codec', kind))
  np.testing.assert_array_equal(again.encode(audio), codes)
  np.testing.assert_array_equal(again.decode(codes), codec.decode(codes))
  alone = np.concatenate([codec.encode(row[None]) for row in audio])
  assert np.mean(alone == codes) > 0.99


def test_equals_the_model_itself(made, models):
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  kind, codec = made
  peer = getattr(transformers, codecs.MODELS[kind]).from_pretrained(
      models('codec', kind)).eval()
  audio = small.noise(1, 9_600)
  with torch.inference_mode():
    x = torch.tensor(audio)[:, None]
    if kind == 'encodec':
      found = peer.encode(x, bandwidth=3.0)
      codes = found.audio_codes[0]
      sound = peer.decode(found.audio_codes, found.audio_scales).audio_values
    else:
      codes = peer.encode(x).audio_codes
      sound = peer.decode(audio_codes=codes).audio_values
  np.testing.assert_array_equal(
      codec.encode(audio), codes.numpy().transpose(0, 2, 1))
  sound = sound.reshape(-1).numpy()
  ours = codec.decode(codes.numpy().transpose(0, 2, 1))[0]
  assert 0 <= len(ours) - len(sound) < 100  # DAC's decoder is a little short
  np.testing.assert_allclose(ours[:len(sound)], sound, atol=1e-5)


def test_fewer_codebooks_are_the_first(made, models):
  kind, codec = made
  audio = small.noise(1, 9_600)
  few = load(models('codec', kind), codebooks=3, coarse=1)
  assert few.spec.num_codebooks == 3 and few.spec.fine_codebooks == 2
  codes = codec.encode(audio)
  np.testing.assert_array_equal(few.encode(audio), codes[..., :3])
  np.testing.assert_allclose(
      few.decode(codes[..., :2]), codec.decode(codes[..., :2]), atol=1e-6)
  with pytest.raises(ValueError, match='q in 1..3'):
    few.decode(codes)
  with pytest.raises(ValueError, match='expected 0..31'):
    few.decode(codes[..., :3] + 32)


def test_long_audio_goes_by_pieces(made, monkeypatch):
  kind, codec = made
  audio = small.noise(3, 24_000 * 5)
  whole = codec.encode(audio)
  sound = codec.decode(whole)
  for name, seconds in (('_PIECE', 2), ('_LEFT', 1), ('_RIGHT', 1)):
    monkeypatch.setattr(codecs, f'{name}_SECONDS', seconds)
  codes = codec.encode(audio)
  assert codes.shape == whole.shape
  # What EnCodec and Mimi hear from before the context may differ.
  assert np.mean(codes == whole) > (0.99 if kind == 'dac' else 0.9)
  assert codec.decode(whole).shape == sound.shape


def chunks(signal, size):
  return [signal[:, i:i + size] for i in range(0, signal.shape[1], size)]


def test_streams_equal_the_whole(made, monkeypatch):
  kind, codec = made
  rate, hop = codec.spec.frame_rate_hz, codec.spec.hop_samples
  audio = small.noise(2, 24_000 * 3)
  codes = codec.encode(audio)
  assert contracts.differences(codec, contracts.Codec) == []
  assert codec.decoder_lookahead == (rate if kind == 'dac' else 0)
  assert codec.latency_samples == (
      (1 + 2 * rate) * hop if kind == 'dac' else hop)
  heard = np.concatenate(
      list(codec.stream_encoder(2).stream(chunks(audio, 10 * hop))), axis=1)
  assert heard.shape == codes.shape[:2] + (2,)
  assert np.mean(heard == codes[..., :2]) > 0.99
  expected = codec.decode(codes)
  limits = dict(atol=1e-4 * np.abs(expected).max())
  decoder = codec.stream_decoder()
  made_of = lambda: np.concatenate(
      list(decoder.stream(chunks(codes, rate))), axis=1)
  np.testing.assert_allclose(made_of(), expected, **limits)
  # With less context than the three seconds, DAC's is the same still.
  monkeypatch.setattr(codecs, '_LEFT_SECONDS', 1)
  decoder = codec.stream_decoder()
  assert made_of().shape == expected.shape
  if kind == 'dac':
    np.testing.assert_allclose(made_of(), expected, **limits)
  with pytest.raises(ValueError, match='levels is 0; expected 1 to'):
    codec.stream_encoder(0)


def test_music_is_generated_through_a_foreign_codec(models, tmp_path):
  codec = load(models('codec', 'encodec'))
  spec = dataclasses.replace(tiny_stage.tokens_spec(), codec=codec.spec)
  for name in ('coarse', 'fine'):
    stage = model.StageModel(
        specs.StageSpec(name, spec, crop_seconds=1), tiny_stage.config())
    bundle.save_component(tmp_path / name, name, stage.config, stage.spec,
                          tiny_stage.init(stage))
  bundle.write_manifest(tmp_path, spec, name='foreign')
  found = bundle.Bundle(tmp_path)
  found.use('codec', codec, 'encodec')
  rng = np.random.default_rng(0)
  given = rng.integers(0, 32, (1, 150, 4)).astype(np.int32)
  codes, audio = pipeline.Pipeline(found).complete({'coarse': given}, 2)
  assert codes['fine'].shape == (1, 150, 4) and codes['fine'].min() >= 0
  expected = codec.decode(
      np.concatenate([codes['coarse'], codes['fine']], axis=-1))
  np.testing.assert_allclose(
      audio, expected, atol=1e-4 * np.abs(expected).max())


def test_causal_codecs_do_not_hear_the_padding(made):
  kind, codec = made
  audio = small.noise(1, 9_600)
  padded = np.pad(audio, ((0, 0), (0, 4_800)))
  same = codec.encode(padded)[:, :codec.encode(audio).shape[1]]
  assert codec.causal == (kind != 'dac')
  if codec.causal:
    np.testing.assert_array_equal(same, codec.encode(audio))


def test_other_sample_rates_are_resampled(tmp_path):
  folder = small.codec('dac', tmp_path / 'm', sampling_rate=16_000)
  codec = load(folder)  # 16,000 / 320 = 50 frames a second
  assert codec.spec.strides == (480,) and codec.spec.frame_rate_hz == 50
  codes = codec.encode(small.noise(1, 1_000))
  assert codes.shape == (1, 3, 6)
  assert codec.decode(codes).shape == (1, 1_440)


@pytest.mark.parametrize('kind, changes, message', [
    ('mimi', dict(upsampling_ratios=[8, 6, 5, 4]),
     '12.5 frames a second .24000 Hz / 1920.; expected a whole number'),
    ('encodec', dict(audio_channels=2), 'a codec of 2 channels; expected mono'),
    ('encodec', dict(normalize=True), 'scales its audio'),
    ('encodec', dict(chunk_length_s=1.0, overlap=0.01), 'cuts it into chunks'),
    ('dac', dict(sampling_rate=44_100), '137.812 frames a second')])
def test_what_the_protocol_cannot_carry(tmp_path, kind, changes, message):
  folder = small.codec(kind, tmp_path / 'm', **changes)
  with pytest.raises(errors.UserError, match=message) as error:
    load(folder)
  assert '\n' not in str(error.value)


def test_codebooks_out_of_range(models):
  folder = models('codec', 'dac')
  with pytest.raises(errors.UserError, match='asks for 7 codebooks.*2 to 6'):
    load(folder, codebooks=7)
  with pytest.raises(errors.UserError, match='add :coarse=1'):
    load(folder, codebooks=3)


def test_damaged_checkpoints(tmp_path):
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  folder = small.codec('dac', tmp_path / 'm')
  weights = folder / 'model.safetensors'
  arrays = safetensors.load_file(weights)
  name = next(n for n in sorted(arrays) if n.startswith('decoder'))
  del arrays[name]
  safetensors.save_file(arrays, weights, metadata={'format': 'pt'})
  with pytest.raises(errors.UserError, match='lacks 1 weights of DacModel'):
    load(folder)
  weights.write_bytes(b'nothing')
  with pytest.raises(errors.UserError, match='could not be loaded') as error:
    load(folder)
  assert '\n' not in str(error.value)
  weights.unlink()
  with pytest.raises(errors.UserError, match='no model.safetensors; pickled'):
    load(folder)
