"""musicnn in JAX against its own forward, and what callers rely on."""

import importlib.util

import numpy as np
import pytest
from scipy import signal

from musiclm_jax import errors
from musiclm_jax.listeners import embedders
from musiclm_jax.listeners import musicnn

# What musicnn 0.1.0's own `extractor.extractor` gives for the WAV (float32) of
# `_clip`: the mean of the two patches' taggrams, and the first patch's
# penultimate[:20]. Made with TensorFlow 2.21, tf_keras 2.21 under
# TF_USE_LEGACY_KERAS=1, librosa 0.11 and NumPy 2.4 on a CPU, with one change:
# the mels are cast to float32 where the extractor casts them to float16.
# Unchanged, it gives the same within 1e-4 (5e-4 in the penultimate), since this
# clip is quiet enough not to overflow float16.
_PROBABILITIES = np.array([
    4.108433e-01, 1.823418e-02, 2.757285e-01, 9.952706e-04, 7.993187e-02,
    1.759212e-02, 4.782066e-03, 1.637720e-03, 8.672132e-03, 8.895815e-02,
    3.632712e-03, 3.813223e-03, 3.297444e-03, 6.882880e-04, 4.538720e-03,
    2.459700e-04, 1.583721e-01, 8.126295e-05, 3.744984e-04, 3.615466e-04,
    3.981503e-04, 7.133335e-02, 1.020943e-03, 6.516822e-04, 6.292592e-02,
    1.489866e-03, 1.552295e-04, 6.516272e-04, 5.531840e-02, 8.911732e-04,
    5.683660e-02, 2.801773e-01, 9.225790e-02, 5.277825e-04, 1.140815e-03,
    1.473215e-05, 4.292798e-04, 4.458297e-03, 2.032221e-04, 5.073608e-04,
    9.208524e-05, 1.461263e-03, 2.723042e-02, 3.479651e-04, 2.550010e-02,
    4.211113e-03, 1.618959e-02, 7.463663e-05, 7.496847e-05, 1.138404e-05])
_PENULTIMATE = np.array([
    -7.995161e-02, -3.287870e-02, 2.765729e-01, -1.860576e-01, -7.870331e-02,
    7.084116e-01, -1.057511e-01, -2.253039e-01, -2.418625e-02, -3.264949e-01,
    -5.922899e-02, 2.264543e-01, -5.497639e-01, 1.549889e+00, -4.960427e-02,
    -1.082450e-01, 1.000316e+00, -2.472665e-01, 1.152881e+00, -9.620258e-02])
_MSD_PROBABILITIES = np.array([
    9.331642e-02, 3.627347e-02, 7.782597e-02, 1.433048e-01, 1.154582e-01,
    5.710348e-02, 1.094831e-02, 1.385664e-02, 2.291433e-02, 9.595031e-02])


def _clip(seconds=6):
  """[96000] float32 at 16 kHz: decaying harmonics, bursts, noise."""
  t = np.arange(6 * 16_000) / 16_000
  noise = np.random.default_rng(0).standard_normal(len(t))
  steps = np.array([0, 4, 7, 12, 7, 4])[(t // 1).astype(int)]
  phase = 2 * np.pi * np.cumsum(220 * 2**(steps / 12)) / 16_000
  tone = sum(np.sin(k * phase) / k for k in range(1, 9))
  clip = (0.05 * tone * np.exp(-3 * (t % 0.5))
          + 0.02 * noise * np.exp(-40 * (t % 0.5)) + 0.0006 * noise)
  return clip[:seconds * 16_000].astype(np.float32)


@pytest.fixture(scope='module')
def tagger():
  return musicnn.MusicNN.load()


def test_tags_are_those_of_the_package(tagger):
  probabilities = tagger.tag(_clip()[None], 16_000)
  assert probabilities.shape == (1, 50)
  np.testing.assert_allclose(
      probabilities[0], _PROBABILITIES, atol=2e-6, rtol=1e-4)
  assert tagger.tags[probabilities[0].argmax()] == 'guitar'


def test_penultimate_is_that_of_the_package(tagger):
  embedding = tagger.embed(_clip()[None], 16_000)
  assert embedding.shape == (1, 2, 200)
  np.testing.assert_allclose(embedding[0, 0, :20], _PENULTIMATE, atol=2e-5)
  # The extractor would repeat the first patch.
  assert np.abs(embedding[0, 0] - embedding[0, 1]).max() > 0.1


def test_the_million_song_tagger_as_well():
  tagger = musicnn.MusicNN.load('MSD_musicnn')
  probabilities = tagger.tag(_clip()[None], 16_000)
  np.testing.assert_allclose(
      probabilities[0, :10], _MSD_PROBABILITIES, atol=2e-6, rtol=1e-4)
  assert tagger.tags[:2] == ('rock', 'pop') and len(set(tagger.tags)) == 50


def test_rows_are_independent_of_their_batch(tagger):
  rng = np.random.default_rng(1)
  other = 0.1 * rng.standard_normal((4, 96_000))
  batch = np.concatenate([other, _clip()[None]])
  np.testing.assert_allclose(
      tagger.tag(batch, 16_000)[-1], _PROBABILITIES, atol=2e-6, rtol=1e-4)


def test_24_khz_is_resampled(tagger):
  # The phrase at 24 kHz by SciPy's filter: only the band edge may differ.
  at_24 = signal.resample_poly(_clip(), 3, 2).astype(np.float32)
  np.testing.assert_allclose(
      tagger.tag(at_24[None], 24_000)[0], _PROBABILITIES, atol=0.05)


def test_short_clips_are_padded_with_zeros(tagger):
  short = _clip(seconds=1)[None]
  padded = np.pad(short, ((0, 0), (0, 32_000)))
  np.testing.assert_allclose(
      tagger.embed(short, 16_000), tagger.embed(padded, 16_000), atol=1e-5)
  assert tagger.embed(short, 16_000).shape == (1, 1, 200)


@pytest.mark.parametrize('seconds, patches', [(1, 1), (3, 1), (6, 2), (10, 3)])
def test_number_of_patches(seconds, patches):
  # 10 s: 1 + 160,000 // 256 = 626 frames, 626 // 187 = 3.
  assert musicnn._num_patches(seconds * 16_000, 16_000) == patches
  assert musicnn._num_patches(seconds * 24_000, 24_000) == patches


def test_loud_audio_does_not_overflow(tagger):
  loud = np.sign(_clip(seconds=3))[None]
  assert np.isfinite(tagger.embed(loud, 16_000)).all()


def test_a_missing_package_names_the_command(monkeypatch):
  musicnn._read_checkpoint.cache_clear()
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(
      errors.UserError, match=r'pip install --no-deps musicnn==0\.1\.0'):
    musicnn.MusicNN.load()


def test_unknown_model_and_shape_are_refused(tagger):
  with pytest.raises(ValueError, match='MTT_musicnn'):
    musicnn.MusicNN.load('MTT_vgg')
  with pytest.raises(ValueError, match=r'\[B, N\]'):
    tagger.tag(np.zeros(48_000), 16_000)


def test_as_an_embedder_it_gives_the_same_patches(tagger):
  embedder = embedders.by_name('musicnn')
  assert embedder.sample_rate_hz == 16_000
  assert embedder.hop_samples == 187 * 256
  clip = _clip()
  rng = np.random.default_rng(2)
  # The second patch is there from the 374th frame on, at 373 hops.
  sounds = [clip] + [0.1 * rng.standard_normal(n).astype(np.float32) for n in (
      8_000, 373 * 256 - 1, 373 * 256)]
  found = list(embedder.embed_each(sounds))
  np.testing.assert_allclose(found[0][0, :20], _PENULTIMATE, atol=2e-5)
  assert [len(f) for f in found] == [2, 1, 1, 2]
  for sound, vectors in zip(sounds, found):
    np.testing.assert_allclose(
        vectors, tagger.embed(sound[None], 16_000)[0], atol=1e-4)


def test_both_taggers_are_told_apart_by_their_weights():
  one, other = (embedders.by_name(n).digest for n in ('musicnn', 'musicnn_msd'))
  assert one != other and len(one) == 16
