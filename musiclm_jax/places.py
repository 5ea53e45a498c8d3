"""Paths and URLs alike: a folder here, or `gs://`, `s3://`, `memory://` by fsspec.

A file appears whole or not at all in both: here it is moved into place, and a
store shows an object only when all of it has arrived.
"""

from collections.abc import Iterator
import contextlib
import errno
import importlib
import os
import pathlib
import tempfile
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files


def is_remote(path: str | os.PathLike) -> bool:
  """Whether fsspec opens it: 'gs://bucket/a' is, '/data/a' is not."""
  return '://' in str(path)


def check_lasting(path: str | os.PathLike, what: str) -> None:
  """UserError where what is written there goes with the process.

  Args:
    path: path or URL.
    what: how the message calls it.
  """
  if str(path).startswith('memory://'):
    raise errors.UserError(
        f'{what} {path} ends with this command; choose a folder or a store.')


def join(folder: str | os.PathLike, *names: str) -> str:
  """
  >>> join('gs://bucket/music/', 'a', 'b.wav')
  'gs://bucket/music/a/b.wav'
  """
  if is_remote(folder):
    return '/'.join([str(folder).rstrip('/'), *names])
  return os.path.join(folder, *names)


def exists(path: str | os.PathLike) -> bool:
  """Whether a file or folder is there."""
  if not is_remote(path):
    return pathlib.Path(path).exists()
  system, inner = _system(path)
  return system.exists(inner)


def size(path: str | os.PathLike) -> int:
  """Bytes of a file."""
  if not is_remote(path):
    return pathlib.Path(path).stat().st_size
  system, inner = _system(path)
  return int(system.size(inner))


def read(path: str | os.PathLike) -> bytes:
  """All of a file; FileNotFoundError where there is none."""
  if not is_remote(path):
    return pathlib.Path(path).read_bytes()
  system, inner = _system(path)
  return system.cat_file(inner)


def write(path: str | os.PathLike, data: bytes) -> None:
  """Makes a file of `data`, and the folders above it."""
  with whole(path) as made:
    made.write_bytes(data)


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a local path; what was written there stands at `path` after it."""
  if not is_remote(path):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as made:
      yield made
    return
  with tempfile.TemporaryDirectory() as folder:
    made = pathlib.Path(folder) / pathlib.PurePosixPath(str(path)).name
    yield made
    system, inner = _system(path)
    system.makedirs(system._parent(inner), exist_ok=True)  # pylint: disable=protected-access
    system.put_file(str(made), inner)


@contextlib.contextmanager
def local(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a local path of a file: itself, or a copy that goes afterwards."""
  if not is_remote(path):
    yield pathlib.Path(path)
    return
  system, inner = _system(path)
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / pathlib.PurePosixPath(inner).name
    system.get_file(inner, str(copy))
    yield copy


def names(folder: str | os.PathLike) -> list[str]:
  """What a folder holds, in order; nothing where there is none."""
  if not is_remote(folder):
    try:
      return sorted(os.listdir(folder))
    except FileNotFoundError:
      return []
  system, inner = _system(folder)
  system.invalidate_cache(inner)
  try:
    return sorted(pathlib.PurePosixPath(found).name
                  for found in system.ls(inner, detail=False))
  except FileNotFoundError:
    return []


def under(folder: str | os.PathLike) -> list[str]:
  """All files of a remote folder and those below it, as URLs, in order."""
  system, inner = _system(folder)
  try:
    return sorted(system.unstrip_protocol(found) for found in system.find(inner))
  except FileNotFoundError:
    return []


def remove(path: str | os.PathLike) -> None:
  """Removes a file, if it is there."""
  if not is_remote(path):
    pathlib.Path(path).unlink(missing_ok=True)
    return
  system, inner = _system(path)
  with contextlib.suppress(FileNotFoundError):
    system.rm_file(inner)


def _system(path) -> tuple[Any, str]:
  """(fsspec's file system, the path in it); UserError where there is none."""
  protocol = str(path).split('://')[0]
  try:
    core = importlib.import_module('fsspec.core')
  except ModuleNotFoundError as error:
    raise errors.UserError(
        f'{path} needs fsspec; run `pip install fsspec`.') from error
  try:
    return core.url_to_fs(str(path))
  except (ImportError, ValueError) as error:
    # fsspec says itself which package a protocol wants.
    raise errors.UserError(f'{path}: no way to open {protocol}:// ({error}).'
                           ) from error
  except OSError as error:
    raise OSError(error.errno or errno.EIO, str(error), str(path)) from error
