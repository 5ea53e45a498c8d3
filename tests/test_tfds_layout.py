"""A corpus is a dataset of TFDS, and such a dataset is a corpus."""

import hashlib
import json

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import record_index
from musiclm_jax import records
from musiclm_jax import tfds_layout
from musiclm_jax import tfrecords

_ABOUT = dict(start_seconds=1.5, melody=[[0, 60]])


def _pcm(number, length=1001):
  return np.random.default_rng(number).integers(-2**15, 2**15, length, np.int16)


def _write(folder, name='My songs', shard_bytes=None, monkeypatch=None):
  if shard_bytes:
    monkeypatch.setattr(records, 'MAX_SHARD_BYTES', shard_bytes)
  with records.Writer(folder, name, 24_000, licence='CC0 \u00e9') as writer:
    for i in range(5):
      writer.add('train', f't{i}', _pcm(i, 1000 + i), captions=['one', 'zwölf'],
                 aspects=['slow'][:i], source=f's{i}.wav', **_ABOUT)
    writer.add('test', 'held', _pcm(9))
  return records.Corpus(folder)


def _as_read(corpus):
  return {(name, t.id): (split.read(t).tobytes(), t.meta)
          for name in corpus.splits for split in [corpus.split(name)]
          for t in split}


def test_names(tmp_path, monkeypatch):
  corpus = _write(tmp_path / 'c', shard_bytes=5000, monkeypatch=monkeypatch)
  assert sorted(p.relative_to(tmp_path / 'c').as_posix()
                for p in (tmp_path / 'c').rglob('*') if p.is_file()) == [
      'dataset_info.json', 'features.json', 'manifest.json', 'metadata.json',
      'my_songs-test.tfrecord-00000-of-00001',
      'my_songs-train.tfrecord-00000-of-00003',
      'my_songs-train.tfrecord-00001-of-00003',
      'my_songs-train.tfrecord-00002-of-00003',
      'test/tracks.jsonl', 'train/tracks.jsonl']
  for i, track in enumerate(corpus.split('train')):
    read = corpus.split('train').read(track, 10, 7)
    np.testing.assert_array_equal(read, _pcm(i, 1000 + i)[10:17] / np.float32(32767))


def test_the_same_bytes_each_time(tmp_path):
  for name in 'ab':
    _write(tmp_path / name)
  for path in (tmp_path / 'a').rglob('*'):
    if path.is_file():
      twin = tmp_path / 'b' / path.relative_to(tmp_path / 'a')
      assert path.read_bytes() == twin.read_bytes()


def test_offsets_may_be_odd(tmp_path):
  offsets = [t.offset for t in _write(tmp_path / 'c').split('train')]
  assert {offset % 2 for offset in offsets} == {0, 1}


def test_without_its_index_it_is_read_all_the_same(tmp_path, monkeypatch):
  corpus = _write(tmp_path / 'c', shard_bytes=5000, monkeypatch=monkeypatch)
  expected, fingerprint = _as_read(corpus), corpus.fingerprint
  for name in ('manifest.json', 'train/tracks.jsonl', 'test/tracks.jsonl'):
    (tmp_path / 'c' / name).unlink()
  bare = records.Corpus(tmp_path / 'c')
  found = _as_read(bare)
  # Each record holds the licence, and the index none that all have.
  assert {meta.pop('licence') for _, meta in found.values()} == {'CC0 \u00e9'}
  assert found == expected
  assert bare.manifest['splits'] == corpus.manifest['splits']
  assert bare.fingerprint != fingerprint and len(bare.fingerprint) == 64


@pytest.mark.parametrize('name, content, words', [
    ('c-train.tfrecord-00000-of-00001', lambda old: old[:-9],
     'is cut within record 5; make or copy'),
    ('c-train.tfrecord-00000-of-00001', None, 'is missing; make or copy'),
    ('c-train.tfrecord-00000-of-00001', lambda old: b'RIFF' * 99, 'is damaged'),
    ('features.json', lambda old: b'{}', 'other features than a corpus has'),
    ('metadata.json', None, 'it has no sample_rate_hz'),
    ('dataset_info.json', lambda old: b'{"name": "c"}', 'it has no splits'),
    ('dataset_info.json', lambda old: old.replace(b'"tfrecord"', b'"riegeli"'),
     'files are riegeli; expected tfrecord')])
def test_damage_of_a_dataset_is_one_line(tmp_path, name, content, words):
  _write(tmp_path / 'c', 'c')
  (tmp_path / 'c/manifest.json').unlink()
  path = tmp_path / 'c' / name
  if content is None:
    path.unlink()
  else:
    path.write_bytes(content(path.read_bytes()))
  with pytest.raises(errors.UserError, match=words) as told:
    records.Corpus(tmp_path / 'c')
  assert '\n' not in str(told.value)


def test_a_record_that_is_no_track(tmp_path):
  with pytest.raises(errors.UserError, match='record 1 is no track'):
    with open(tmp_path / 'x', 'wb') as file:
      tfrecords.append(file, tfrecords.example(dict(id=[b'a'])))
    list(record_index.scan(tmp_path / 'x'))


def test_a_corpus_of_the_former_format_is_read(tmp_path):
  pcm = _pcm(1)
  (tmp_path / 'train').mkdir()
  (tmp_path / 'train/00000.pcm').write_bytes(pcm.astype('<i2').tobytes())
  (tmp_path / 'train/tracks.jsonl').write_text(json.dumps(dict(
      id='a', shard='00000.pcm', offset=400, num_samples=600,
      captions=['c'])) + '\n')
  (tmp_path / 'manifest.json').write_text(json.dumps(dict(
      format='musiclm_jax.records.v1', name='old', sample_rate_hz=24_000,
      splits=dict(train=dict(tracks=1, seconds=0.025)))))
  split = records.Corpus(tmp_path).split('train')
  np.testing.assert_array_equal(
      split.read(split[0]), pcm[400:1000] / np.float32(32767))
  (tmp_path / 'train/00000.pcm').write_bytes(bytes(1999))
  with pytest.raises(errors.UserError, match='1999 bytes, expected 2000'):
    records.Corpus(tmp_path).split('train')


def test_tfds_opens_what_was_written(tmp_path, monkeypatch):
  tfds = pytest.importorskip('tensorflow_datasets')
  _write(tmp_path / 'c', shard_bytes=5000, monkeypatch=monkeypatch)
  builder = tfds.builder_from_directory(tmp_path / 'c')
  assert builder.info.metadata['sample_rate_hz'] == 24_000
  assert {n: s.num_examples for n, s in builder.info.splits.items()} == dict(
      train=5, test=1)
  found = list(builder.as_dataset(split='train').as_numpy_iterator())
  assert [f['id'] for f in found] == [b't%d' % i for i in range(5)]
  for i, values in enumerate(found):
    np.testing.assert_array_equal(values['audio'], _pcm(i, 1000 + i))
    assert [c.decode() for c in values['captions']] == ['one', 'zwölf']
    assert list(values['aspects']) == [b'slow'][:i]
    assert values['source'] == b's%d.wav' % i
    assert values['licence'].decode() == 'CC0 \u00e9'
    assert values['checksum'].decode() == hashlib.sha256(
        _pcm(i, 1000 + i).tobytes()).hexdigest()
    assert json.loads(values['about']) == _ABOUT
  # Some of it, which needs the counts of the files to be right.
  part = builder.as_dataset(split='train[3:]').as_numpy_iterator()
  assert [f['id'] for f in part] == [b't3', b't4']


def test_what_tfds_wrote_is_a_corpus(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets')
  text, listed = tfds.features.Text(), tfds.features.Sequence(tfds.features.Text())
  features = tfds.features.FeaturesDict(dict(
      id=text, captions=listed, aspects=listed, source=text, licence=text,
      checksum=text, about=text, audio=tfds.features.Tensor(
          shape=(None,), dtype=np.int16, encoding='bytes')))

  class TheirSongs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('2.1.0')

    def _info(self):
      return tfds.core.DatasetInfo(
          builder=self, features=features,
          metadata=tfds.core.MetadataDict(sample_rate_hz=16_000, licence='CC0'))

    def _split_generators(self, unused_manager):
      return dict(train=self._generate_examples(4))

    def _generate_examples(self, count):
      for i in range(count):
        yield i, dict(id=f't{i}', captions=['a', 'b'][:i], aspects=[],
                      audio=_pcm(i, 100 * i), source='', licence='CC0',
                      checksum='', about='' if i else '{"genre": "jig"}')

  builder = TheirSongs(data_dir=tmp_path)
  builder.download_and_prepare()
  corpus = records.Corpus(builder.data_dir)
  assert corpus.sample_rate_hz == 16_000 and corpus.name == 'their_songs'
  split = corpus.split('train')
  tracks = {t.id: t for t in split}
  assert sorted(tracks) == ['t0', 't1', 't2', 't3']
  for i in range(4):
    np.testing.assert_array_equal(
        split.read(tracks[f't{i}']), _pcm(i, 100 * i) / np.float32(32767))
  assert tracks['t1'].captions == ['a'] and tracks['t0'].meta['genre'] == 'jig'
  described = tfds_layout.contents('x', 1, '', {})['features.json']
  assert json.loads(
      (builder.data_path / 'features.json').read_text()) == described
