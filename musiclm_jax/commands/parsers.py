"""The command line's parsers: argparse whose mistakes are one line.

A word that a parser does not know is a mistake of that parser, not of the one
above it, so the line names the command whose --help tells more. Where a
command has several kinds (`musiclm evaluate quick`, `musiclm data folk_gm`) an
option that another kind has is told apart from one that nobody has.
"""

from __future__ import annotations

import argparse
from collections.abc import Container
from collections.abc import Mapping
from collections.abc import Sequence
import importlib
import sys
from typing import Any
from typing import NoReturn

from musiclm_jax import errors


class Parser(argparse.ArgumentParser):
  """argparse that raises UserError, and takes --debug at every level."""

  def __init__(self, *args, debug_help: str = argparse.SUPPRESS, **settings):
    """argparse's arguments, and what --help says of --debug: nothing."""
    settings.setdefault(
        'formatter_class', argparse.RawDescriptionHelpFormatter)
    self._names = {}  # {option: its longest name}
    self._kinds, self._what, self._others = {}, '', {}
    super().__init__(*args, **settings)
    # Without a default, so that a parser below does not undo the one above.
    self.add_argument('--debug', action='store_true',
                      default=argparse.SUPPRESS, help=debug_help)

  def add_argument(self, *names: str, **settings) -> argparse.Action:
    self._names.update(
        {name: max(names, key=len) for name in names if name.startswith('-')})
    return super().add_argument(*names, **settings)

  def add_kinds(self, dest: str, what: str = '') -> Any:
    """argparse's `add_subparsers` for the kinds of a command, one is required.

    Args:
      dest: the attribute that gets the kind's name.
      what: what a kind is called in the line about an unknown one; '' leaves
        it to argparse.

    Returns:
      What has `add_parser(name, help=...)`.
    """
    action = self.add_subparsers(dest=dest, required=True, parser_class=Parser)
    self._kinds, self._what = action.choices, what
    return action

  def parse_known_args(
      self, args: Sequence[str] | None = None,
      namespace: Any = None) -> tuple[Any, list[str]]:
    """As argparse's, but what is left over is a UserError."""
    args = sys.argv[1:] if args is None else list(args)
    if self._what:
      check_first(self._what, args, self._kinds)
    for kind in self._kinds.values():
      kind._others = self._kinds
    found, rest = super().parse_known_args(args, namespace)
    if rest:
      self._refuse(rest)
    return found, []

  def _refuse(self, words: list[str]):
    option = words[0].split('=')[0]
    for other in self._others.values():
      if option in other._names:
        raise errors.UserError(
            f'{other._names[option]} goes with `{other.prog}`, not with '
            f'{self.prog.split()[-1]}.')
    self.error(f'unrecognized arguments: {" ".join(words)}')

  def error(self, message: str) -> NoReturn:
    """UserError of what argparse says."""
    raise errors.UserError(f'{message} (see `{self.prog} --help`).')


class Command(Parser):
  """The parser of a command, which imports the command when it is needed.

  Attributes:
    module: the command's module by name. It has `add_arguments(parser)` and
      `run(args)`, and `prepare(words)` where argparse cannot read its words as
      they come. It is in the parsed arguments under `module`.
  """

  module = ''

  def parse_known_args(
      self, args: Sequence[str] | None = None,
      namespace: Any = None) -> tuple[Any, list[str]]:
    module = importlib.import_module(self.module)
    self.description = module.__doc__
    module.add_arguments(self)
    self.set_defaults(module=module)
    prepare = getattr(module, 'prepare', list)
    return super().parse_known_args(prepare(args or []), namespace)


def listed(texts: Mapping[str, str]) -> str:
  """Names, each with a line of help, in columns for the end of --help.

  argparse lists subparsers itself, but breaks the line after long names.
  """
  wide = max(map(len, texts))
  return '\n'.join(f'  {name:<{wide}}  {text}' for name, text in texts.items())


def check_first(
    what: str, words: Sequence[str], known: Container[str]) -> None:
  """UserError unless the first word that is no option is one of `known`."""
  first = next((word for word in words if not word.startswith('-')), None)
  if first is not None and first not in known:
    raise errors.choice(what, first, known)
