"""musiccaps, audiocaps and audioset_labels: rows, splits, what is not there."""

import json

import pytest

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.data import audiocaps
from musiclm_jax.data import audioset_labels
from musiclm_jax.data import musiccaps
from musiclm_jax.data.musiccaps import table
from tests.helpers import command_line
from tests.helpers import downloads


def _tracks(corpus):
  corpus = records.Corpus(corpus)
  return {t.id: (name, corpus.split(name), t) for name in corpus.splits
          for t in corpus.split(name)}


def _build(builder, *arguments):
  return builder.build(*arguments, progress=False)


def test_musiccaps(tmp_path):
  out = tmp_path / 'out'
  summary = _build(musiccaps, *downloads.musiccaps(tmp_path / 'in'), out)
  assert summary == dict(
      rows=4, there=3, not_there={'missing': 1}, splits=dict(
          test=dict(rows=2, there=2), train=dict(rows=2, there=1)))
  tracks = _tracks(out)
  assert {name: split for name, (split, _, _) in tracks.items()} == {
      '-abcdefghij': 'test', '0123456789a': 'test', 'A_cdefghi-k': 'train'}
  for name, hertz in (('-abcdefghij', 440), ('0123456789a', 1000)):
    _, split, track = tracks[name]
    assert track.num_samples == 240_000
    assert downloads.peak_hz(split.read(track)) == pytest.approx(hertz, abs=1)
  meta = tracks['-abcdefghij'][2].meta
  assert meta['captions'] == ['A song called -abcdefghij.']
  assert meta['aspects'] == ['slow', 'sad']
  assert meta['is_balanced_subset'] is True and meta['is_audioset_eval'] is True
  assert meta['audioset_labels'] == ['/m/04rlf', '/m/0xzly']
  assert meta['video_seconds'] == 30.0 and meta['start_seconds'] == 0.0
  assert 'CC-BY-SA' in records.Corpus(out).manifest['licence']
  assert records.Corpus(out).name == 'musiccaps'
  assert tracks['A_cdefghi-k'][2].meta['is_balanced_subset'] is False
  assert tracks['0123456789a'][2].meta['start_seconds'] == 10.0


def test_what_is_there_and_what_is_missing(tmp_path):
  csv, audio = downloads.musiccaps(tmp_path / 'in')
  (audio / 'gone_4567_9.wav').write_bytes(b'no sound')
  _build(musiccaps, csv, audio, tmp_path / 'out')
  available = json.loads((tmp_path / 'out/available.json').read_text())
  assert available == dict(
      rows=4, there=3, not_there=dict(unreadable=1),
      splits=dict(test=dict(rows=2, there=2), train=dict(rows=2, there=1)),
      tracks={'-abcdefghij': 'there', '0123456789a': 'there',
              'A_cdefghi-k': 'there', 'gone_4567_9': 'unreadable'})
  reject, = map(json.loads, (tmp_path / 'out/rejects.jsonl').read_text().splitlines())
  assert reject['file'] == 'gone_4567_9' and 'not readable' in reject['detail']


def test_a_folder_of_audio_named_from_here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  csv, audio = (path.relative_to(tmp_path)
                for path in downloads.musiccaps(tmp_path / 'in'))
  assert _build(musiccaps, csv, audio, 'out')['there'] == 3
  assert len(_tracks('out')) == 3


@pytest.mark.parametrize('rows, message', [
    ([('id', 'caption')], 'lacks the columns ytid, start_s, end_s'),
    ([downloads.MUSICCAPS_COLUMNS, downloads.musiccaps_row('a')[:-1]],
     '1 rows have other than 9 fields, the first in line 2 .8 fields'),
    ([downloads.MUSICCAPS_COLUMNS, *[downloads.musiccaps_row('a')] * 2],
     "1 ids more than once, such as 'a'"),
    ([downloads.MUSICCAPS_COLUMNS, downloads.musiccaps_row('a', aspects='slow')],
     "1 rows have no list of texts in aspect_list, such as 'slow'"),
    ([downloads.MUSICCAPS_COLUMNS, downloads.musiccaps_row('a', balanced='x')],
     "1 rows have neither True nor False in is_balanced_subset, such as 'x'"),
    ([downloads.MUSICCAPS_COLUMNS, ('a', '-1', '9', '', '[]', '', '', 0, 0)],
     "1 rows have no number in start_s, such as '-1'"),
    ([downloads.MUSICCAPS_COLUMNS, ('a', '9', '8', '', '[]', '', '', 0, 0)],
     "1 clips end before they begin"),
    ([], 'lacks the columns')])
def test_csvs_that_are_not_musiccaps(tmp_path, rows, message):
  path = downloads.write_csv(tmp_path / 'a.csv', *rows)
  with pytest.raises(errors.UserError, match=message):
    table.read(path)


def test_more_columns_do_no_harm(tmp_path):
  path = downloads.write_csv(
      tmp_path / 'a.csv', (*downloads.MUSICCAPS_COLUMNS, 'mine'),
      (*downloads.musiccaps_row('a'), 'x'))
  assert table.read(path)['a'].aspects == ('slow', 'sad')


def test_audiocaps(tmp_path):
  out = tmp_path / 'out'
  summary = _build(audiocaps, *downloads.audiocaps(tmp_path / 'in'), out)
  assert summary['there'] == 3
  tracks = _tracks(out)
  assert {split: track.captions for split, _, track in tracks.values()} == {
      'train': ['A dog barks'], 'validation': ['Rain falls', 'It rains'],
      'test': ['A bell', 'Bells']}
  _, split, track = tracks['ccccccccccc']
  assert downloads.peak_hz(split.read(track)) == pytest.approx(1000, abs=1)


def test_audiocaps_in_two_splits(tmp_path):
  folder, audio = downloads.audiocaps(tmp_path)
  downloads.write_csv(
      folder / 'test.csv', ('audiocap_id', 'youtube_id', 'start_time', 'caption'),
      (9, 'aaaaaaaaaaa', 30, 'A dog'))
  with pytest.raises(errors.UserError, match='1 rows name a video that has another'):
    _build(audiocaps, folder, audio, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_audioset(tmp_path):
  out = tmp_path / 'out'
  _build(audioset_labels, *downloads.audioset(tmp_path / 'in'), out)
  tracks = _tracks(out)
  split, _, track = tracks['--PJHxphWEs']
  assert split == 'train' and track.captions == []
  assert track.meta['aspects'] == ['Speech', 'Gush, spurt']
  assert track.meta['segments'] == 'balanced_train_segments.csv'
  assert tracks['-0RWZT-miFs'][0] == 'test'


def test_audioset_labels_without_names(tmp_path):
  folder, audio = downloads.audioset(tmp_path)
  downloads.write_csv(folder / 'class_labels_indices.csv',
                      ('index', 'mid', 'display_name'), (0, '/m/09x0r', 'Speech'))
  with pytest.raises(errors.UserError, match='1 labels are not in class_labels'):
    _build(audioset_labels, folder, audio, tmp_path / 'out')


@pytest.mark.parametrize('builder, make', [
    (audiocaps, downloads.audiocaps), (audioset_labels, downloads.audioset)])
def test_folders_without_tables_or_audio(tmp_path, builder, make):
  folder, audio = make(tmp_path / 'in')
  with pytest.raises(errors.UserError, match='has none of'):
    _build(builder, tmp_path, audio, tmp_path / 'out')
  with pytest.raises(errors.UserError, match='--audio .* is not a folder'):
    _build(builder, folder, tmp_path / 'none', tmp_path / 'out')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(errors.UserError, match=r'is there .[23] missing'):
    _build(builder, folder, tmp_path / 'empty', tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_from_the_shell(tmp_path, capsys):
  csv, audio = downloads.musiccaps(tmp_path / 'in')
  out = tmp_path / 'out'
  code, printed, _ = command_line.run(
      capsys, 'data', 'musiccaps', '--csv', csv, '--audio', audio, '--out', out)
  assert code == 0 and 'musiccaps: 3 of 4 recordings; 1 missing' in printed
  (audio / '0123456789a.flac').unlink()
  code, _, told = command_line.run(
      capsys, 'data', 'musiccaps', '--csv', csv, '--audio', audio, '--out', out)
  assert code == 2 and 'exists already, and is not of this source' in told
  code, _, told = command_line.run(
      capsys, 'data', 'musiccaps', '--csv', tmp_path / 'no.csv', '--audio', audio,
      '--out', tmp_path / 'new')
  assert code == 2 and 'no.csv does not exist' in told
  assert not (tmp_path / 'new').exists()
