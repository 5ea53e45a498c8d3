"""Paths and URLs: the same functions do the same for both."""

import pytest

from musiclm_jax import errors
from musiclm_jax import places


@pytest.fixture(name='folder', params=['here', 'memory'])
def _folder(request, tmp_path):
  if request.param == 'here':
    return str(tmp_path / 'a')
  return f'memory://{tmp_path.name}'


def test_what_is_written_is_there(folder):
  path = places.join(folder, 'b', 'c.txt')
  assert not places.exists(path) and places.names(folder) == []
  places.write(path, b'abc')
  assert places.exists(path) and places.read(path) == b'abc'
  assert places.size(path) == 3
  assert places.names(places.join(folder, 'b')) == ['c.txt']
  with places.local(path) as copy:
    assert copy.read_bytes() == b'abc' and copy.name == 'c.txt'
  places.remove(path)
  places.remove(path)
  assert not places.exists(path)
  with pytest.raises(FileNotFoundError):
    places.read(path)


def test_a_failure_leaves_what_was_there(folder):
  path = places.join(folder, 'c.txt')
  places.write(path, b'old')
  with pytest.raises(RuntimeError):
    with places.whole(path) as made:
      made.write_bytes(b'half')
      raise RuntimeError('stop')
  assert places.read(path) == b'old' and places.names(folder) == ['c.txt']


def test_all_that_is_under_a_url(tmp_path):
  folder = f'memory://{tmp_path.name}'
  assert places.under(folder) == []
  for name in ('b/d.wav', 'a.wav'):
    places.write(places.join(folder, name), b'x')
  assert places.under(folder) == [
      f'memory:///{tmp_path.name}/a.wav', f'memory:///{tmp_path.name}/b/d.wav']
  assert places.read(places.under(folder)[0]) == b'x'


@pytest.mark.parametrize('path', ['nosuch://a/b', 's3://a/b'])
def test_unknown_stores_are_one_line(path, monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 's3fs', None)
  with pytest.raises(errors.UserError, match='no way to open'):
    places.read(path)


def test_what_goes_with_the_process_is_no_output():
  places.check_lasting('gs://bucket/a', '--out')
  with pytest.raises(errors.UserError, match='--out memory://a ends with this'):
    places.check_lasting('memory://a', '--out')
