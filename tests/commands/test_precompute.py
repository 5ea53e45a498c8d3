"""Precompute: streams cut to the second, shards, resuming, refusing."""

import json
import subprocess
import sys

import fake_tokens
import numpy as np
import pytest
import seqio

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.commands import precompute as precompute_command
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokenizers import stretches
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import shards
from musiclm_jax.tokens import tasks


@pytest.fixture(name='corpus', scope='module')
def corpus_fixture(tmp_path_factory):
  return fake_tokens.write_corpus(tmp_path_factory.mktemp('data') / 'corpus')


def make(corpus, directory, **codec_options):
  tokenizers = fake_tokens.tokenizers(**codec_options)
  cache = precompute.tokenize(tokenizers, corpus, directory, shard_seconds=60)
  return cache, tokenizers


@pytest.fixture(name='cache', scope='module')
def cache_fixture(corpus, tmp_path_factory):
  return make(corpus, tmp_path_factory.mktemp('made') / 'cache')[0]


def read(cache, split):
  stored = cache.records(split)
  return [{k: v.numpy() for k, v in
           tasks.parse(stored.read(i), cache.described()).items()}
          for i in range(len(cache.index(split)))]


def test_streams_are_whole_seconds_of_the_tokenizers_codes(cache):
  found = read(cache, 'train')
  assert [e['seconds'] for e in found] == [45, 33, 12, 7, 3]
  for track, example in enumerate(found):
    seconds = int(example['seconds'])
    line = fake_tokens.marks(track, seconds)
    acoustic = (np.repeat(line, 50)[:, None] + np.arange(12)) % 16
    np.testing.assert_array_equal(
        example['acoustic'].reshape(-1, 12), acoustic)
    np.testing.assert_array_equal(
        example['semantic'], (np.repeat(line, 25) + 5) % 16)
    windows = max(1, seconds - 9)
    np.testing.assert_array_equal(
        np.frombuffer(example['mulan'], '<f2').reshape(-1, 8), np.stack(
            [fake_tokens.embedding(m) for m in line[:windows]]).astype('f2'))
    assert example['id'] == f'train{track}'.encode()
    assert list(example['captions']) == [f'tune {track}'.encode(), b'lively']


def test_seqio_reads_the_cache_by_itself(cache):
  """Its own cached-task reader, found through its global cache directories."""
  features = {'acoustic': seqio.Feature(seqio.PassThroughVocabulary(16))}
  seqio.TaskRegistry.remove(cache_lib.STREAMS_TASK)
  task = seqio.TaskRegistry.add(
      cache_lib.STREAMS_TASK, seqio.FunctionDataSource(
          lambda split, shuffle_files: None, ['train']),
      features, [seqio.CacheDatasetPlaceholder(required=True)])
  before = seqio.get_global_cache_dirs()
  seqio.add_global_cache_dirs([str(cache.directory)])
  try:
    dataset = task.get_dataset(None, 'train', use_cached=True, shuffle=False)
    found = list(dataset.as_numpy_iterator())
  finally:
    seqio.set_global_cache_dirs(before)
    seqio.TaskRegistry.remove(cache_lib.STREAMS_TASK)
  assert task.get_cached_stats('train')['acoustic_tokens'] == 100 * 600
  own = read(cache, 'train')
  assert sorted(e['id'] for e in found) == [e['id'] for e in own]
  by_id = {e['id']: e for e in found}
  for example in own:
    for name, value in example.items():
      other = by_id[example['id']][name]
      np.testing.assert_array_equal(other, value)
      assert np.asarray(other).dtype == np.asarray(value).dtype


def test_shards_hold_about_shard_seconds(cache):
  names = sorted(p.name for p in cache.streams_dir.glob('train.tfrecord*'))
  # 45 | 33 + 12 + 7 + 3
  assert names == [f'train.tfrecord-0000{i}-of-00002' for i in range(2)]
  assert cache.stats('train') == dict(
      examples=5, seconds=100, acoustic_tokens=60_000,
      acoustic_max_tokens=45 * 600, semantic_tokens=2500)
  assert cache.about['splits']['train'] == dict(
      tracks=5, seconds=100, left_out=1)
  assert not [p for p in cache.directory.rglob('.*')]


def test_like_long_tracks_share_a_padded_shape():
  shard = [('a', 7), ('b', 12), ('c', 10), ('d', 9), ('e', 6), ('f', 320)]
  assert list(shards.batches(shard)) == [
      (10, 4, [0, 2, 3, 4]), (15, 1, [1]), (320, 1, [5])]
  many = [('t', 60)] * 7  # 4 rows are 240 s, 8 would be over 320 s
  assert list(shards.batches(many)) == [
      (60, 4, [0, 1, 2, 3]), (60, 4, [4, 5, 6])]


def test_shards_alone_and_in_any_order_give_the_bytes_of_the_cache(
    corpus, cache):
  """As workers on many machines would make them."""
  tokenizers, split = fake_tokens.tokenizers(), corpus.split('train')
  plan = shards.plan(split, 60)
  stored, seen = cache.records('train'), []
  for number, shard in reversed(list(enumerate(plan))):
    made = shards.serialise(tokenizers, split, shard)
    first = sum(map(len, plan[:number]))
    assert made == [stored.read(first + i) for i in range(len(shard))]
    found, whole = shards.index(
        number, [seconds for _, seconds in shard], list(map(len, made))), (
            cache.index('train'))
    mine = slice(first, first + len(shard))
    np.testing.assert_array_equal(found.offset, whole.offset[mine])
    np.testing.assert_array_equal(found.length, whole.length[mine])
    np.testing.assert_array_equal(found.seconds, whole.seconds[mine])
    seen += found.shard.tolist()
  assert seen == [1] * 4 + [0]


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    corpus, cache, tmp_path):
  for stop_after in (0, 1, 3):
    with pytest.raises(KeyboardInterrupt):
      make(corpus, tmp_path / f'{stop_after}', stop_after=stop_after)
    assert not (tmp_path / f'{stop_after}' / cache_lib.FINGERPRINT).exists()
    with pytest.raises(errors.UserError, match='not a finished token cache'):
      cache_lib.Cache(tmp_path / f'{stop_after}')
    resumed, tokenizers = make(corpus, tmp_path / f'{stop_after}')
    assert fake_tokens.content(resumed.directory) == (
        fake_tokens.content(cache.directory))
    if stop_after:  # the first shard, 45 s, was not encoded again
      assert (1, 45 * fake_tokens.RATE_HZ) not in tokenizers.codec.shapes


def test_a_finished_cache_is_left_alone(corpus, tmp_path):
  make(corpus, tmp_path / 'c')
  before = fake_tokens.content(tmp_path / 'c')
  _, tokenizers = make(corpus, tmp_path / 'c')
  assert not tokenizers.codec.shapes
  assert fake_tokens.content(tmp_path / 'c') == before


def test_a_cut_shard_is_named_and_made_again_when_asked(corpus, tmp_path):
  make(corpus, tmp_path / 'c')
  before = fake_tokens.content(tmp_path / 'c')
  shard = next((tmp_path / 'c').rglob('train.tfrecord-*'))
  shard.write_bytes(shard.read_bytes()[:1000])
  with pytest.raises(errors.UserError, match=(
      f'{shard.name} is shorter than index.train.npz says .1000 bytes, exp')):
    make(corpus, tmp_path / 'c')
  precompute.tokenize(fake_tokens.tokenizers(), corpus, tmp_path / 'c',
                      shard_seconds=60, replace=True)
  assert fake_tokens.content(tmp_path / 'c') == before


def test_another_bundle_is_refused_by_name(corpus, tmp_path):
  make(corpus, tmp_path / 'c')
  other = fake_tokens.tokenizers()
  other.hashes['mulan'] = 'd'
  with pytest.raises(errors.UserError, match='bundle.mulan: c, expected d'):
    precompute.tokenize(other, corpus, tmp_path / 'c', shard_seconds=60)


def test_wrong_rate_and_empty_corpora_are_refused(tmp_path):
  with records.Writer(tmp_path / 'rate', 'x', 8000) as writer:
    writer.add('train', 'a', np.zeros(8000))
  with pytest.raises(errors.UserError, match='has 8000 Hz, the bundle 1200'):
    make(records.Corpus(tmp_path / 'rate'), tmp_path / 'c')
  with records.Writer(tmp_path / 'short', 'x', fake_tokens.RATE_HZ) as writer:
    writer.add('train', 'a', np.zeros(1199))
  with pytest.raises(errors.UserError, match='no track of a second'):
    make(records.Corpus(tmp_path / 'short'), tmp_path / 'c')
  assert not (tmp_path / 'c').exists()
  (tmp_path / 'file').touch()
  with records.Writer(tmp_path / 'good', 'x', fake_tokens.RATE_HZ) as writer:
    writer.add('train', 'a', np.zeros(1200))
  with pytest.raises(errors.UserError, match='is a file'):
    make(records.Corpus(tmp_path / 'good'), tmp_path / 'file')


def test_codes_out_of_range_never_reach_a_cache(corpus, tmp_path):
  tokenizers = fake_tokens.tokenizers()
  tokenizers.codec.encode = lambda audio: np.full(
      (len(audio), audio.shape[1] // 24, 12), 16)
  with pytest.raises(ValueError, match=r'16\.\.16; expected 0\.\.15'):
    precompute.tokenize(tokenizers, corpus, tmp_path / 'c')


def test_progress_says_rate_and_hours(corpus, tmp_path, monkeypatch):
  monkeypatch.setattr(precompute, '_REPORT_SECONDS', 0.0)
  lines = []
  precompute.tokenize(
      fake_tokens.tokenizers(), corpus, tmp_path / 'c', lines.append)
  assert 'x real time' in lines[0] and 's left' in lines[0]
  assert lines[-1].startswith('tokens: 0.04 of 0.04 h')


def test_a_track_of_hours_says_how_far_it_is(tmp_path, monkeypatch):
  monkeypatch.setattr(precompute, '_REPORT_SECONDS', 0.0)
  monkeypatch.setattr(shards, 'LONG_SECONDS', 10)
  monkeypatch.setattr(stretches, '_WINDOWS', 1)
  monkeypatch.setattr(
      stretches, 'acoustic', lambda codec, read, count: codec.encode(
          read(0, count)[None])[0])
  with records.Writer(tmp_path / 'long', 'x', fake_tokens.RATE_HZ) as writer:
    writer.add('train', 'a', 0.1 * np.ones(3600 * fake_tokens.RATE_HZ))
  lines = []
  precompute.tokenize(
      fake_tokens.tokenizers(), records.Corpus(tmp_path / 'long'),
      tmp_path / 'c', lines.append)
  hours = [float(line.split()[1]) for line in lines]
  assert hours == sorted(hours) and hours[-1] == 1.0
  assert len(hours) > 100 and len(set(hours)) > 50
  assert lines[-1].startswith('tokens: 1.00 of 1.00 h')


@pytest.mark.parametrize('name', ['codebooks.npz', 'musiclm_tokens/x'])
def test_the_files_of_others_are_not_written_over(corpus, tmp_path, name):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  (tmp_path / name).write_text('mine')
  with pytest.raises(errors.UserError, match='and no fingerprint.json, so'):
    precompute.tokenize(fake_tokens.tokenizers(), corpus, tmp_path,
                        replace=True)
  assert [p.read_text() for p in tmp_path.rglob('*') if p.is_file()] == ['mine']


def test_another_run_is_kept_out_of_a_cache(corpus, tmp_path):
  with files.claimed(tmp_path / 'c'):
    with pytest.raises(errors.UserError, match='another run writes to the tok'):
      precompute_command.precompute('no bundle', corpus.directory, tmp_path / 'c')
  assert not list(tmp_path.iterdir())


def test_another_bundle_replaces_only_when_asked(corpus, tmp_path):
  make(corpus, tmp_path / 'c')
  streams = tmp_path / 'c' / cache_lib.STREAMS_TASK
  for folder in (tmp_path / 'c', streams):
    (folder / 'notes.txt').write_text('mine')
  other = fake_tokens.tokenizers()
  other.hashes['mulan'] = 'd'
  cache = precompute.tokenize(
      other, corpus, tmp_path / 'c', replace=True, shard_seconds=60)
  assert cache.about['bundle']['mulan'] == 'd'
  for folder in (tmp_path / 'c', streams):
    assert (folder / 'notes.txt').read_text() == 'mine'
  assert len(read(cache, 'train')) == 5


def test_command_line(corpus, tmp_path, capsys, monkeypatch):
  arguments = ['precompute', '--bundle', str(tmp_path / 'b'), '--corpus',
               str(corpus.directory), '--cache', str(tmp_path / 'c')]
  with pytest.raises(SystemExit) as stopped:
    cli.main(arguments)
  error = capsys.readouterr().err
  assert stopped.value.code == 2 and error.count('\n') == 1
  assert error.startswith('musiclm: error: no bundle at')
  assert not (tmp_path / 'c').exists()

  monkeypatch.setattr(loading.Tokenizers, 'load',
                      lambda bundle_dir: fake_tokens.tokenizers())
  cli.main(arguments + ['--json', str(tmp_path / 'f.json')])
  assert 'train: 5 tracks, 100 s; 1 under a second' in capsys.readouterr().out
  figures = json.loads((tmp_path / 'f.json').read_text())
  assert figures['train_acoustic_tokens'] == 60_000
  assert 'git_commit' in figures


def test_help_needs_no_tensorflow():
  code = ('import sys, musiclm_jax.commands.precompute; '
          'sys.exit(any(m in sys.modules for m in ("tensorflow", "jax")))')
  assert subprocess.run(
      [sys.executable, '-c', code], check=False).returncode == 0


def test_fingerprint_states_specs_bundle_and_corpus(cache):
  about = json.loads((cache.directory / cache_lib.FINGERPRINT).read_text())
  assert about['bundle'] == dict(codec='a', w2vbert='b', mulan='c')
  assert about['corpus']['name'] == 'fake'
  assert cache.tokens == fake_tokens.TOKENS
  assert list(cache.codebooks) == ['mulan']  # the others do not tell theirs
  np.testing.assert_array_equal(
      cache.codebooks['mulan'], fake_tokens.Joint.codebooks.astype(np.float32))


def test_codebooks_of_the_tokenizers_that_tell_theirs():
  parts = fake_tokens.tokenizers()
  rng = np.random.default_rng(0)
  parts.codec.codebooks = rng.standard_normal((12, 16, 5))
  parts.semantic.centroids = rng.standard_normal((16, 7))
  found = parts.codebooks()
  assert {k: v.shape for k, v in found.items()} == dict(
      mulan=(3, 16, 8), acoustic=(12, 16, 5), semantic=(1, 16, 7))
  assert all(v.dtype == np.float32 for v in found.values())
  np.testing.assert_allclose(
      found['semantic'][0], parts.semantic.centroids, rtol=1e-6)


def test_a_corpus_is_no_place_for_a_cache(corpus, capsys):
  before = sorted(corpus.directory.rglob('*'))
  with pytest.raises(SystemExit) as stop:
    cli.main(['precompute', '--bundle', 'b', '--corpus', str(corpus.directory),
              '--cache', str(corpus.directory)])
  assert stop.value.code == 2
  assert 'is a corpus or a bundle (it has manifest' in capsys.readouterr().err
  assert sorted(corpus.directory.rglob('*')) == before
