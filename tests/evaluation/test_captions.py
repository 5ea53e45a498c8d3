"""The protocols of captions, MusicCaps and folders, with one simple measure."""

import csv
import json
import pathlib
import types

import command_line
import numpy as np
import pytest
import soundfile

from musiclm_jax import audio as audio_lib
from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.evaluation import baselines
from musiclm_jax.evaluation import captions as captions_lib
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation import drawing
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import musiccaps
from musiclm_jax.evaluation import tables

_RATE = 24_000


def _level(context):
  """Mean level of a row, and of the pairs with the reference."""
  def measure(clips):
    levels = [float(np.sqrt(np.mean(audio**2))) for _, audio in clips.each(
        _RATE)]
    pairs = len(clip_sets.pairs(clips, context.reference))
    return [measures.Figure('level', float(np.mean(levels)), count=len(levels)),
            measures.Figure('pairs', float(pairs), count=pairs)]
  context.provenance['ear'] = dict(rate=_RATE)
  return measure


def _absent(unused_context):
  raise measures.Unavailable('run `pip install ears`.')


@pytest.fixture(autouse=True)
def _simple_measures(monkeypatch):
  monkeypatch.setattr(measures, 'known', lambda: dict(
      level=types.SimpleNamespace(
          HELP='how loud', WANTS=('reference', 'pairs'), begin=_level),
      absent=types.SimpleNamespace(HELP='x', WANTS=(), begin=_absent),
      words=types.SimpleNamespace(
          HELP='x', WANTS=('melody',), begin=lambda context: lambda clips: [])))


def _write(path, seed, seconds=1.0, level=0.1):
  path.parent.mkdir(parents=True, exist_ok=True)
  noise = np.random.default_rng(seed).normal(size=int(seconds * _RATE)) * level
  soundfile.write(path, noise, _RATE)


def _bundle(folder):
  return bundle_lib.Bundle(folder / 'bundle')


def test_a_corpus_gives_all_rows(folder, tmp_path, capsys):
  code, out, err = command_line.run(
      capsys, 'evaluate', 'captions', folder / 'corpus', '--bundle',
      folder / 'bundle', '--clips', '3', '--seconds', '1', '--out',
      tmp_path / 'o', '--json', tmp_path / 'j.json')
  assert code == 0, err
  found = json.loads((tmp_path / 'j.json').read_text())
  rows = {r['name']: r['figures'] for r in found['table']['rows']}
  assert set(rows) >= {'drawn', 'codec', 'retrieved', 'noise'}
  assert rows['drawn']['pairs']['value'] == 3
  # Noise is as loud as the recordings, whose own level is told by the codec's
  # row only roughly.
  assert rows['noise']['level']['count'] == 3
  assert found['table']['not_measured']['absent'] == 'run `pip install ears`.'
  assert found['provenance']['listeners'] == dict(ear=dict(rate=_RATE))
  assert found['provenance']['clips']['drawn']['used'] == 3
  assert 'musiclm evaluate captions' in found['provenance']['command'] or (
      found['provenance']['command'].startswith('musiclm'))
  assert 'MusicLM' in {r['name'] for r in found['published']['rows']}
  assert all(pathlib.Path(c['sounds']['drawn']).is_file()
             for c in found['clips'])
  assert 'absent was not measured' in out


def test_a_killed_run_goes_on(folder, tmp_path, monkeypatch):
  bundle, texts = _bundle(folder), {f'c{i}': f'a tune {i}' for i in range(10)}
  drawing.draw(bundle, texts, tmp_path / 'whole', 1, seed=4)
  write, count = audio_lib.write, []

  def dies(path, *rest):
    if len(count) == 5:
      raise KeyboardInterrupt
    count.append(path)
    write(path, *rest)

  monkeypatch.setattr(drawing.audio_lib, 'write', dies)
  with pytest.raises(KeyboardInterrupt):
    drawing.draw(bundle, texts, tmp_path / 'killed', 1, seed=4)
  monkeypatch.setattr(drawing.audio_lib, 'write', write)
  assert not drawing.draw(bundle, texts, tmp_path / 'killed', 1, seed=4)
  left = [drawing.draw(bundle, texts, tmp_path / 'shards', 1, seed=4,
                       shard=drawing.Shard(i, 3)) for i in range(3)]
  assert [len(names) for names in left] == [6, 3, 0]
  for name in texts:
    one, other, third = (
        soundfile.read(tmp_path / place / f'{name}.flac')[0]
        for place in ('whole', 'killed', 'shards'))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, third)
  assert len(soundfile.read(tmp_path / 'whole/c0.flac')[0]) == _RATE


@pytest.mark.parametrize('change', [
    dict(seed=5), dict(seconds=2), dict(captions={'c0': 'another'})])
def test_a_folder_of_other_clips_is_refused(folder, tmp_path, change):
  asked = dict(captions={'c0': 'a tune'}, seconds=1, seed=4)
  asked.update(folder=tmp_path)
  drawing._claim(tmp_path, dict(seed=4, seconds=1, captions_hash=drawing._digest(
      asked['captions'])))
  asked.update(change)
  with pytest.raises(errors.UserError, match='holds clips drawn with'):
    drawing._claim(tmp_path, dict(
        seed=asked['seed'], seconds=asked['seconds'],
        captions_hash=drawing._digest(asked['captions'])))


@pytest.mark.parametrize('text', ['4/4', '1', 'a/b', '-1/2', '0/0'])
def test_no_such_shard(text):
  with pytest.raises(errors.UserError, match='expected NUMBER/OF'):
    drawing.Shard.read(text)


@pytest.mark.parametrize('name', ['/etc/x', '../x', 'a/../../x', ''])
def test_ids_that_would_leave_the_folder(name):
  with pytest.raises(errors.UserError, match='cannot be the name of a file'):
    drawing.check_ids([name])


def test_a_csv_of_captions_alone(tmp_path):
  table = tmp_path / 'c.csv'
  table.write_text('id,caption\na,a jig\nb,\nc,a reel\n')
  source = captions_lib.find(str(table), None, 10, 10, _RATE)
  assert sorted(source.asked.ids) == ['a', 'c'] and source.recordings is None
  assert '1 of 3 rows have no caption' in source.notes
  with pytest.raises(errors.UserError, match='expected 1 to 30'):
    captions_lib.find(str(table), None, 10, 31, _RATE)


def test_a_folder_says_what_has_no_partner(tmp_path):
  for i, name in enumerate('abc'):
    _write(tmp_path / f'{name}.wav', i)
  (tmp_path / 'c.csv').write_text('id,caption\na,a jig\nb,a reel\nz,a waltz\n')
  source = captions_lib.find(str(tmp_path), None, 10, 10, _RATE)
  assert sorted(source.asked.ids) == ['a', 'b']
  assert source.notes == ('1 of 3 recordings have no caption',
                          '1 of 3 captions have no recording')


def test_a_folder_beside_a_folder(tmp_path, capsys):
  for i, name in enumerate('abcd'):
    _write(tmp_path / f'g/{name}.wav', i, level=0.2)
    _write(tmp_path / f'r/{name}.wav', 9 + i, level=0.1)
  _write(tmp_path / 'g/silent.wav', 0, level=0.0)
  code, out, err = command_line.run(
      capsys, 'evaluate', 'folder', '--generated', tmp_path / 'g',
      '--reference', tmp_path / 'r', '--json', tmp_path / 'j.json', '--report',
      tmp_path / 'r.html')
  assert code == 0, err
  found = json.loads((tmp_path / 'j.json').read_text())
  rows = {r['name']: r['figures'] for r in found['table']['rows']}
  assert rows['generated']['level']['value'] == pytest.approx(0.2, rel=0.05)
  assert rows['noise']['level']['value'] == pytest.approx(0.1, rel=0.05)
  assert rows['generated']['pairs']['value'] == 4
  assert rows['reference, half'] == {}  # there are no pairs between halves
  assert 'generated: 1 of 5 clips left out (1 silent)' in out
  assert 'bundle' not in found
  assert 'as loud as the recordings' in (tmp_path / 'r.html').read_text()


@pytest.mark.parametrize('argv, line', [
    (('--measures', 'loud'), "unknown measure 'loud'; known: absent, level"),
    (('--generated', 'nowhere'), '--generated nowhere is not a folder'),
    (('--reference', 'none.npz'), '--reference none.npz does not exist'),
    (('--captions', 'none.csv'), 'CSV none.csv does not exist'),
])
def test_mistakes_are_one_line(tmp_path, capsys, argv, line):
  _write(tmp_path / 'g/a.wav', 0)
  _write(tmp_path / 'r/a.wav', 1)
  code, out, err = command_line.run(
      capsys, 'evaluate', 'folder', '--generated', tmp_path / 'g',
      '--reference', tmp_path / 'r', *argv)
  assert code == 2 and line in err and len(err.splitlines()) == 1, err
  assert not out


def test_nearest_captions_are_looked_up(tmp_path):
  texts = {'a': (1, 0), 'b': (0, 1), 'near b': (0.1, 0.9), 'near a': (1, 0.2)}
  embed = lambda names: np.array([texts[n] for n in names], float)
  sound = lambda value: np.full(_RATE, value, np.float32)
  clip = lambda n: clip_sets.Clip(n, n, lambda rate: None, caption=n)
  asked = clip_sets.of_arrays(
      'r', [clip('a'), clip('b')], [sound(0.1), sound(0.2)], _RATE)
  pool = clip_sets.of_arrays(
      'p', [clip('near b'), clip('near a')], [sound(0.3), sound(0.4)], _RATE)
  found = baselines.retrieved(embed, asked, pool, _RATE, tmp_path)
  assert found.read('a', _RATE).max() == pytest.approx(0.4, abs=1e-3)
  assert found.read('b', _RATE).max() == pytest.approx(0.3, abs=1e-3)
  assert found.clip('a').caption == 'a'


def _musiccaps(folder, count=8, there=5):
  with open(folder / 'musiccaps-public.csv', 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['ytid', 'start_s', 'end_s', 'audioset_positive_labels',
                     'aspect_list', 'caption', 'author_id',
                     'is_balanced_subset', 'is_audioset_eval'])
    for i in range(count):
      writer.writerow([f'-id{i}', 0, 10, '/m/x', "['slow', 'sad']",
                       f'A song, number {i}', 1, i < 2, i < 4])
  for i in range(there):
    _write(folder / f'audio/-id{i}.wav', i)


def test_musiccaps_and_its_manifest(tmp_path):
  _musiccaps(tmp_path)
  rows, available = musiccaps.load(tmp_path)
  assert len(rows) == 8 and sorted(available) == [f'-id{i}' for i in range(5)]
  lines = musiccaps.manifest(rows, available).splitlines()
  assert lines[1] == '-id0,1,24000,1,1' and lines[8] == '-id7,0,,0,0'
  for subset, names in (('all', 5), ('eval', 4), ('balanced', 2)):
    source = musiccaps.chosen(rows, available, subset, 100)
    assert len(source.asked) == names
    assert source.asked.read('-id0', _RATE).shape == (_RATE,)
  assert source.pool.ids == ('-id4',)  # of the training split, and there
  assert 'balanced: 2 of 2 clips' in source.notes[0]
  assert '8 rows, the published one 5521' in source.notes[1]


def test_what_is_no_musiccaps(tmp_path):
  with pytest.raises(errors.UserError, match='has 0 CSVs'):
    musiccaps.load(tmp_path)
  (tmp_path / 'x.csv').write_text('id,caption\na,b\n')
  with pytest.raises(errors.UserError, match='lacks the columns ytid'):
    musiccaps.load(tmp_path)


def test_tables_say_what_they_could_not_hold_clips_against():
  clip = clip_sets.Clip('a', 'a', lambda rate: None)
  clips = clip_sets.of_arrays('x', [clip], [np.ones(10)], _RATE)
  table = comparison.compare(
      [comparison.Row('x', clips)], measures.Context(None),
      comparison.chosen(None))
  assert table.not_measured['level'].startswith('there are no recordings')
  assert table.not_measured['words'].startswith('there are no melodies')
  assert isinstance(table, tables.Table)
