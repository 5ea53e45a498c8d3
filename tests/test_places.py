"""Paths and URLs: the same functions do the same for both."""

import errno

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


class _Saying:
  """A store that says the same to all that is asked."""

  def __init__(self, error):
    self._error = error

  def __getattr__(self, unused_name):
    def ask(*unused_args, **unused_kwargs):
      raise self._error
    return ask


@pytest.mark.parametrize('error, raised, words', [
    # s3fs gives files' errors without a number or a name.
    (PermissionError('The key is not known.'), PermissionError, 'key is not known'),
    (FileNotFoundError('The bucket is not there.'), FileNotFoundError, 'not there'),
    (OSError('Please slow down.'), places.Refused, 'store says: Please slow down'),
    (ConnectionRefusedError(111, 'refused'), places.Refused, 'refused'),
    (KeyError('no credentials'), places.Refused, 'no credentials'),
])
def test_what_a_store_says_is_a_line_with_the_url(
    error, raised, words, monkeypatch, tmp_path):
  monkeypatch.setattr(places, '_system', lambda path: (_Saying(error), 'b/a'))
  for ask in (places.read, places.size, places.exists):
    with pytest.raises(raised, match=words) as caught:
      ask('s3://b/a')
    if raised is not places.Refused:
      assert caught.value.filename == 's3://b/a'
      assert errors.of_system(caught.value).startswith('s3://b/a: The ')
  with pytest.raises(raised, match=words):
    places.write('s3://b/a', b'x')


def test_a_full_disk_here_is_not_the_store(monkeypatch):
  full = OSError(errno.ENOSPC, 'No space left on device', '/tmp/a')
  monkeypatch.setattr(places, '_system', lambda path: (_Saying(full), 'b/a'))
  with pytest.raises(OSError) as caught:
    with places.local('s3://b/a'):
      pass
  assert caught.value is full


def test_no_bucket_is_made(monkeypatch):
  class Store:
    put_file = staticmethod(lambda *args: None)  # and no `makedirs`

  monkeypatch.setattr(places, '_system', lambda path: (Store, 'b/a'))
  places.write('s3://b/a', b'x')
  places.write('gs://b/a', b'x')
