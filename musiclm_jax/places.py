"""Paths and URLs alike: a folder here, or `gs://`, `s3://`, `memory://` by fsspec.

A file appears whole or not at all in both: here it is moved into place, and a
store shows an object only when all of it has arrived. What a store says becomes
what the system says of files, or `Refused`.
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

# In these a folder is but a part of names; making one would make its bucket.
_BUCKETS = ('s3', 's3a', 'gs', 'gcs', 'az', 'abfs')
# What a store says of one object, by errno; anything else is said of the store.
_OF_ONE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR,
           errno.ENOTDIR)


class Refused(errors.UserError):
  """A store that does not answer, or knows nobody here: no object can be had."""


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
  with _asked(path) as (system, inner):
    return system.exists(inner)


def bucket(url: str) -> str:
  """
  >>> bucket('s3://music/old/a.wav')
  's3://music'
  """
  protocol, _, rest = str(url).partition('://')
  return f'{protocol}://{rest.lstrip("/").partition("/")[0]}'


def size(path: str | os.PathLike) -> int:
  """Bytes of a file."""
  if not is_remote(path):
    return pathlib.Path(path).stat().st_size
  with _asked(path) as (system, inner):
    return int(system.size(inner))


def read(path: str | os.PathLike) -> bytes:
  """All of a file; FileNotFoundError where there is none."""
  if not is_remote(path):
    return pathlib.Path(path).read_bytes()
  with _asked(path) as (system, inner):
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
    with _asked(path) as (system, inner):
      if not str(path).startswith(tuple(f'{name}://' for name in _BUCKETS)):
        system.makedirs(system._parent(inner), exist_ok=True)  # pylint: disable=protected-access
      system.put_file(str(made), inner)


@contextlib.contextmanager
def local(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a local path of a file: itself, or a copy that goes afterwards."""
  if not is_remote(path):
    yield pathlib.Path(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    with _asked(path) as (system, inner):
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
  try:
    with _asked(folder) as (system, inner):
      system.invalidate_cache(inner)
      return sorted(pathlib.PurePosixPath(found).name
                    for found in system.ls(inner, detail=False))
  except FileNotFoundError:
    return []


def under(folder: str | os.PathLike) -> list[str]:
  """All files of a remote folder and those below it, as URLs, in order."""
  try:
    with _asked(folder) as (system, inner):
      return sorted(
          system.unstrip_protocol(found) for found in system.find(inner))
  except FileNotFoundError:
    return []


def remove(path: str | os.PathLike) -> None:
  """Removes a file, if it is there."""
  if not is_remote(path):
    pathlib.Path(path).unlink(missing_ok=True)
    return
  with contextlib.suppress(FileNotFoundError):
    with _asked(path) as (system, inner):
      system.rm_file(inner)


@contextlib.contextmanager
def _asked(path) -> Iterator[tuple[Any, str]]:
  """Gives what `_system` does; what it raises is told as this house tells it.

  Libraries of stores raise errors of their own, or those of files with neither
  number nor name.
  """
  system, inner = _system(path)
  try:
    yield system, inner
  except OSError as error:
    number = error.errno or next(
        (number for kind, number in _NUMBERS.items() if isinstance(error, kind)), 0)
    if number in files.FULL:  # of the copy that is made here
      raise
    if number not in _OF_ONE:
      raise Refused(_refusal(path, error)) from error
    said = str(error).rstrip('.') if error.errno is None else error.strerror
    raise OSError(number, said, str(path)) from error
  except Exception as error:  # pylint: disable=broad-except
    raise Refused(_refusal(path, error)) from error


_NUMBERS = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES,
            FileExistsError: errno.EEXIST, IsADirectoryError: errno.EISDIR,
            NotADirectoryError: errno.ENOTDIR}


def _refusal(path, error):
  return f'{path}: the store says: {str(error) or type(error).__name__}'


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
