"""Files and folders of a command: whole or not at all, one writer at a time.

  with files.whole(path) as temporary: ...  # a file, moved into place
  with files.whole_folder(path) as partial: ...  # a folder, the same
  with files.claimed(folder, 'MODEL_DIR'): ...  # no second run writes there

Temporary names are drawn, so that two runs with one output never meet in one
file: the run that ends last has its file in place. Nothing is removed but what
was made under such a name.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import errno
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
from typing import Any

from musiclm_jax import errors

FULL = (errno.ENOSPC, errno.EDQUOT)  # errno of a disk or share that is full
_MOST_OF_A_NAME = 40  # characters: a name within the limit stays within it
_DRAWN = r'\d+-[0-9a-f]{6}\.tmp'
LOCK = '.lock'


def temporary(path: str | os.PathLike) -> pathlib.Path:
  """A path beside `path`, of its extension, that no other run draws.

  >>> temporary('runs/jig.wav').match('runs/.jig.*.tmp.wav')
  True
  """
  path = pathlib.Path(path)
  return path.with_name(f'.{path.stem[:_MOST_OF_A_NAME]}.{os.getpid()}-'
                        f'{secrets.token_hex(3)}.tmp{path.suffix}')


@contextlib.contextmanager
def _named(path):
  """Where the system does not say which file it is about, this one."""
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = str(path)
    raise


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a temporary path; what was written there stands at `path` after it.

  Where the body raises, nothing of it stays.
  """
  made = temporary(path)
  try:
    with _named(path):
      yield made
      os.replace(made, path)
  finally:
    made.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Gives a new folder, which is at `path` after it; `path` must not exist."""
  path = pathlib.Path(path)
  made = temporary(path)
  try:
    with _named(path):
      made.mkdir(parents=True)
      yield made
      if path.exists():  # os.replace would take the place of an empty folder
        raise errors.UserError(
            f'{path} came to be in the meantime; choose another.')
      os.replace(made, path)
  finally:
    shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def replaced_folder(path: str | os.PathLike,
                    names: Iterable[str]) -> Iterator[pathlib.Path]:
  """Gives a new folder that takes the place of the one at `path`, if any.

  Args:
    path: of the folder.
    names: files that may be in it; they go, and nothing else does.
  """
  path, before = pathlib.Path(path), None
  try:
    with whole_folder(path) as made:
      yield made
      if path.is_dir():
        before = temporary(path)
        os.replace(path, before)
  except BaseException:
    if before is not None and before.is_dir():
      os.replace(before, path)
    raise
  if before is not None:
    _empty(before, names)


def _empty(folder, names):
  """Removes a folder of files of these names."""
  for name in names:
    (folder / name).unlink(missing_ok=True)
  with contextlib.suppress(OSError):  # there are others
    folder.rmdir()


def encodable(text: str) -> str:
  """`text` as UTF-8 can hold it, which file names and JSON may go beyond.

  >>> encodable('caf\\udce9')  # a name in Latin-1
  'caf\\\\xe9'
  """
  try:
    data = text.encode('utf-8', 'surrogateescape')
  except UnicodeEncodeError:
    data = text.encode('utf-8', 'backslashreplace')
  return data.decode('utf-8', 'backslashreplace')


def try_writing(folder: str | os.PathLike) -> None:
  """Makes a file in a folder and removes it; OSError where that fails."""
  trial = temporary(pathlib.Path(folder) / 'trial')
  trial.touch()
  trial.unlink()


def check_folder(folder: str | os.PathLike, what: str) -> None:
  """UserError unless a folder can be made, or written to, at `folder`.

  Args:
    folder: the path.
    what: how the message calls it.
  """
  folder = pathlib.Path(folder)
  try:
    if folder.exists() and not folder.is_dir():
      raise errors.UserError(f'{what} {folder} is a file; choose another.')
    near = next(path for path in (folder, *folder.absolute().parents)
                if path.is_dir())
    try_writing(near)
  except OSError as error:
    raise errors.UserError(
        f'cannot write to {what} {folder} ({error.strerror}); choose '
        f'another.') from error


def expand(path: str | os.PathLike) -> pathlib.Path:
  """A path whose ~ is the home folder; UserError where there is none."""
  try:
    return pathlib.Path(path).expanduser()
  except RuntimeError as error:
    raise errors.UserError(
        f'{path}: there is no such home folder; write out the path.') from error


def sweep(path: str | os.PathLike) -> None:
  """Removes what killed runs left of `path`. Only for who has claimed it."""
  path = pathlib.Path(path)
  left = re.compile(
      rf'\.{re.escape(path.stem[:_MOST_OF_A_NAME])}\.{_DRAWN}'
      rf'{re.escape(path.suffix)}')
  if not path.parent.is_dir():
    return
  for found in path.parent.iterdir():
    if left.fullmatch(found.name):
      if found.is_dir() and not found.is_symlink():
        shutil.rmtree(found, ignore_errors=True)
      else:
        found.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(folder: str | os.PathLike, what: str = 'the folder',
            beside: bool = False, wait: bool = False) -> Iterator[bool]:
  """Keeps other runs of this program out of a folder while the body runs.

  The system gives a claim back however a run ends. Where the file system has
  no locks, there are no claims, and the body runs all the same.

  Args:
    folder: made where it is missing.
    what: how the message calls it.
    beside: whether the claim is a file beside the folder, which need not
      exist, rather than one in it.
    wait: whether to wait for the other run; for what takes no time.

  Yields:
    Whether the claim holds.

  Raises:
    UserError: another run has claimed it.
  """
  folder = pathlib.Path(folder)
  path = (folder.with_name(f'.{folder.name}{LOCK}') if beside
          else folder / LOCK)
  made = [p for p in (path.parent, *path.parent.parents) if not p.exists()]
  path.parent.mkdir(parents=True, exist_ok=True)
  lock = None
  try:
    lock = _lock(path, f'{what} {folder}', wait)
    yield lock is not None
  finally:
    if lock is not None:
      path.unlink(missing_ok=True)
      _release(lock)
    with contextlib.suppress(OSError):  # one that is not empty stays
      for parent in made:
        parent.rmdir()


def _lock(path, what, wait):
  """The descriptor of the locked file, or None where there are no locks."""
  try:
    import fcntl  # pylint: disable=g-import-not-at-top
  except ImportError:  # Windows
    return None
  while True:
    try:
      lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # whoever writes there will say why it cannot be done
      return None
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      holder = os.read(lock, 200).decode('utf-8', 'replace').strip()
      os.close(lock)
      raise errors.UserError(
          f'another run writes to {what} ({holder or "of this program"}); '
          f'wait for it, or choose another.') from None
    except OSError:
      os.close(lock)
      path.unlink(missing_ok=True)
      return None
    # Whoever had the lock before may have removed its file since.
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(lock), os.stat(path)):
        break
    os.close(lock)
  os.truncate(lock, 0)
  os.write(lock, f'process {os.getpid()} of {socket.gethostname()}'.encode())
  return lock


def _release(lock):
  import fcntl  # pylint: disable=g-import-not-at-top
  # Closing is not enough: processes that were forked have it open, too.
  with contextlib.suppress(OSError):
    fcntl.flock(lock, fcntl.LOCK_UN)
  os.close(lock)


def read_json(path: str | os.PathLike, remedy: str) -> dict[str, Any]:
  """The dict in a file that this program wrote.

  Args:
    path: of the file, which exists.
    remedy: what to do where it is damaged.

  Raises:
    UserError: the file is damaged.
  """
  try:
    value = json.loads(pathlib.Path(path).read_bytes())
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f'{path} is damaged (no JSON); {remedy}.') from error
  require(path, value, remedy)
  return value


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes JSON, whole or not at all."""
  write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + '\n')


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes text under a temporary name and moves it into place."""
  with whole(path) as temporary:
    # Half a character, as JSON and file names may hold, is no reason to fail.
    temporary.write_text(text, encoding='utf-8', errors='backslashreplace')


def require(what: object, value: Any, remedy: str,
            **kinds: type | tuple[type, ...]) -> None:
  """UserError unless `value` is a dict with these keys, of these types."""
  if not isinstance(value, dict):
    raise errors.UserError(
        f'{what} is damaged (a {type(value).__name__}, expected a dict); '
        f'{remedy}.')
  for key, kind in kinds.items():
    if not isinstance(value.get(key), kind):
      raise errors.UserError(
          f'{what} is damaged (it has no {key}); {remedy}.')


def check_output(path: str | os.PathLike, extensions: Sequence[str] = (),
                 what: str = 'output') -> None:
  """UserError unless a file with one of `extensions` can be written to `path`.

  Args:
    path: of the file.
    extensions: for example ('.wav', '.flac'); of none, any will do.
    what: how the message calls it.
  """
  path = pathlib.Path(path)
  if extensions and path.suffix.lower() not in extensions:
    raise errors.UserError(
        f'{what} {path} has extension {path.suffix!r}; expected '
        f'{" or ".join(extensions)}.')
  try:
    if path.is_dir():
      raise errors.UserError(f'{what} {path} is a folder; name a file in it.')
    if not path.parent.is_dir():
      raise errors.UserError(
          f'{what} folder {path.parent} does not exist; create it first.')
    path.exists()  # raises where the name is too long
    trial = temporary(path)
    trial.touch()
    trial.unlink()
  except OSError as error:
    raise errors.UserError(
        f'{what} {path} cannot be written ({error.strerror}); choose '
        f'another.') from error
