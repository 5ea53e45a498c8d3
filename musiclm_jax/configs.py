"""gin files: found by name from any directory, parsed, checked, resolved.

Only entry points import this module; models and loop know nothing of gin.

  load('soundstream_tiny', {'MODEL_DIR': '/tmp/x', 'CORPUS_DIR': '/tmp/c'})
      -> runs/local.gin, the leaf, the bindings, in this order: the last wins
      -> the arguments of `training.loop.train`, every object built

gin accepts macros that nothing reads and bindings of classes that are never
built. Both are mistakes, so both are errors here.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
import re
from typing import Any

import gin
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import macro_values
from musiclm_jax.commands import entry
from musiclm_jax.training import hosts
from musiclm_jax.training import loop

RUN = 'runs/local.gin'
_PACKAGE = pathlib.Path(__file__).resolve().parent
_MACRO = 'gin.macro'
# One leaf or several; what is bound after them.
Names = str | pathlib.Path | Sequence[str | pathlib.Path]
Bindings = Mapping[str, Any] | Sequence[str]


@dataclasses.dataclass(frozen=True)
class Config:
  """A leaf, resolved."""

  files: tuple  # absolute paths, in the order they were loaded
  arguments: dict  # keyword arguments of loop.train
  text: str  # all bindings as gin text, for the record


def gin_root() -> pathlib.Path:
  """The directory of the gin files: beside the package, or within it."""
  for path in (_PACKAGE.parent / 'gin', _PACKAGE / 'gin_files'):
    if (path / RUN).is_file():
      return path
  raise errors.UserError(
      f'no gin files beside or within {_PACKAGE}; reinstall musiclm_jax.')


def leaves() -> list[str]:
  """Names of the leaves, such as 'soundstream_tiny'."""
  return sorted(path.stem for path in gin_root().glob('*.gin'))


def resolve(name: str | pathlib.Path) -> pathlib.Path:
  """The absolute path of a gin file.

  Args:
    name: a path that exists, or a file below the gin root, with or without
      `gin/` before it and `.gin` after it.
  Raises:
    UserError: there is none; those of its folder are listed, or the leaves.
  """
  path = files_lib.expand(name)
  if path.is_file():
    return path.resolve()
  relative = re.sub(r'^(\./)?gin/', '', str(name))
  for candidate in (relative, f'{relative}.gin'):
    if not pathlib.Path(candidate).is_absolute():
      if (gin_root() / candidate).is_file():
        return gin_root() / candidate
  folder = gin_root() / pathlib.PurePath(relative).parent
  near = []
  if folder != gin_root() and folder.is_relative_to(gin_root()):
    near = [str(path.relative_to(gin_root()).with_suffix(''))
            for path in sorted(folder.glob('*.gin'))]
  raise errors.choice('gin file', str(name), near or leaves())


def add_search_path() -> None:
  """Lets gin find what leaves include, whatever the working directory is.

  A byte order mark, with which some editors begin a file, is passed over.
  """
  readers = gin.config._FILE_READERS  # pylint: disable=protected-access
  if readers[0][0] is open:
    readers[0] = (functools.partial(open, encoding='utf-8-sig'), os.path.isfile)
  prefixes = gin.config._LOCATION_PREFIXES  # pylint: disable=protected-access
  if str(gin_root()) not in prefixes:
    # First: an include means the same file everywhere.
    prefixes.insert(0, str(gin_root()))


def load(names: Names, bindings: Bindings = (), run: str = RUN) -> Config:
  """Parses gin files over the run file and builds what they name.

  The gin state of the process is cleared first.

  Args:
    names: one leaf or several, each as `resolve` takes it.
    bindings: {'MODEL_DIR': '/tmp/x'}, or gin lines such as "MODEL_DIR = '/x'".
    run: the run file, loaded before the leaves.
  Returns:
    A `Config`.
  Raises:
    UserError: an unknown file, name or value; a value out of range; a required
      macro without value; a binding that nothing reads.
  """
  files = _parse(names, bindings, run)
  _require_macros()
  with _explained(' + '.join(path.name for path in files[1:])):
    arguments = gin.get_bindings(loop.train)
    gin.get_bindings(hosts.join)  # for `join_hosts`, who has read it by now
  _require_read(files)
  return Config(files, arguments, gin.config_str())


def join_hosts(
    names: Names, bindings: Bindings = (), run: str = RUN) -> None:
  """Meets the other hosts that a leaf or the environment names, if any.

  Before `load`, which may ask for devices as it builds what a leaf names.
  """
  _parse(names, bindings, run)
  hosts.join(**gin.get_bindings(hosts.join))


def required(names: Names, run: str = RUN) -> set[str]:
  """Names of the macros that a leaf leaves to the command line."""
  _parse(names, (), run)
  return _missing()


def _parse(names, bindings, run):
  """Parses everything, builds nothing; returns the files."""
  if isinstance(names, (str, pathlib.Path)):
    names = [names]
  if not names:
    raise errors.UserError(
        f'no gin file; give --gin_file=LEAF, one of: {", ".join(leaves())}.')
  files = tuple(resolve(name) for name in (run, *names))
  gin.clear_config(clear_constants=True)
  add_search_path()
  for path in files:
    with _explained(str(path)):
      gin.parse_config_file(str(path))
  for line in _lines(bindings):
    with _explained(f'--gin.{line}'):
      gin.parse_config(line)
  check_values()
  return files


def check_values() -> None:
  """Raises UserError where a macro that is bound has a value out of range."""
  is_reference = lambda value: isinstance(
      value, gin.config.ConfigurableReference)
  macro_values.check(macros(), is_reference)


def _lines(bindings):
  """Bindings as gin lines."""
  if isinstance(bindings, dict):
    return [f'{name} = {value!r}' for name, value in bindings.items()]
  return list(bindings)


def macros() -> dict[str, Any]:
  """{name: value} of all macros now bound; references stay references."""
  return {scope: params['value'] for (scope, selector), params in _config()
          if selector == _MACRO}


def check_macros_of_other_runs(
    others: Iterable[str | pathlib.Path]) -> list[str]:
  """Looks at the macros of what another launcher (T5X) has parsed.

  Args:
    others: paths of its own gin files, whose macros may go unread, as may those
      of ours in runs/.
  Returns:
    Lines to be said: macros that our own loop alone reads.
  Raises:
    UserError: a macro that nothing reads and no run knows: misspelt.
  """
  ours = {path.stem: _macros_in(path)
          for path in gin_root().glob('runs/*.gin')}
  known = set().union(*ours.values(), *map(_macros_in, others))
  loose = set(macros()) - _used_macros()
  unknown = sorted(loose - known)
  if unknown:
    raise errors.UserError(
        f'{", ".join(unknown)} is bound but nothing reads it; macros that are '
        f'read: {", ".join(sorted(_used_macros() & set(macros())))}.')
  alone = ours['local'].difference(
      *(names for run, names in ours.items() if run != 'local'))
  return [f'{name} is read by our own loop alone; T5X passes over it.'
          for name in sorted(loose & alone)]


def _macros_in(path):
  return set(re.findall(
      r'^([A-Z]\w*) *=', path.read_text(encoding='utf-8'), re.M))


def unread() -> list[str]:
  """Bindings that building the arguments did not touch: 'codec.Config.width'.

  Valid after `load`, which raises for them; tests ask for them one by one.
  """
  # A reference in a macro is built in the scope of the macro's name, so a
  # binding is read by calls in its own scope and in any below it.
  operative = gin.config._OPERATIVE_CONFIG  # pylint: disable=protected-access
  used = set()
  for (scope, selector), params in operative.items():
    parts = scope.split('/') if scope else []
    used.update(('/'.join(parts[:i]), selector, name)
                for i in range(len(parts) + 1) for name in params)
  outer = {gin.config._inverse_lookup(f).selector  # pylint: disable=protected-access
           for f in (loop.train, hosts.join)}
  names = []
  for (scope, selector), params in _config():
    for name in params:
      if selector not in outer and (scope, selector, name) not in used:
        key = f'{scope}/{selector}' if scope else selector
        names.append(scope if selector == _MACRO else f'{key}.{name}')
  return sorted(names)


def _config():
  return list(gin.config._CONFIG.items())  # pylint: disable=protected-access


def _used_macros():
  """Names of the macros that some binding refers to."""
  references = gin.config.iterate_references(
      [params for _, params in _config()])
  return {ref.scopes[0] for ref in references if ref.selector == _MACRO}


def _missing():
  """Macros that are required or used, and have no value."""
  bound = macros()
  used = _used_macros()
  missing = {name for name, value in bound.items()
             if getattr(value, 'scopes', None) == ['gin.REQUIRED']}
  return missing | (used - set(bound))


def _require_macros():
  missing = _missing()
  if missing:
    raise errors.UserError(
        f'no value for {", ".join(sorted(missing))}; bind each in the leaf or '
        f'as --gin.{sorted(missing)[0]}=VALUE (text in quotes: '
        f'--gin.MODEL_DIR="\'/tmp/run\'").')


def _require_read(files):
  names = unread()
  if names:
    raise errors.UserError(
        f'{", ".join(names)} is bound but nothing reads it in '
        f'{" + ".join(path.name for path in files)}; macros that are read: '
        f'{", ".join(sorted(set(macros()) - set(names)))}.')


class _explained:  # pylint: disable=invalid-name
  """Turns what gin raises for a user's mistake into one line."""

  def __init__(self, where):
    self._where = where

  def __enter__(self):
    return self

  def __exit__(self, kind, error, traceback):
    if error is None or not isinstance(
        error, (ValueError, SyntaxError, NameError, AttributeError, TypeError,
                RuntimeError, OSError, ImportError)):
      return False
    # gin appends lines about where it was; the first one says what was wrong.
    text = str(getattr(error, 'msg', None) or error)
    text = text.split('\n  In call to configurable')[0].strip()
    text = ' '.join(text.split())
    if isinstance(error, SyntaxError) and self._where.startswith('--gin.'):
      text += ' (text needs quotes: --gin.NAME="\'text\'")'
    raise errors.UserError(
        entry.lacking(error) or f'{self._where}: {text}') from error
