"""The one exception that the command line turns into a line and exit code 2."""

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import re

# What the system says of a disk or file, in whatever a library makes of it.
SYSTEM_WORDS = re.compile(
    r'No space left on device|Disk quota exceeded|Read-only file system|'
    r'Permission denied|File too large|Input/output error|Stale file handle')
_TEMPORARY = re.compile(r'\.([^/]*)\.\d+-[0-9a-f]{6}\.tmp(?=[^/]*)')


class UserError(ValueError):
  """A mistake in what the user gave: what came, what was expected, what to do.

  The message is one line. `musiclm` prints it after `musiclm: error:` and exits
  with code 2; anything else that escapes is a bug and keeps its traceback.
  """


def choice(name: str, value: object, known: Iterable[str]) -> UserError:
  """The error for an unknown name: it lists the known ones."""
  return UserError(
      f'unknown {name} {value!r}; known: {", ".join(sorted(known))}.')


def kind(value: object) -> str:
  """What a value is, in words for who wrote it in JSON or Python.

  >>> kind('5'), kind([5]), kind(True), kind(5.0)
  ('text', 'a list', 'true or false', 'a number')
  """
  if isinstance(value, bool):
    return 'true or false'
  kinds = {str: 'text', list: 'a list', tuple: 'a list', dict: 'an object',
           int: 'a number', float: 'a number', type(None): 'nothing'}
  return kinds.get(type(value), f'a {type(value).__name__}')


def check_input(path: str | os.PathLike, what: str) -> None:
  """UserError unless `path` can be read; `what` is what messages call it."""
  path = pathlib.Path(path)
  if path.is_dir():
    raise UserError(f'{what} {path} is a folder; name a file in it.')
  if not path.is_file():
    raise UserError(f'{what} {path} does not exist.')
  try:
    with open(path, 'rb'):
      pass
  except OSError as error:
    raise UserError(
        f'{what} {path} cannot be read ({error.strerror}).') from error


def causes(error: BaseException | None) -> list[BaseException]:
  """An exception and those that led to it."""
  seen = []
  while error is not None and error not in seen:
    seen.append(error)
    error = error.__cause__ or error.__context__
  return seen


def of_system(error: BaseException) -> str:
  """What the system refused, as a sentence; '' where it was not the system.

  Libraries wrap what the system says in errors of their own, so its words are
  looked for, too.
  """
  for cause in causes(error):
    if isinstance(cause, OSError) and (cause.strerror or cause.filename):
      # NumPy counts what was not written, and gives no reason.
      what = cause.strerror or 'it could not be written whole'
      name = _shown(cause.filename)
      return f'{name}: {what}.' if name else f'{what}.'
    found = SYSTEM_WORDS.search(str(cause))
    if found:
      return f'{found.group()}.'
  return ''


def _shown(name):
  """The name that a user knows a file by: not that of `files.temporary`."""
  if isinstance(name, bytes):
    name = os.fsdecode(name)
  return _TEMPORARY.sub(r'\1', str(name)) if isinstance(name, str) else ''


@contextlib.contextmanager
def of_files(path: str | os.PathLike) -> Iterator[None]:
  """Turns what the system says about files into a UserError.

  Args:
    path: named where the system names none.
  """
  try:
    yield
  except OSError as error:
    if error.filename is None:
      error.filename = str(path)
    raise UserError(of_system(error) or f'{path}: {error}.') from error
