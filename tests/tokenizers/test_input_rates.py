"""Tokenizers take audio at any rate of a system and see the same in it."""

import json
import types

import jax
import numpy as np
import pytest
import tiny_w2vbert

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokenizers.adapters import codecs
from musiclm_jax.tokenizers.adapters import waveforms
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.melody import pairs
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import sources as mulan_sources
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer as w2vbert_tokenizer
from musiclm_jax.training import sources

_TINY = tiny_w2vbert.TINY.__dict__
SECONDS = 4


def play(rate_hz):
  """[1, N]: three tones that every rate can hold, one after the other."""
  time = np.arange(SECONDS * rate_hz) / rate_hz
  hz = np.array([220.0, 440.0, 1760.0])[(time * 0.75).astype(int)]
  return (0.3 * np.sin(2 * np.pi * hz * time))[None].astype(np.float32)


def w2vbert(rate_hz):
  config = w2vbert_model.W2vBertConfig(**{**_TINY, 'input_rate_hz': rate_hz})
  hear = lambda audio: w2vbert_model.W2vBert(config).apply(
      {}, audio, method='_hear')[0]
  return jax.jit(hear)(play(rate_hz))


def mulan(rate_hz):
  config = mulan_model.MulanConfig(input_rate_hz=rate_hz)
  hear = lambda audio: mulan_model.Mulan(config).apply(
      {'params': {'raw_temperature': np.float32(0)}}, audio, method='mels')
  return jax.jit(hear)(play(rate_hz))


def melody(rate_hz):
  config = melody_model.MelodyConfig(input_rate_hz=rate_hz)
  assert config.window_samples == SECONDS * rate_hz
  return jax.jit(lambda x: melody_model.frames(x, config))(play(rate_hz))


@pytest.mark.parametrize('front', [w2vbert, mulan, melody])
def test_what_is_seen_is_the_same_at_every_rate(front):
  usual = np.asarray(front(24_000))
  assert usual.shape[1] == 400 and usual.std() > 0.1
  for rate_hz in (16_000, 48_000):
    found = np.asarray(front(rate_hz))
    assert found.shape == usual.shape
    # Resampling leaves other dust below the tones, and nothing else.
    loud = usual > np.quantile(usual, 0.9)
    assert np.abs(found - usual)[loud].mean() < 0.05 * usual.std()


@pytest.mark.parametrize('rate_hz, hop', [(16_000, 640), (48_000, 1920)])
def test_semantic_tokens_of_another_rate(rate_hz, hop):
  config = w2vbert_model.W2vBertConfig(**{**_TINY, 'input_rate_hz': rate_hz})
  params = jax.jit(lambda rng: w2vbert_model.W2vBert(config).init(
      rng, np.zeros((1, rate_hz), np.float32), method='features'))(
          jax.random.key(0))['params']
  tokenizer = w2vbert_tokenizer.SemanticTokenizer(
      config, params, np.zeros(16, np.float32), np.ones(16, np.float32),
      np.eye(16, dtype=np.float32))
  assert tokenizer.hop_samples == hop
  assert tokenizer.encode(play(rate_hz)[:, :rate_hz]).shape == (1, 25)


@pytest.mark.parametrize('name, cls', [
    ('w2vbert', w2vbert_model.W2vBertConfig), ('mulan', mulan_model.MulanConfig)])
def test_configs_stored_before_hear_24_khz(name, cls):
  path = bundle.shipped() / name / 'config.json'
  stored = json.loads(path.read_text())['config']
  stored.pop('input_rate_hz', None)
  assert specs.from_dict(cls, stored).input_rate_hz == 24_000


def test_a_melody_embedder_stored_before_hears_24_khz():
  stored = specs.to_dict(melody_model.MelodyConfig())
  stored.pop('input_rate_hz')
  assert specs.from_dict(melody_model.MelodyConfig, stored).input_rate_hz == 24_000


@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_batch_shapes_are_of_the_expected_rate(rate_hz):
  made = [
      sources.AudioBatches(crop_seconds=0.5, expected_rate_hz=rate_hz),
      mulan_sources.MulanBatches(
          window_seconds=2, max_tokens=4, expected_rate_hz=rate_hz),
      pairs.MelodyBatches(window_seconds=4, expected_rate_hz=rate_hz)]
  found = [source.batch_shapes() for source in made]
  assert [batch.get('audio', batch.get('first')).shape[1] / rate_hz
          for batch in found] == [0.5, 2, 4]


def test_foreign_models_on_the_grid_of_another_rate():
  with pytest.raises(errors.UserError, match='divides 16000 Hz'):
    waveforms.frame_rate('x', 24_000, 320, 16_000)
  assert waveforms.frame_rate('x', 24_000, 320) == 75
  options = types.SimpleNamespace(codebooks=0, coarse=2, directory='x')
  config = types.SimpleNamespace(sampling_rate=24_000, codebook_size=32)
  spec = codecs._spec(options, 6, 50, (4, 120), config, 16_000)  # pylint: disable=protected-access
  assert spec.sample_rate_hz == 16_000 and spec.strides == (320,)
  same = codecs._spec(options, 6, 50, (4, 120), config, 24_000)  # pylint: disable=protected-access
  assert same.strides == (4, 120)
