"""Ingest: whatever the source, stopped wherever, the same corpus."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax import places
from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.data import audio_folder
from musiclm_jax.data.audio_folder import hear
from musiclm_jax.data.audio_folder import shards
from tests.helpers import sources

_ONE = workers.Options(workers=1)


def _build(source, out, **kwargs):
  return audio_folder.build(source, out, **(dict(
      progress=False, runner=_ONE, min_seconds=0.5) | kwargs))


def _tracks(out):
  corpus = records.Corpus(out)
  return {t.id: (name, t, corpus.split(name)) for name in corpus.splits
          for t in corpus.split(name)}


@pytest.fixture(name='music', scope='module')
def _music(tmp_path_factory):
  """A folder of twelve tunes, one of them in two copies, one damaged."""
  folder = sources.folder(tmp_path_factory.mktemp('music') / 'm', 12, 2.2)
  quiet, rate = soundfile.read(folder / '003.wav')
  soundfile.write(folder / 'copy.flac', quiet * 0.3, rate)
  (folder / 'bad.wav').write_bytes(b'RIFFwords')
  return folder


@pytest.fixture(name='unbroken', scope='module')
def _unbroken(music, tmp_path_factory):
  out = tmp_path_factory.mktemp('unbroken') / 'c'
  _build(music, out)
  return out


def test_what_is_made(music, unbroken):
  tracks = _tracks(unbroken)
  assert sorted(tracks) == [f'{i:03d}.wav' for i in range(12)] + ['copy.flac']
  assert not os.path.exists(f'{unbroken}.ingest')
  for name, (_, track, split) in tracks.items():
    assert track.meta['source'] == name and len(track.meta['checksum']) == 64
    heard, _ = soundfile.read(music / name, dtype='float32')
    np.testing.assert_allclose(split.read(track), heard, atol=4e-5)
  (copy,) = map(json.loads, (unbroken / 'duplicates.jsonl').read_text().splitlines())
  assert copy == dict(file='copy.flac', copy_of='003.wav', kind='near',
                      share=copy['share'], dropped=False)
  assert tracks['copy.flac'][0] == tracks['003.wav'][0]
  assert records.Corpus(unbroken).manifest['source']['duplicates'] == {'near': 1}


def test_a_corpus_that_is_there_is_left_as_it_is(music, unbroken, capsys):
  before = sources.contents(unbroken)
  summary = _build(music, unbroken, progress=True)
  assert 'is there already' in capsys.readouterr().out
  assert summary == records.Corpus(unbroken).manifest['source']
  assert sources.contents(unbroken) == before
  with pytest.raises(errors.UserError, match='exists already, and is not of'):
    _build(music, unbroken, min_seconds=0.6)
  assert sources.contents(unbroken) == before


def test_the_same_bytes_by_any_number_of_workers(music, unbroken, tmp_path):
  _build(music, tmp_path / 'c', runner=workers.Options(workers=3))
  assert sources.contents(tmp_path / 'c') == sources.contents(unbroken)


@pytest.mark.parametrize('place', ['hear', 'write', 'describe', 'rename'])
def test_stopped_and_run_again(music, unbroken, tmp_path, monkeypatch, place):
  """A full disk in the middle: one line, nothing at --out, and on it goes."""
  calls = []

  def full(real, at):
    def called(*args):
      calls.append(args)
      if len(calls) == at:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'disk')
      return real(*args)
    return called

  with monkeypatch.context() as patch:
    if place == 'hear':
      patch.setattr(hear, '_write', full(hear._write, 5))
    elif place == 'write':
      patch.setattr(shards.record_shards.ShardWriter, 'add', full(
          shards.record_shards.ShardWriter.add, 7))
    elif place == 'describe':
      patch.setattr(records.record_shards, '_add_lines', full(
          records.record_shards._add_lines, 2))
    else:
      from musiclm_jax.data.audio_folder import corpus  # pylint: disable=g-import-not-at-top
      patch.setattr(corpus.record_shards, 'describe', full(
          corpus.record_shards.describe, 1))
    with pytest.raises(OSError) as told:
      _build(music, tmp_path / 'c')
  assert told.value.errno == errno.ENOSPC
  assert not (tmp_path / 'c').exists()
  assert not [p for p in (tmp_path / 'c.ingest').rglob('*.tmp*')]
  _build(music, tmp_path / 'c')
  assert sources.contents(tmp_path / 'c') == sources.contents(unbroken)
  assert [p.name for p in tmp_path.iterdir()] == ['c']


def test_what_was_heard_is_not_heard_again(music, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    def stop(*unused):
      raise KeyboardInterrupt
    patch.setattr(shards, 'write', stop)
    with pytest.raises(KeyboardInterrupt):
      _build(music, tmp_path / 'c')
  with monkeypatch.context() as patch:
    patch.setattr(hear, '_one', stop)
    _build(music, tmp_path / 'c')


def test_work_of_something_else_is_not_taken_up(music, tmp_path, monkeypatch):
  (tmp_path / 'c.ingest').mkdir()
  (tmp_path / 'c.ingest/notes').write_text('mine')
  with pytest.raises(errors.UserError, match='is in the way'):
    _build(music, tmp_path / 'c')
  assert (tmp_path / 'c.ingest/notes').read_text() == 'mine'

  def stop(*unused):
    raise KeyboardInterrupt
  monkeypatch.setattr(shards, 'write', stop)
  with pytest.raises(KeyboardInterrupt):
    _build(music, tmp_path / 'd')
  with pytest.raises(errors.UserError, match='other files or options; remove'):
    _build(music, tmp_path / 'd', max_seconds=1.0)


def test_a_list(music, tmp_path):
  (tmp_path / 'list.csv').write_text(
      'path,id,caption,licence,split,start_s,end_s,genre\n'
      f'{music}/000.wav,a,"One, two.",CC0,test,0.5,1.5,jig\n'
      f'{music}/000.wav,a,Three.,CC0,test,0.5,1.5,jig\n'
      f'{music}/001.wav,b,,,train,,,\n'
      f'{music}/gone.wav,c,,,train,,,\n'
      f'{music}/003.wav,d,,,train,,,\n'
      f'{music}/copy.flac,e,,,validation,,,\n')
  summary = _build(tmp_path / 'list.csv', tmp_path / 'c')
  tracks = _tracks(tmp_path / 'c')
  assert {i: name for i, (name, _, _) in tracks.items()} == dict(
      a='test', b='train', e='validation')
  _, track, split = tracks['a']
  assert track.captions == ['One, two.', 'Three.']
  assert track.meta['licence'] == 'CC0' and track.meta['genre'] == 'jig'
  assert track.meta['start_seconds'] == 0.5
  heard, _ = soundfile.read(music / '000.wav', dtype='float32')
  np.testing.assert_allclose(split.read(track), heard[12_000:36_000], atol=4e-5)
  rejects = {r['file']: r['reason'] for r in map(
      json.loads, (tmp_path / 'c/rejects.jsonl').read_text().splitlines())}
  # The copy that is held out stays.
  assert rejects == dict(c='unreadable', d='duplicate')
  assert summary['used'] == 3 and summary['files'] == 5


def test_a_part_that_the_file_does_not_have(music, tmp_path):
  """The tunes have 2.2 s; lists may round."""
  (tmp_path / 'list.csv').write_text(
      'path,id,start_s,end_s\n'
      f'{music}/000.wav,rounded,0.5,2.6\n'
      f'{music}/001.wav,past,0.5,9\n'
      f'{music}/002.wav,outside,5,9\n')
  _build(tmp_path / 'list.csv', tmp_path / 'c')
  assert list(_tracks(tmp_path / 'c')) == ['rounded']
  rejects = {r['file']: (r['reason'], r['detail']) for r in map(
      json.loads, (tmp_path / 'c/rejects.jsonl').read_text().splitlines())}
  assert rejects == dict(
      past=('ends early', 'it ends at 2.20 s, and end_s is 9'),
      outside=('empty', 'nothing from 5 s on'))


@pytest.mark.parametrize('text, words', [
    ('name\nx\n', 'columns name; expected path or url'),
    ('path,id\na.wav,x\nb.wav,x\n', 'line 3: the id x stands for another'),
    ('path,start_s\na.wav,soon\n', "line 2: start_s is 'soon'; expected seconds"),
    ('path,start_s,end_s\na.wav,4,2\n', 'line 2: start_s is 4 and end_s 2'),
    ('path,caption\na.wav,one, two\n', 'line 2: 3 fields, expected 2'),
    ('path,caption\n"a.wav\n', 'not CSV'),
    ('path,split\na.wav,../x\n', "split '../x'; expected train"),
    ('path,split\na.wav,val\n', "split 'val'; expected train"),
    ('path,offset\na.wav,3\n', 'line 2: offset is a name that records have'),
    ('path,start_seconds\na.wav,3\n', 'line 2: start_seconds is a name'),
    ('\n', 'columns of no name; expected path or url'),
    ('path\n', 'names no recording')])
def test_a_list_that_is_none(tmp_path, text, words):
  (tmp_path / 'list.csv').write_text(text)
  with pytest.raises(errors.UserError, match=words):
    _build(tmp_path / 'list.csv', tmp_path / 'c')
  assert [p.name for p in tmp_path.iterdir()] == ['list.csv']


@pytest.mark.parametrize('row, words', [
    ({'source': 3}, 'line 1: source must be text'),
    ({'caption': 'a \ud800 b'}, 'line 1: a text holds half a character'),
    ({'genre': ['\ud800']}, 'line 1: a text holds half a character')])
def test_a_row_that_no_track_can_keep(tmp_path, row, words):
  (tmp_path / 'list.jsonl').write_text(json.dumps(dict(row, path='a.wav')))
  with pytest.raises(errors.UserError, match=words):
    _build(tmp_path / 'list.jsonl', tmp_path / 'c')
  assert [p.name for p in tmp_path.iterdir()] == ['list.jsonl']


def test_what_would_be_passed_over_is_refused(music, unbroken, tmp_path):
  (tmp_path / 'list.csv').write_text(f'path\n{music}/000.wav\n')
  for source in (tmp_path / 'list.csv', unbroken):
    with pytest.raises(errors.UserError, match='--captions goes with a folder'):
      _build(source, tmp_path / 'c', captions=tmp_path / 'captions.csv')
  with pytest.raises(errors.UserError, match='--data-dir goes with tfds:NAME'):
    _build(music, tmp_path / 'c', data_dir=tmp_path)
  with pytest.raises(errors.UserError, match='SOURCE is empty'):
    _build('', tmp_path / 'c')
  with pytest.raises(errors.UserError, match='000.wav is a file, and no list'):
    _build(music / '000.wav', tmp_path / 'c')
  assert [p.name for p in tmp_path.iterdir()] == ['list.csv']


def test_a_pattern_and_a_store_give_what_the_folder_gives(
    music, unbroken, tmp_path):
  _build(music / '**' / '*.*', tmp_path / 'glob')
  url = f'memory://{tmp_path.name}/m'
  for path in music.iterdir():
    places.write(f'{url}/{path.name}', path.read_bytes())
  _build(url, tmp_path / 'store')
  expected = {i: (name, t.meta['checksum'])
              for i, (name, t, _) in _tracks(unbroken).items()}
  for out in ('glob', 'store'):
    assert {i: (name, t.meta['checksum']) for i, (name, t, _) in _tracks(
        tmp_path / out).items()} == expected
  with pytest.raises(errors.UserError, match='no .wav.* fits'):
    _build(music / '*.txt', tmp_path / 'none')
  with pytest.raises(errors.UserError, match='no .wav.* other files'):
    _build(f'memory://{tmp_path.name}/here', tmp_path / 'none')
  with pytest.raises(errors.UserError, match='there is no memory://nothing, '):
    _build('memory://nothing/here', tmp_path / 'none')


def test_a_store_that_goes_away_costs_no_recording(
    music, unbroken, tmp_path, monkeypatch):
  url = f'memory://{tmp_path.name}/m'
  for path in music.iterdir():
    places.write(f'{url}/{path.name}', path.read_bytes())
  local, given = places.local, []

  def some(path):
    given.append(path)
    if len(given) == 5:
      raise places.Refused(f'{path}: the store says: nothing')
    return local(path)

  monkeypatch.setattr(places, 'local', some)
  with pytest.raises(places.Refused, match='the store says: nothing'):
    _build(url, tmp_path / 'c')
  assert not (tmp_path / 'c').exists()
  _build(url, tmp_path / 'c')
  assert sorted(_tracks(tmp_path / 'c')) == sorted(_tracks(unbroken))
  fetched = [path for path in given if f'{tmp_path.name}/m/' in path]
  assert len(fetched) == len(set(fetched)) + 1, 'what was heard is not again'


def test_into_a_store(music, unbroken, tmp_path):
  url = f'memory://{tmp_path.name}/out'
  _build(music, url)
  there = {u.partition('/out/')[2] for u in places.under(url)}
  assert there == set(sources.contents(unbroken))
  for name in there:
    assert places.read(f'{url}/{name}') == (unbroken / name).read_bytes()
  assert not places.under(f'{url}.ingest')


def test_a_corpus_again(unbroken, tmp_path):
  _build(unbroken, tmp_path / 'c')
  strip = lambda out: {i: (name, t.meta['checksum'], t.captions)
                       for i, (name, t, _) in _tracks(out).items()}
  assert strip(tmp_path / 'c') == strip(unbroken)


def test_a_dataset_of_tfds(tmp_path):
  tfds = pytest.importorskip('tensorflow_datasets')
  tunes = [sources.tune(seed, 2, 16_000) for seed in range(4)]

  class Songs(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(
          dict(sound=tfds.features.Audio(sample_rate=16_000, dtype=np.int16),
               text=tfds.features.Text())))

    def _split_generators(self, unused_manager):
      return dict(train=self._generate_examples([0, 1, 2]),
                  other=self._generate_examples([3]))

    def _generate_examples(self, numbers):
      for i in numbers:
        yield i, dict(sound=np.round(32767 * tunes[i]).astype(np.int16),
                      text=f'tune {i}')

  builder = Songs(data_dir=tmp_path / 'tfds')
  builder.download_and_prepare()
  _build(builder.data_dir, tmp_path / 'c')
  tracks = _tracks(tmp_path / 'c')
  assert sorted(t.captions[0] for _, t, _ in tracks.values()) == [
      f'tune {i}' for i in range(4)]
  for _, track, split in tracks.values():
    tune = tunes[int(track.captions[0][-1])]
    part = split.read(track)[1200:-1200:3]  # every third sample: 8 kHz
    assert np.corrcoef(part, tune[800:-800:2][:len(part)])[0, 1] > 0.98
  with pytest.raises(errors.UserError, match='no dataset no_such_music of TFDS'):
    _build('tfds:no_such_music', tmp_path / 'd')


def test_two_at_once(music, tmp_path):
  from musiclm_jax import files  # pylint: disable=g-import-not-at-top
  with files.claimed(tmp_path / 'c', 'the corpus', beside=True):
    with pytest.raises(errors.UserError, match='another run writes to the corpus'):
      _build(music, tmp_path / 'c')


def _command(music, out):
  return [sys.executable, '-c', (
      'import sys\nfrom musiclm_jax.data import audio_folder\n'
      'from musiclm_jax import workers\n'
      'audio_folder.build(sys.argv[1], sys.argv[2], min_seconds=0.5, '
      'progress=False, runner=workers.Options(workers=1))'), str(music), str(out)]


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(2))
def test_killed_at_random(music, unbroken, tmp_path, seed):
  """SIGKILL, over and over, until it is through."""
  rng = np.random.default_rng(seed)
  for kills in range(40):
    process = subprocess.Popen(_command(music, tmp_path / 'c'))
    time.sleep(rng.uniform(1.0, 3.0) + 0.3 * kills)
    if process.poll() is not None:
      break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'c').exists() or (
        sources.contents(tmp_path / 'c') == sources.contents(unbroken))
  assert process.returncode == 0 and kills >= 1
  assert sources.contents(tmp_path / 'c') == sources.contents(unbroken)
  subprocess.run(_command(music, tmp_path / 'c'), check=True)  # clears up
  assert [p.name for p in tmp_path.iterdir()] == ['c']


@pytest.mark.slow
def test_beam_makes_the_same_bytes(music, unbroken, tmp_path):
  pytest.importorskip('apache_beam')
  _build(music, tmp_path / 'c', runner=workers.Options('beam', workers=2))
  assert sources.contents(tmp_path / 'c') == sources.contents(unbroken)


def test_small_jobs_start_without_tensorflow_and_beam(music, tmp_path):
  code = _command(music, tmp_path / 'c')
  code[2] += (
      '\nheavy = {"tensorflow", "apache_beam", "jax", "tensorflow_datasets"}'
      '\nassert not heavy & set(sys.modules), heavy & set(sys.modules)')
  subprocess.run(code, check=True)
