"""audio_folder: which files of a folder are taken, and what the others are."""

import os

import pytest

from musiclm_jax.data.audio_folder import files


@pytest.fixture(name='folder')
def _folder(tmp_path):
  """Function that makes empty files in `tmp_path/music`, and the folder."""
  root = tmp_path / 'music'
  root.mkdir()

  def make(*names):
    for name in names:
      (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / name).touch()
    return root

  return make


def _names(found, root):
  return [path.relative_to(root).as_posix() for path in found]


def test_by_names_and_in_their_order(folder):
  root = folder('music/b/x.MP3', 'music/b.wav', 'music/a/y.opus', 'music/z.ape',
                'music/cover.jpg', 'music/README')
  found = files.find(root)
  assert _names(found.sound, root) == ['a/y.opus', 'b.wav', 'b/x.MP3']
  assert _names(found.other_sound, root) == ['z.ape']
  assert found.passed_over == {files.NO_SOUND: 2}


def test_what_is_hidden_stays_so(folder):
  root = folder('music/.ipynb_checkpoints/a.wav', 'music/._b.wav',
                'music/c/.git/d.wav', 'music/c/e.wav')
  found = files.find(root)
  assert _names(found.sound, root) == ['c/e.wav']
  assert found.passed_over == {files.HIDDEN: 3}


def test_a_hidden_folder_that_was_named_is_searched(folder):
  root = folder('music/.mine/a.wav') / '.mine'
  assert _names(files.find(root).sound, root) == ['a.wav']


def test_links_are_followed_once(folder):
  root = folder('music/a.wav', 'music/real/b.wav', 'else/c.wav', 'else/d/e.wav',
                'alone/f.wav')
  link = lambda place, to: (root / place).symlink_to(to)
  link('0real', root / 'real')  # before the folder itself, by its name
  link('1else', root.parent / 'else')
  link('2else', root.parent / 'else')
  link('3d', root.parent / 'else/d')
  link('real/up', root)
  link('f.wav', root.parent / 'alone/f.wav')
  link('g.wav', root.parent / 'alone/f.wav')
  link('again.wav', root / 'a.wav')
  link('gone', root / 'nothing')
  found = files.find(root)
  assert _names(found.sound, root) == [
      '1else/c.wav', '1else/d/e.wav', 'a.wav', 'f.wav', 'real/b.wav']
  assert found.passed_over == {files.LINKED: 6, files.BROKEN: 1}


def test_links_in_a_circle_end(folder):
  root = folder('music/a.wav', 'else/b.wav')
  (root / 'else').symlink_to(root.parent / 'else')
  (root.parent / 'else/music').symlink_to(root)
  (root / 'me').symlink_to(root / 'me')
  found = files.find(root)
  assert _names(found.sound, root) == ['a.wav', 'else/b.wav']
  assert found.passed_over == {files.LINKED: 1, files.BROKEN: 1}


def test_a_pipe_or_a_folder_named_like_sound_is_none(folder):
  root = folder('music/a.wav/b.wav')
  os.mkfifo(root / 'c.wav')
  found = files.find(root)
  assert _names(found.sound, root) == ['a.wav/b.wav']
  assert found.passed_over == {files.NO_SOUND: 1}
