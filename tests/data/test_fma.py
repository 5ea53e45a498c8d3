"""fma: tables of two header rows, subsets, archives, what is known to be broken."""

import json

import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.data import archives
from musiclm_jax.data import fma
from musiclm_jax.data.fma import corpus as corpus_lib
from tests.helpers import command_line
from tests.helpers import downloads


def _build(folder, out, **kwargs):
  return fma.build(folder, out, progress=False, **kwargs)


def _meta(corpus):
  corpus = records.Corpus(corpus)
  return {t.id: dict(t.meta, split=name) for name in corpus.splits
          for t in corpus.split(name)}


@pytest.mark.parametrize('packed', [False, True])
def test_small(tmp_path, packed):
  summary = _build(downloads.fma(tmp_path / 'in', packed=packed), tmp_path / 'out')
  assert summary['rows'] == 2 and summary['not_there'] == {'known broken': 1}
  meta = _meta(tmp_path / 'out')['000002']
  assert meta['split'] == 'train' and meta['licence'] == 'CC BY'
  assert meta['captions'] == ['Food by AWOL. Genre: Hip-Hop.']
  assert meta['aspects'] == ['Hip-Hop'] and meta['album'] == 'A Way'
  split = records.Corpus(tmp_path / 'out').split('train')
  assert downloads.peak_hz(split.read(split[0])) == pytest.approx(440, abs=1)


def test_subsets_hold_the_smaller_ones(tmp_path):
  _build(downloads.fma(tmp_path / 'm', 'medium'), tmp_path / 'medium',
         subset='medium')
  meta = _meta(tmp_path / 'medium')
  assert set(meta) == {'000002', '000005'}
  assert meta['000005']['split'] == 'validation'
  assert meta['000005']['aspects'] == ['Rock', 'Hip-Hop']
  assert meta['000005']['title'] == 'This\nWorld'
  _build(downloads.fma(tmp_path / 'l', 'large'), tmp_path / 'large', subset='large')
  meta = _meta(tmp_path / 'large')
  assert set(meta) == {'000002', '000005', '002000'}
  assert meta['002000']['captions'] == ['Long by Third.']


def test_whole_recordings_are_not_broken(tmp_path):
  _build(downloads.fma(tmp_path / 'in', 'full'), tmp_path / 'out', subset='full')
  assert set(_meta(tmp_path / 'out')) == {'000002', '000005', '001486', '002000'}


def test_files_that_changed_or_are_missing(tmp_path):
  folder = downloads.fma(tmp_path / 'in', 'large')
  downloads.write_tone(folder / 'fma_large/000/000002.mp3', 4, 441, 24_000)
  (folder / 'fma_large/002/002000.mp3').unlink()
  summary = _build(folder, tmp_path / 'out', subset='large', verify=True)
  assert summary['not_there'] == {'checksum': 1, 'known broken': 1, 'missing': 1}
  available = json.loads((tmp_path / 'out/available.json').read_text())
  assert available['tracks'] == {
      '000002': 'checksum', '000005': 'there', '001486': 'known broken',
      '002000': 'missing'}


@pytest.mark.parametrize('damage, message', [
    ('tracks', 'lacks the columns set.split'),
    ('genre', "1 tracks have no number, split, subset or genres .* 2 .21"),
    ('split', "1 tracks .* 2 .'dev'"),
    ('twice', "1 ids more than once, such as '2'"),
    ('archive', 'has neither fma_small/ nor fma_small.zip'),
    ('zip', 'fma_small.zip is no whole zip file')])
def test_what_is_not_fma(tmp_path, damage, message):
  folder = downloads.fma(tmp_path / 'in')
  tracks = folder / 'fma_metadata/tracks.csv'
  text = tracks.read_text()
  if damage == 'tracks':
    tracks.write_text('track_id,title\n2,Food\n')
  elif damage == 'genre':
    downloads.write_csv(folder / 'fma_metadata/genres.csv', ('genre_id', 'title'),
                        (12, 'Rock'))
    tracks.write_text(''.join(text.splitlines(True)[:4]))
  elif damage == 'split':
    tracks.write_text(text.replace('training', 'dev'))
  elif damage == 'twice':
    tracks.write_text(text + text.splitlines(True)[3])
  else:
    (folder / 'fma_small').rename(folder / 'elsewhere')
    if damage == 'zip':
      (folder / 'fma_small.zip').write_bytes(b'PK')
  with pytest.raises(errors.UserError, match=message):
    _build(folder, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_published_checksums(tmp_path):
  folder = downloads.fma(tmp_path, packed=True)
  with pytest.raises(errors.UserError, match='has SHA-1 .* the published one has'):
    list(corpus_lib.walk(folder, verify=True))
  (tmp_path / 'a').write_bytes(b'abc')
  archives.check_sha1(tmp_path / 'a', 'a9993e364706816aba3e25717850c26c9cd0d89d')


def test_from_the_shell(tmp_path, capsys):
  code, printed, _ = command_line.run(
      capsys, 'data', 'fma', '--from', downloads.fma(tmp_path / 'in'), '--subset',
      'small', '--out', tmp_path / 'out')
  assert code == 0
  assert 'fma_small: 1 of 2 recordings; 1 known broken' in printed
  code, _, told = command_line.run(
      capsys, 'data', 'fma', '--from', tmp_path / 'no', '--out', tmp_path / 'new')
  assert code == 2 and 'is not a folder' in told
