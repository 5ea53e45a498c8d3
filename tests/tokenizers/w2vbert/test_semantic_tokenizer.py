"""Semantic tokens: counts, windows, k-means, and the way through a bundle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.nn import kmeans as streaming
from musiclm_jax.tokenizers.w2vbert import kmeans
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer
from musiclm_jax.tokenizers.w2vbert import trainer
from musiclm_jax.training import optim

_CONFIG = w2vbert_model.W2vBertConfig(
    conv_channels=(4, 4), dim=8, num_heads=2, mlp_dim=16, contrastive_blocks=1,
    prediction_blocks=2, feature_block=1, codebook_size=16, codebook_dim=8,
    num_clusters=12, dropout_rate=0.0)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp('w2vbert') / 'corpus'
  rng = np.random.default_rng(0)
  with records.Writer(path, 'noise', 24_000) as out:
    for i, seconds in enumerate((3.0, 5.03, 0.5)):
      count = int(seconds * 24_000)
      level = np.repeat(rng.uniform(0.01, 0.3, count // 2400 + 1), 2400)
      out.add('train', f't{i}', rng.normal(size=count) * level[:count])
  return records.Corpus(path)


@pytest.fixture(scope='module')
def exported(corpus):
  trained = trainer.W2vBertTrainable(
      _CONFIG, clustering=kmeans.KMeansConfig(
          num_vectors=10_000, crop_seconds=2, batch_size=3, iters=5))
  state = jax.jit(trained.init)(
      jax.random.PRNGKey(0), {'audio': jnp.zeros((1, 24_000))})
  return trained.export(jax.device_get(state), corpus)


@pytest.fixture(scope='module')
def tokens(exported, tmp_path_factory):
  path = tmp_path_factory.mktemp('bundle') / 'w2vbert'
  bundle.save_component(path, **exported)
  return tokenizer.from_component(bundle.load_component(path))


def _noise(batch, num_samples, seed=3):
  rng = np.random.default_rng(seed)
  return (0.1 * rng.normal(size=(batch, num_samples))).astype(np.float32)


@pytest.mark.parametrize('num_samples', [1, 959, 960, 961, 24_001, 47_999])
def test_ceil_of_25_a_second(tokens, num_samples):
  ids = tokens.encode(_noise(2, num_samples))
  codec = specs.CodecSpec()
  assert ids.shape == (2, -(-num_samples // 960))
  assert -(-codec.num_frames(num_samples) // 2) == ids.shape[1]
  assert ids.dtype == np.int32
  assert ids.min() >= 0 and ids.max() < 12


def test_ids_are_the_nearest_standardised_centroids(tokens, exported):
  audio = _noise(1, 30_000)
  weights = exported['weights']
  features = np.asarray(tokenizer.FeatureExtractor(
      _CONFIG, weights['params'])(audio, np.array([30_000])))[0]
  fitted = weights['kmeans']
  features = (features - fitted['mean']) / fitted['std']
  distance = np.square(features[:, None] - fitted['centroids'][None]).sum(-1)
  ids = tokens.encode(audio)[0]
  # Nearly equal distances may fall either way.
  chosen = np.take_along_axis(distance, ids[:, None], 1)[:, 0]
  np.testing.assert_allclose(chosen, distance.min(1), atol=1e-2)
  assert np.mean(ids == distance.argmin(1)) > 0.97


def test_padding_and_batching_change_nothing(tokens):
  audio = _noise(3, 40_003)
  together = tokens.encode(audio)
  for row in range(3):
    np.testing.assert_array_equal(tokens.encode(audio[row:row + 1])[0],
                                  together[row])


@pytest.mark.slow
def test_long_audio_is_windows_of_30_seconds(tokens):
  window = 30 * 24_000
  audio = _noise(2, window + 24_001)
  ids = tokens.encode(audio)
  assert ids.shape == (2, 750 + 26)
  np.testing.assert_array_equal(ids[:, :750], tokens.encode(audio[:, :window]))
  np.testing.assert_array_equal(ids[:, 750:], tokens.encode(audio[:, window:]))


def test_empty_audio_is_refused(tokens):
  with pytest.raises(ValueError, match='N > 0'):
    tokens.encode(np.zeros((1, 0), np.float32))


def test_export_keeps_what_inference_reads(exported, tokens):
  assert set(exported['weights']['params']) == {
      'encoder', 'input', 'contrastive_0', 'prediction_0'}
  fitted = exported['weights']['kmeans']
  assert fitted['centroids'].shape == (12, 8)
  assert tokens.spec == dataclasses.replace(
      specs.SemanticSpec(), codebook_size=12)
  report = exported['metadata']['kmeans']
  assert report['usage'] == 1.0
  assert 0 < report['entropy_nats'] <= np.log(12)
  assert 0 < report['inertia'] < 1
  # 3 s, 5.03 s and 0.5 s give 75, 126 and 13 steps: padding is left out.
  assert report['vectors'] == 75 + 126 + 13


def test_a_collapsed_k_means_is_not_exported(exported):
  fitted, report = exported['weights']['kmeans'], exported['metadata']['kmeans']
  kmeans.check(fitted, report, 2.0)
  # Four ids of twelve in even use.
  few = dict(report, entropy_nats=np.log(4.0))
  kmeans.check(fitted, few, 3.9)
  with pytest.raises(errors.UserError, match='uses 4.0 of 12 ids evenly'):
    kmeans.check(fitted, few, 4.1)
  still = dict(fitted, std=np.full(8, 1e-6, np.float32))
  with pytest.raises(errors.UserError, match='no feature moves by more than'):
    kmeans.check(still, report, 2.0)


def test_export_checks_the_k_means(corpus, monkeypatch):
  """A share of the clusters that no k-means over 12 reaches."""
  seen = dict(vectors=9, clusters=12, entropy_nats=np.log(3.0))
  fitted = dict(mean=np.zeros(8), std=np.ones(8), centroids=np.zeros((12, 8)))
  monkeypatch.setattr(kmeans, 'fit', lambda *unused: (fitted, seen))
  parts = ('encoder', 'input', 'contrastive_0', 'prediction_0')
  state = optim.State(0, {name: {} for name in parts}, None)
  trained = trainer.W2vBertTrainable(_CONFIG)
  assert trained.export(state, corpus)['weights']['kmeans'] is fitted
  with pytest.raises(errors.UserError, match='uses 3.0 of 12 .* least 6'):
    dataclasses.replace(trained, collapsed_share=0.5).export(state, corpus)


def _levels(audio, samples):
  """Stands in for the model: two features of each 40 ms."""
  del samples
  steps = audio.reshape(len(audio), -1, 960)
  return np.stack([5.0 + 100.0 * steps.std(-1), steps.mean(-1)], -1)


def _collected(split, config, extract=_levels):
  with streaming.VectorFile() as file:
    kmeans.collect(extract, split, config, file)
    return file.rows(slice(None))


def test_fit_is_deterministic_and_standardised(corpus):
  config = kmeans.KMeansConfig(num_vectors=150, crop_seconds=2, batch_size=2)
  split = corpus.split('train')
  first, report = kmeans.fit(_levels, split, 6, config)
  second, _ = kmeans.fit(_levels, split, 6, config)
  for name, value in first.items():
    np.testing.assert_array_equal(value, second[name])
  assert report['vectors'] == 150
  vectors = _collected(split, config)
  np.testing.assert_allclose(first['mean'], vectors.mean(0), rtol=1e-4)
  np.testing.assert_allclose(first['std'], vectors.std(0), rtol=1e-4)
  # Ids of one cluster have their mean at the centroid, in units of deviations.
  whitened = (vectors - first['mean']) / first['std']
  distance = np.square(whitened[:, None] - first['centroids'][None]).sum(-1)
  np.testing.assert_allclose(
      report['inertia'], distance.min(1).mean() / 2.0, rtol=1e-3)
  means = [whitened[distance.argmin(1) == k].mean(0) for k in range(6)]
  np.testing.assert_allclose(first['centroids'], means, atol=0.05)


def test_the_stream_of_features_is_the_same_for_any_batch_size(corpus):
  split = corpus.split('train')
  shapes = set()

  def extract(audio, samples):
    shapes.add(audio.shape)
    return _levels(audio, samples)

  config = kmeans.KMeansConfig(crop_seconds=2, batch_size=5)
  whole = _collected(split, config, extract)
  assert len(shapes) == 1  # 6 crops in fives: the last batch is filled up
  assert len(whole) == 75 + 126 + 13
  # Each frame of each track, once: their order is that of the crops.
  direct = np.concatenate([_levels(np.pad(x, (0, -len(x) % 960))[None], None)[0]
                           for x in map(split.read, split)])
  key = lambda x: x[np.lexsort(x.T)]
  np.testing.assert_allclose(key(whole), key(direct), rtol=1e-4, atol=1e-5)
  for size, count in ((1, None), (4, 100)):
    part = _collected(split, dataclasses.replace(
        config, batch_size=size, num_vectors=count or 10_000))
    np.testing.assert_array_equal(part, whole[:count])


def test_a_corpus_without_audio_or_a_setting_without_sense_is_refused(
    tmp_path):
  with records.Writer(tmp_path / 'c', 'c', 24_000) as out:
    out.add('train', 'a', np.zeros(0))
  with pytest.raises(errors.UserError, match='holds no audio'):
    kmeans.fit(_levels, records.Corpus(tmp_path / 'c').split('train'), 2,
               kmeans.KMeansConfig())
  with pytest.raises(errors.UserError, match='num_vectors.* is 0'):
    kmeans.KMeansConfig(num_vectors=0)


def test_rows_of_several_lengths_at_once(tokens):
  """Each as if it were alone, over windows and rests; what is beyond is free."""
  rate, lengths = 24_000, np.array([45, 31, 12, 1]) * 24_000
  audio = _noise(4, 45 * rate)
  found = tokens.encode(audio, lengths)
  assert found.shape == (4, 45 * 25)
  for row, ids, length in zip(audio, found, lengths):
    alone = tokens.encode(row[None, :length])[0]
    np.testing.assert_array_equal(ids[:len(alone)], alone)
