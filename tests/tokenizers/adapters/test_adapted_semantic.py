"""Audio encoders with random weights as semantic tokenizers."""

import numpy as np
import pytest
import small_foreign as small

from musiclm_jax import errors
from musiclm_jax.tokenizers.adapters import options
from musiclm_jax.tokenizers.adapters import semantic

pytestmark = pytest.mark.hf
KINDS = ('wav2vec2', 'hubert', 'mert', 'wavlm', 'conformer', 'data2vec',
         'wav2vec2-bert')
RATES = dict.fromkeys(KINDS, 50) | dict(mert=75)


def load(folder, layer=2, **choice):
  return semantic.SemanticTokenizer(
      options.SemanticOptions(str(folder), layer, **choice))


def fitted(tokenizer, clusters=8):
  """With centroids that are some of its own features."""
  x = tokenizer.features(small.noise(1, 24_000, seed=9))[0]
  mean, std = x.mean(0), x.std(0) + 1e-6
  tokenizer.use(mean, std, ((x - mean) / std)[:clusters * 3:3])
  return tokenizer


@pytest.fixture(params=KINDS)
def made(request, models):
  return request.param, fitted(load(models('encoder', request.param)))


def test_spec_is_that_of_the_configuration(made):
  kind, tokenizer = made
  spec = tokenizer.spec
  assert spec.frame_rate_hz == RATES[kind]
  assert spec.sample_rate_hz == (24_000 if kind == 'mert' else 16_000)
  expected = (160, 2) if kind == 'wav2vec2-bert' else (320, 1)
  assert (tokenizer._hop, tokenizer._pool) == (320, 1)
  assert spec.mel_hop_samples * spec.subsampling == np.prod(expected)


@pytest.mark.parametrize('samples', [1, 480, 481, 9_599, 9_601])
def test_counts_are_rounded_up(made, samples):
  kind, tokenizer = made
  ids = tokenizer.encode(small.noise(2, samples))
  assert ids.shape == (2, -(-samples * RATES[kind] // 24_000))
  assert ids.dtype == np.int32 and 0 <= ids.min() <= ids.max() < 8


def test_ids_differ_and_repeat(made, models):
  kind, tokenizer = made
  audio = small.noise(3, 12_000)
  ids = tokenizer.encode(audio)
  assert len(np.unique(ids)) > 2
  np.testing.assert_array_equal(
      fitted(load(models('encoder', kind))).encode(audio), ids)
  alone = np.concatenate([tokenizer.encode(row[None]) for row in audio])
  assert np.mean(alone == ids) > 0.99


@pytest.mark.parametrize('kind', ['hubert', 'wav2vec2-bert'])
@pytest.mark.parametrize('layer', [1, 3])
def test_features_are_the_models_hidden_states(models, kind, layer):
  """Asked from the model itself, with the padding written out."""
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  folder = models('encoder', kind)
  tokenizer = load(folder, layer)
  model = transformers.AutoModel.from_pretrained(folder).eval()
  extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
  audio = small.noise(1, 24_000)
  from scipy import signal  # pylint: disable=g-import-not-at-top
  at_16 = signal.resample_poly(audio[0], 2, 3)
  if kind == 'hubert':  # 1 s: 50 hops of 320, each frame sees 400
    x = (at_16 - at_16.mean()) / np.sqrt(at_16.var() + 1e-7)
    inputs = dict(input_values=torch.tensor(
        np.pad(x, (40, 40))[None], dtype=torch.float32))
  else:
    inputs = extractor(np.pad(at_16, (120, 120)), sampling_rate=16_000,
                       return_tensors='pt')
    inputs = dict(input_features=inputs['input_features'])
  with torch.inference_mode():
    states = model(**inputs, output_hidden_states=True).hidden_states
  assert len(states) == 4
  found = tokenizer.features(audio)
  assert found.shape == (1, 50, 16)
  if layer < 3:  # the last of them is normalised once more, in some models
    np.testing.assert_allclose(found, states[layer].numpy(), atol=1e-4)
  other = load(folder, 4 - layer).features(audio)
  assert np.max(np.abs(other - found)) > 1e-3


def test_a_lower_rate_averages_neighbours(models):
  folder = models('encoder', 'mert')
  full, low = load(folder), load(folder, rate=25)
  audio = small.noise(1, 24_000)
  assert low.spec.frame_rate_hz == 25 and low.spec.subsampling == 3
  np.testing.assert_allclose(
      low.features(audio), full.features(audio).reshape(1, 25, 3, -1).mean(2),
      atol=1e-5)
  assert low.features(small.noise(1, 961)).shape == (1, 2, 16)


def test_windows_do_not_overlap(models, monkeypatch):
  monkeypatch.setattr(semantic, '_WINDOW_SECONDS', 1)
  tokenizer = load(models('encoder', 'hubert'))
  audio = small.noise(2, 24_000 * 2 + 5_000)
  found = tokenizer.features(audio)
  assert found.shape[1] == 111  # 50 + 50 + ceil(10.4)
  np.testing.assert_allclose(
      found[:, 50:100], tokenizer.features(audio[:, 24_000:48_000]), atol=1e-5)
  np.testing.assert_allclose(
      found[:, 100:], tokenizer.features(audio[:, 48_000:]), atol=1e-5)


def test_extract_hears_no_padding(models):
  tokenizer = load(models('encoder', 'wavlm'))
  audio = small.noise(3, 9_600)
  audio[1, 4_801:] = 0
  found = tokenizer.extract(audio, np.array([9_600, 4_801, 9_600]))
  assert found.shape == (3, 20, 16)
  np.testing.assert_allclose(
      found[1, :11], tokenizer.features(audio[1:2, :4_801])[0], atol=1e-5)
  assert not found[1, 11:].any() and found[2].any(-1).all()
  tokenizer.use(np.zeros(16), np.ones(16), np.random.default_rng(0).normal(
      size=(8, 16)))
  ids = tokenizer.encode(audio, np.array([9_600, 4_801, 9_600]))
  assert ids.shape == (3, 20) and not ids[1, 11:].any()
  np.testing.assert_array_equal(
      ids[1, :11], tokenizer.encode(audio[1:2, :4_801])[0])
  np.testing.assert_array_equal(ids[[0, 2]], tokenizer.encode(audio[[0, 2]]))


def test_silence_is_a_token_too(made):
  _, tokenizer = made
  assert tokenizer.encode(np.zeros((1, 4_800), np.float32)).min() >= 0


def test_refusals(models, tmp_path):
  folder = models('encoder', 'hubert')
  with pytest.raises(errors.UserError, match='layer 4 .*expected 1 to 3'):
    load(folder, 4)
  with pytest.raises(errors.UserError, match='20 tokens a second.*of 50'):
    load(folder, rate=20)
  with pytest.raises(ValueError, match='not fitted'):
    load(folder).encode(small.noise(1, 100))
  bare = small.encoder('wav2vec2', tmp_path / 'm')
  (bare / 'preprocessor_config.json').unlink()
  with pytest.raises(errors.UserError, match='Wav2Vec2FeatureExtractor'):
    load(bare)
