"""What is found in a folder, what is skipped, what is bounded."""

import json

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax.evaluation.pages import folder


def _json(path, **found):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(found))


def _sound(path, values=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, np.full(80, 0.5) if values is None else values, 8_000)


def test_everything_is_found_by_its_kind(tmp_path):
  _json(tmp_path / 'quick.json', wall_seconds=1.0, a=1.0)
  _json(tmp_path / 'deep/codec.json', provenance={}, a=1.0)
  _json(tmp_path / 'config.json', layers=3)
  (tmp_path / 'broken.json').write_text('{')
  _json(tmp_path / 'run/run.json', trainable=1)
  (tmp_path / 'run/metrics.csv').write_text('step,split,loss\n1,train,2\n')
  _json(tmp_path / 'run/checkpoints/5/x.json', wall_seconds=1.0, a=1.0)
  _json(tmp_path / '.hidden/x.json', wall_seconds=1.0, a=1.0)
  _sound(tmp_path / 'drawn/a.wav')
  (tmp_path / 'drawn/captions.csv').write_text('id,caption\na.wav,a jig\n')
  found = folder.read(tmp_path)
  assert [e.name for e in found.evaluations] == ['quick', 'deep/codec']
  assert [r.name for r in found.runs] == ['run']
  assert [(s.name, list(s.files), s.captions) for s in found.sounds] == [
      ('drawn', ['a'], {'a': 'a jig'})]
  assert found.skipped == (
      ('broken.json', 'it is no JSON (Expecting property name enclosed in '
       'double quotes: line 1 column 2 (char 1)).'),
      ('config.json', 'no evaluation wrote it.'))
  assert found.notes == ()


def test_sounds_of_an_evaluation_are_not_shown_twice(tmp_path):
  _sound(tmp_path / 'drawn/a.wav')
  _sound(tmp_path / 'drawn/b.wav')
  _json(tmp_path / 'captions.json', provenance={}, a=1.0, clips=[
      dict(id='a', sounds=dict(drawn='drawn/a.wav'))])
  assert [list(s.files) for s in folder.read(tmp_path).sounds] == [['b']]


def test_files_beside_each_other_in_the_folder_itself(tmp_path):
  _sound(tmp_path / 'x' / 'a.wav')
  (tmp_path / 'x' / 'captions.csv').write_text('name\nb\n')
  found = folder.read(tmp_path / 'x')
  assert [s.name for s in found.sounds] == ['x']
  assert found.skipped[0][0] == 'x/captions.csv'
  assert 'expected caption' in found.skipped[0][1]


def test_it_is_bounded(tmp_path, monkeypatch):
  _json(tmp_path / '1/2/3/4/a.json', wall_seconds=1.0, a=1.0)
  _json(tmp_path / '1/2/3/4/5/b.json', wall_seconds=1.0, a=1.0)
  found = folder.read(tmp_path)
  assert [e.name for e in found.evaluations] == ['1/2/3/4/a']
  assert found.notes == (
      'Folders below 1/2/3/4 were not looked into: at most 4 levels are.',)
  monkeypatch.setattr(folder, 'MOST_FILES', 3)
  for i in range(5):
    _json(tmp_path / f'{i}.json', wall_seconds=1.0, a=1.0)
  found = folder.read(tmp_path)
  assert [e.name for e in found.evaluations] == ['0', '1', '2']
  assert found.notes == ('There are more files: 3 were looked at.',)


def test_nothing_to_show(tmp_path):
  with pytest.raises(errors.UserError, match='DIR .*gone is not a folder'):
    folder.read(tmp_path / 'gone', 'DIR')
  with pytest.raises(errors.UserError, match='no audio files.$'):
    folder.read(tmp_path)
  _json(tmp_path / 'a.json', layers=3)
  with pytest.raises(errors.UserError) as raised:
    folder.read(tmp_path)
  assert str(raised.value).endswith(
      'no audio files (1 file that is something else, such as a.json: no '
      'evaluation wrote it).')
