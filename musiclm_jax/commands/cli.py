"""`musiclm`: one command line over the entry points.

Each command is a module with `add_arguments(parser)` and `run(args)`, see
`parsers.Command`. Only the module of the command that was asked for is
imported, and those modules import jax inside `run`, so `--help` answers at
once.

Exit codes: 0 done, 2 the user's mistake (one line on stderr, nothing written;
--debug shows its traceback), 130 interrupted, 1 anything else, a bug. See
entry.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import sys
from typing import Any

import musiclm_jax
from musiclm_jax.commands import entry
from musiclm_jax.commands import parsers

# command -> (module, one line of help). The order is the data flow.
COMMANDS = {
    'generate': ('musiclm_jax.commands.generate', 'text to music'),
    'serve': ('musiclm_jax.commands.serve', 'a page and an HTTP API'),
    'demo': ('musiclm_jax.commands.demo', 'the whole flow, from data to a WAV'),
    'data': ('musiclm_jax.commands.data', 'make a corpus'),
    'ingest': ('musiclm_jax.commands.ingest', 'a folder of audio files to a corpus'),
    'train': ('musiclm_jax.commands.train', 'train one model from its gin leaf'),
    'preflight': ('musiclm_jax.commands.preflight', 'what a training will need'),
    'export': ('musiclm_jax.commands.export', 'a trained model to a bundle component'),
    'precompute': ('musiclm_jax.commands.precompute', 'a corpus to cached tokens'),
    'evaluate': ('musiclm_jax.commands.evaluate', 'how good is a bundle, part by part'),
    'report': ('musiclm_jax.commands.report', 'a page of what evaluations left'),
    'codec': ('musiclm_jax.commands.codec', 'encode and decode with the codec alone'),
    'inspect': ('musiclm_jax.commands.inspect', 'say what a bundle, corpus, cache or '
                'audio file holds'),
}


def _parser() -> parsers.Parser:
  """The whole command line; a command's own options come with its module."""
  top = parsers.Parser(
      prog='musiclm', description=musiclm_jax.__doc__,
      epilog=parsers.listed({n: text for n, (_, text) in COMMANDS.items()}) +
      '\n\n`musiclm COMMAND --help` says more.',
      debug_help='show the traceback of a mistake')
  top.add_argument('--version', action='version',
                   version=f'musiclm_jax {musiclm_jax.__version__}')
  top.set_defaults(module=None)
  commands = top.add_subparsers(
      metavar='COMMAND', dest='command', parser_class=parsers.Command)
  for name, (module, _) in COMMANDS.items():
    commands.add_parser(name).module = module
  return top


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, Any]:
  """The parsed arguments and the command's module; None after plain help."""
  parsers.check_first('command', argv, COMMANDS)
  top = _parser()
  args = top.parse_args(argv)
  if args.module is None:
    top.print_help()
  return args, args.module


def main(argv: Sequence[str] | None = None) -> None:
  """Runs one command and exits with its code."""
  argv = sys.argv[1:] if argv is None else argv
  with entry.guarded('musiclm', debug='--debug' in argv):
    args, module = _parse(argv)
    if module is not None:
      module.run(args)


if __name__ == '__main__':
  main()
