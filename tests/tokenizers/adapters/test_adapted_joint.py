"""CLAP with random weights as a joint embedder."""

import numpy as np
import pytest
import small_foreign as small

from musiclm_jax.tokenizers.adapters import joint
from musiclm_jax.tokenizers.adapters import options

pytestmark = pytest.mark.hf


def load(folder, **choice):
  return joint.JointEmbedder(options.JointOptions(str(folder), **choice))


@pytest.fixture(name='clap', scope='module')
def clap_fixture(models):
  return load(models('clap', 'clap'), codebooks=3, entries=16)


def test_spec_is_that_of_the_configuration(clap):
  spec = clap.spec
  assert (spec.sample_rate_hz, spec.embedding_dim) == (48_000, 12)
  assert (spec.num_codebooks, spec.codebook_size) == (3, 16)
  assert (spec.window_seconds, spec.window_stride_seconds) == (10, 1)


def test_windows_of_ten_seconds(clap):
  audio = small.noise(2, 24_000 * 12 + 17)
  found = clap.embed_audio_windows(audio)
  assert found.shape == (2, 3, 12) and found.dtype == np.float32
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
  np.testing.assert_array_equal(clap.embed_audio_windows(audio), found)
  second = clap.embed_audio_windows(audio[:, 24_000:24_000 * 11])
  assert second.shape == (2, 1, 12)
  np.testing.assert_allclose(second[:, 0], found[:, 1], atol=1e-3)
  mean = found.mean(1)
  np.testing.assert_allclose(
      clap.embed_audio(audio),
      mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)


def test_short_clips_are_padded_with_zeros(clap):
  audio = small.noise(1, 24_000 * 3)
  padded = np.pad(audio, ((0, 0), (0, 24_000 * 7)))
  np.testing.assert_allclose(
      clap.embed_audio_windows(audio), clap.embed_audio_windows(padded),
      atol=1e-4)
  assert clap.embed_audio_windows(small.noise(1, 1)).shape == (1, 1, 12)


def test_audio_equals_the_model_itself(clap, models):
  import torch  # pylint: disable=g-import-not-at-top
  import transformers  # pylint: disable=g-import-not-at-top
  folder = models('clap', 'clap')
  peer = transformers.ClapModel.from_pretrained(folder).eval()
  extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
  from scipy import signal  # pylint: disable=g-import-not-at-top
  audio = small.noise(1, 240_000)
  inputs = extractor(signal.resample_poly(audio[0], 2, 1),
                     sampling_rate=48_000, return_tensors='pt')
  with torch.inference_mode():
    found = peer.get_audio_features(**inputs)
  found = getattr(found, 'pooler_output', found).numpy()
  found /= np.linalg.norm(found, axis=1, keepdims=True)
  np.testing.assert_allclose(
      clap.embed_audio_windows(audio)[0], found, atol=1e-4)


def test_text(clap, models):
  texts = ['a lively tune', 'slow', 'a ' * 100]
  found = clap.embed_text(texts)
  assert found.shape == (3, 12)
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
  # Padding of the short ones does not show.
  np.testing.assert_allclose(clap.embed_text(texts[1:2]), found[1:2], atol=1e-5)
  assert np.max(np.abs(found[0] - found[1])) > 1e-4
  assert clap.embed_text([]).shape == (0, 12)


def test_a_model_of_fusion_draws_nothing(tmp_path):
  import transformers  # pylint: disable=g-import-not-at-top
  folder = small.clap(tmp_path / 'm', enable_fusion=True)
  transformers.ClapFeatureExtractor(
      feature_size=16, hop_length=1920,
      truncation='fusion').save_pretrained(folder)
  clap = load(folder)
  audio = small.noise(1, 24_000 * 11)
  first = clap.embed_audio_windows(audio)
  for _ in range(3):
    np.testing.assert_array_equal(clap.embed_audio_windows(audio), first)


def test_quantize(clap, models):
  with pytest.raises(ValueError, match='not fitted'):
    load(models('clap', 'clap')).quantize(np.zeros((1, 12)))
  rng = np.random.default_rng(0)
  codebooks = rng.normal(size=(3, 16, 12)).astype(np.float32)
  made = load(models('clap', 'clap'), codebooks=3, entries=16)
  plain = made.embed_text(['slow'])
  shift = rng.normal(size=12).astype(np.float32)
  made.use(codebooks, shift)
  moved = plain + shift
  np.testing.assert_allclose(
      made.embed_text(['slow']), moved / np.linalg.norm(moved), atol=1e-5)
  codes = made.quantize(moved)
  residual, expected = moved[0].copy(), []
  for codebook in codebooks:
    expected.append(int(np.argmin(((codebook - residual)**2).sum(-1))))
    residual -= codebook[expected[-1]]
  assert codes.tolist() == [expected]
