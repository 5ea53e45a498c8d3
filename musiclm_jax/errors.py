"""The one exception that the command line turns into a line and exit code 2."""

import contextlib
import pathlib


class UserError(ValueError):
  """A mistake in what the user gave: what came, what was expected, what to do.

  The message is one line. `musiclm` prints it after `musiclm: error:` and exits
  with code 2; anything else that escapes is a bug and keeps its traceback.
  """


def choice(name, value, known):
  """The error for an unknown name: it lists the known ones."""
  return UserError(
      f'unknown {name} {value!r}; known: {", ".join(sorted(known))}.')


def kind(value):
  """What a value is, in words for who wrote it in JSON or Python.

  >>> kind('5'), kind([5]), kind(True), kind(5.0)
  ('text', 'a list', 'true or false', 'a number')
  """
  if isinstance(value, bool):
    return 'true or false'
  kinds = {str: 'text', list: 'a list', tuple: 'a list', dict: 'an object',
           int: 'a number', float: 'a number', type(None): 'nothing'}
  return kinds.get(type(value), f'a {type(value).__name__}')


def check_output(path, extensions, what='output'):
  """UserError unless a file with one of `extensions` can stand at `path`.

  Args:
    path: of the file.
    extensions: for example ('.wav', '.flac').
    what: how the message calls it.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() not in extensions:
    raise UserError(
        f'{what} {path} has extension {path.suffix!r}; expected '
        f'{" or ".join(extensions)}.')
  if path.is_dir():
    raise UserError(f'{what} {path} is a folder; name a file in it.')
  if not path.parent.is_dir():
    raise UserError(
        f'{what} folder {path.parent} does not exist; create it first.')


@contextlib.contextmanager
def of_files(path):
  """Turns what the system says about files into a UserError.

  Args:
    path: named where the system names none.
  """
  try:
    yield
  except OSError as error:
    raise UserError(
        f'{error.filename or path}: {error.strerror or error}.') from error
