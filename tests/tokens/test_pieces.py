"""Shards as pieces of work: what is bad costs itself, and nothing else."""

import errno
import json
import os
import pathlib

import fake_tokens
import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import tfrecords
from musiclm_jax.commands import cli
from musiclm_jax.commands import precompute as precompute_command
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import pieces
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import tasks


@pytest.fixture(name='corpus')
def corpus_fixture(tmp_path):
  return fake_tokens.write_corpus(tmp_path / 'corpus')


def make(corpus, directory, tokenizers=None, **options):
  return precompute.tokenize(tokenizers or fake_tokens.tokenizers(), corpus,
                             directory, shard_seconds=60, **options)


def by_id(cache, split='train'):
  stored = cache.records(split)
  found = [stored.read(i) for i in range(len(cache.index(split)))]
  return {tasks.parse(r, cache.described())['id'].numpy().decode(): r
          for r in found}


class BadCodec(fake_tokens.Codec):
  """Gives codes out of range for the track whose marks begin at `mark`."""

  def __init__(self, mark, error=None):
    super().__init__()
    self._mark, self._error = mark, error

  def encode(self, audio):
    codes = super().encode(audio)
    bad = np.round(audio[:, 0] * 32767) == self._mark
    if np.any(bad) and self._error:
      raise self._error
    codes[bad] = 16
    return codes


def with_codec(codec):
  made = fake_tokens.tokenizers()
  return loading.Tokenizers(codec, made.semantic, made.joint, made.tokens,
                            made.hashes)


def test_a_track_with_bad_codes_costs_itself(corpus, tmp_path):
  good = make(corpus, tmp_path / 'good')
  cache = make(corpus, tmp_path / 'c', with_codec(BadCodec(30)))  # train2
  expected, found = by_id(good), by_id(cache)
  assert expected.pop('train2') and found == expected
  assert cache.left_out == [
      dict(split='train', id='train5', reason='under a second'),
      dict(split='train', id='train2',
           reason='codes span 16..16; expected 0..15.')]
  assert cache.about['splits']['train'] == dict(
      tracks=4, seconds=88, left_out=2, unusable=1)
  assert 'unusable' not in cache.about['splits']['validation']


def test_changed_samples_are_found_by_their_checksum(corpus, tmp_path, capsys,
                                                     monkeypatch):
  track = corpus.split('train')[2]
  path = pathlib.Path(track.shard)
  with open(path, 'r+b') as file:
    file.seek(track.offset + 2 * fake_tokens.RATE_HZ)
    file.write(b'\x01\x02')
  monkeypatch.setattr(loading.Tokenizers, 'load',
                      lambda bundle_dir: fake_tokens.tokenizers())
  cli.main(['precompute', '--bundle', 'b', '--corpus', str(corpus.directory),
            '--cache', str(tmp_path / 'c')])
  assert ('train: 4 tracks, 88 s; 1 under a second left out; 1 unusable, see '
          'left_out.jsonl') in capsys.readouterr().out
  cache = cache_lib.Cache(tmp_path / 'c')
  assert cache.left_out[-1]['id'] == 'train2'
  assert 'another checksum' in cache.left_out[-1]['reason']
  assert set(by_id(cache)) == {'train0', 'train1', 'train3', 'train4'}


def test_a_shard_without_a_usable_track_is_empty(corpus, tmp_path):
  cache = make(corpus, tmp_path / 'c', with_codec(BadCodec(10)))  # train0
  sizes = [path.stat().st_size for path in cache.records('train').paths]
  assert sizes[0] == 0 and sizes[1] > 0
  assert set(by_id(cache)) == {'train1', 'train2', 'train3', 'train4'}


def test_a_failed_shard_is_named_and_made_by_the_next_run(corpus, tmp_path):
  expected = fake_tokens.content(make(corpus, tmp_path / 'good').directory)
  broken = with_codec(BadCodec(30, RuntimeError('out of memory')))
  with pytest.raises(errors.UserError) as caught:
    make(corpus, tmp_path / 'c', broken)
  message = str(caught.value)
  assert message.startswith('1 of 3 shards of') and '\n' not in message
  assert 'train-00001 (RuntimeError: out of memory)' in message
  assert 'run the command again' in message
  assert list((tmp_path / 'c').rglob('validation.tfrecord*')), 'done all the same'
  tokenizers = fake_tokens.tokenizers()
  make(corpus, tmp_path / 'c', tokenizers)
  assert fake_tokens.content(tmp_path / 'c') == expected
  assert (1, 45 * fake_tokens.RATE_HZ) not in tokenizers.codec.shapes


def test_a_shard_that_was_lost_or_cut_is_made_again(corpus, tmp_path):
  expected = fake_tokens.content(make(corpus, tmp_path / 'good').directory)
  with pytest.raises(KeyboardInterrupt):
    make(corpus, tmp_path / 'c', fake_tokens.tokenizers(stop_after=5))
  first, second = sorted((tmp_path / 'c').rglob('train.tfrecord*'))
  first.unlink()
  second.write_bytes(second.read_bytes()[:-1])
  make(corpus, tmp_path / 'c')
  assert fake_tokens.content(tmp_path / 'c') == expected


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(
    corpus, tmp_path, monkeypatch, capsys):
  expected = fake_tokens.content(make(corpus, tmp_path / 'good').directory)
  append, calls = tfrecords.append, []

  def full(file, payload):
    calls.append(payload)
    if len(calls) > 3:
      file.write(payload[:10])
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return append(file, payload)

  monkeypatch.setattr(pieces.tfrecords, 'append', full)
  monkeypatch.setattr(precompute_command.loading.Tokenizers, 'load',
                      lambda bundle_dir: fake_tokens.tokenizers())
  monkeypatch.setattr(precompute.tokenize, '__defaults__', tuple(
      60 if value == precompute.SHARD_SECONDS else value
      for value in precompute.tokenize.__defaults__))
  arguments = ['precompute', '--bundle', 'b', '--corpus', str(corpus.directory),
               '--cache', str(tmp_path / 'c')]
  with pytest.raises(SystemExit) as stopped:
    cli.main(arguments)
  error = capsys.readouterr().err
  assert stopped.value.code == 2
  assert error.count('musiclm: error') == 1 and 'No space left' in error
  assert 'train.tfrecord-00001-of-00002' in error
  left = [p.name for p in (tmp_path / 'c' / cache_lib.STREAMS_TASK).iterdir()]
  assert left == ['train.tfrecord-00000-of-00002'], 'nothing half-written'

  monkeypatch.setattr(pieces.tfrecords, 'append', append)
  cli.main(arguments)
  found = fake_tokens.content(tmp_path / 'c')
  command = found.pop(cache_lib.PROVENANCE)['command']
  assert command.startswith('musiclm precompute --corpus ')
  del expected[cache_lib.PROVENANCE]
  assert found == expected


def test_provenance_says_where_a_cache_is_from(corpus, tmp_path):
  cache = make(corpus, tmp_path / 'c', origin=dict(command='musiclm precompute'))
  about = json.loads((cache.directory / cache_lib.PROVENANCE).read_text())
  assert about['command'] == 'musiclm precompute'
  assert about['corpus']['directory'] == str(corpus.directory)
  assert about['corpus']['licence'] == 'CC0'
  assert about['bundle'] == cache.about['bundle']
  assert about['splits']['train'] == dict(tracks=5, seconds=100, left_out=1)
  assert {'git_commit', 'machine', 'version_jax'} <= set(about)


def test_a_dataset_of_tfds_is_a_corpus(corpus, tmp_path):
  """One that somebody else's writer made: without our manifest and index."""
  expected = by_id(make(corpus, tmp_path / 'ours'))
  (corpus.directory / 'manifest.json').unlink()
  for path in corpus.directory.rglob('tracks.jsonl'):
    path.unlink()
  found = make(records.Corpus(corpus.directory), tmp_path / 'theirs')
  assert by_id(found) == expected


def test_what_is_left_of_killed_runs_goes(corpus, tmp_path):
  expected = fake_tokens.content(make(corpus, tmp_path / 'good').directory)
  make(corpus, tmp_path / 'c')
  streams = tmp_path / 'c' / cache_lib.STREAMS_TASK
  (streams / '.train.123-abcdef.tmp.tfrecord-00000-of-00002').touch()
  (streams / '.index.train-00000.npz').touch()  # of the former program
  (tmp_path / 'c' / '.shards').mkdir()
  (tmp_path / 'c' / '.fingerprint.12-abcdef.tmp.json').touch()
  make(corpus, tmp_path / 'c')
  assert fake_tokens.content(tmp_path / 'c') == expected
  assert not (tmp_path / 'c' / '.shards').exists()


def test_work_elsewhere_needs_what_loads_the_tokenizers(corpus, tmp_path):
  from musiclm_jax import workers  # pylint: disable=g-import-not-at-top
  with pytest.raises(ValueError, match='needs `load`'):
    make(corpus, tmp_path / 'c', options=workers.Options('beam'))
  assert not (tmp_path / 'c').exists()


def test_a_url_is_no_place_for_a_cache(corpus, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main(['precompute', '--bundle', 'b', '--corpus', str(corpus.directory),
              '--cache', 'gs://bucket/cache'])
  assert stopped.value.code == 2
  assert 'is a URL; a cache is a folder' in capsys.readouterr().err
