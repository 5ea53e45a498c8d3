"""A corpus that is not what was written is told of, track by track."""

import json

import numpy as np
import pytest

from musiclm_jax import record_check
from musiclm_jax import records
from musiclm_jax.commands import cli

_RATE = 1200


@pytest.fixture(name='place')
def _place(tmp_path):
  """A corpus of six tracks in one file, and one in another split."""
  rng = np.random.default_rng(0)
  with records.Writer(tmp_path / 'c', 'c', _RATE, licence='CC0') as writer:
    for i in range(6):
      writer.add('train', f't{i}', rng.uniform(-1, 1, _RATE), captions=['a'])
    writer.add('test', 'other', rng.uniform(-1, 1, _RATE))
  return tmp_path / 'c'


def _told(place):
  return [str(fault) for fault in record_check.faults(records.Corpus(place))]


def _shard(place):
  return place / 'c-train.tfrecord-00000-of-00001'


def _index(place, change):
  """Has `change` make the lines of an index anew, as dicts."""
  path = place / 'train' / 'tracks.jsonl'
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  path.write_text(''.join(json.dumps(line) + '\n' for line in change(lines)))


def _flip(path, place):
  data = bytearray(path.read_bytes())
  data[place] ^= 1
  path.write_bytes(data)


def test_nothing_is_said_of_a_good_one(place):
  read = []
  assert not list(record_check.faults(records.Corpus(place), read.append))
  assert read == list(range(1, 8))


def test_a_bit_of_a_sample(place):
  track = records.Corpus(place).split('train')[2]
  _flip(_shard(place), track.offset + 700)
  assert _told(place) == [
      'train/t2: its samples have another checksum than when they were written']


def test_a_bit_of_what_is_around_the_samples(place):
  track = records.Corpus(place).split('train')[3]
  # Of a caption in the record, which the index has as well.
  data = _shard(place).read_bytes()
  begin = data.rindex(b'captions', 0, track.offset)
  _flip(_shard(place), data.index(b'a', begin + len(b'captions')))
  assert _told(place) == [
      'train/t3: its record has another checksum than when it was written']


def test_a_bit_of_a_frame_costs_the_file_one_line(place):
  _flip(_shard(place), 0)  # of the first record's length
  (said,) = _told(place)
  assert said.startswith('c-train.tfrecord') and 'the head of record 1' in said


@pytest.mark.parametrize('change, words', [
    (lambda lines: lines[:2] + [dict(lines[2], id='t9')] + lines[3:],
     'train/t9: its record is that of t2'),
    (lambda lines: lines[:2] + [dict(lines[2], id='t0')] + lines[3:],
     'train/t0: its id is that of another track'),
    (lambda lines: lines[:5] + [dict(
        lines[5], offset=lines[5]['offset'] - 2, checksum='')],
     'train/t5: no record of c-train.tfrecord-00000-of-00001 begins where'),
    (lambda lines: lines[:5], 'has 5 tracks, and manifest.json says 6'),
])
def test_an_index_of_something_else(place, change, words):
  _index(place, change)
  (said,) = _told(place)
  assert words in said


def test_fewer_samples_than_were_written(place):
  _index(place, lambda lines: [
      dict(lines[0], num_samples=600, checksum=''), *lines[1:]])
  assert _told(place) == [
      'train: 5.500 s of sound, and manifest.json says 6.000',
      'train/t0: its record has 1200 samples, and the index says 600']


def test_rates_and_counts_that_differ(place):
  (place / 'metadata.json').write_text('{"sample_rate_hz": 44100}')
  info = json.loads((place / 'dataset_info.json').read_text())
  for split in info['splits']:
    split['shardLengths'] = ['1']
  (place / 'dataset_info.json').write_text(json.dumps(info))
  assert _told(place) == [
      'metadata.json: 44100 Hz, and manifest.json says 1200',
      'train: 6 tracks, and dataset_info.json says 1']


def test_what_cannot_be_known_is_said(place, capsys):
  """As of the former format: samples end to end, and no checksum."""
  rng = np.random.default_rng(1)
  (place / 'train' / '00000.pcm').write_bytes(rng.bytes(2 * 6 * _RATE))
  def former(lines):
    for i, line in enumerate(lines):
      line.update(shard='00000.pcm', offset=i * _RATE)
      del line['checksum']
    return lines
  _index(place, former)
  cli.main(['inspect', 'corpus', str(place), '--check'])
  assert '; of 6 there is no checksum' in capsys.readouterr().out


def test_the_command_says_each_and_ends_with_two(place, tmp_path, capsys):
  cli.main(['inspect', 'corpus', str(place), '--check'])
  assert '7 records, all as they were written' in capsys.readouterr().out
  for number in (0, 4):
    _flip(_shard(place), records.Corpus(place).split('train')[number].offset)
  figures = tmp_path / 'figures.json'
  with pytest.raises(SystemExit) as ended:
    cli.main(['inspect', 'corpus', str(place), '--check', '--json', str(figures)])
  assert ended.value.code == 2
  said = capsys.readouterr()
  assert [line.split(':')[0] for line in said.out.splitlines()] == [
      'train/t0', 'train/t4']
  assert '2 faults in 7 records' in said.err and said.err.count('\n') == 1
  found = json.loads(figures.read_text())
  assert (found['checked'], found['bad']) == (7, 2)
  with pytest.raises(SystemExit) as ended:
    cli.main(['inspect', 'bundle', '--check'])
  assert ended.value.code == 2
