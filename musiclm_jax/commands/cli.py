"""`musiclm`: one command line over the entry points.

Each command is a module with `add_arguments(parser)` and `run(args)`, and with
`prepare(argv)` where argparse cannot read its words as they come. Only the
module of the command that was asked for is imported, and those modules import
jax inside `run`, so `--help` answers at once.

Exit codes: 0 done, 2 the user's mistake (one line on stderr, nothing written;
--debug shows its traceback), 130 interrupted, 1 anything else, a bug. See
entry.py.
"""

import argparse
import importlib
import sys

import musiclm_jax
from musiclm_jax import errors
from musiclm_jax.commands import entry

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
    'codec': ('musiclm_jax.commands.codec', 'encode and decode with the codec alone'),
    'inspect': ('musiclm_jax.commands.inspect', 'say what a bundle, corpus, cache or '
                'audio file holds'),
}


class _Parser(argparse.ArgumentParser):
  """argparse with one-line errors."""

  def error(self, message):
    raise errors.UserError(f'{message} (see `{self.prog} --help`).')


def _parse(argv):
  """The parsed arguments and the command's module, or None for plain help."""
  top = _Parser(prog='musiclm', description=musiclm_jax.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                epilog='\n'.join(f'  {name:<11} {text}' for name, (_, text) in
                                 COMMANDS.items()) +
                '\n\n`musiclm COMMAND --help` says more.')
  top.add_argument('--version', action='version',
                   version=f'musiclm_jax {musiclm_jax.__version__}')
  top.add_argument('--debug', action='store_true',
                   help='show the traceback of a mistake')
  top.add_argument('command', metavar='COMMAND', nargs='?')
  first = next((i for i, a in enumerate(argv) if not a.startswith('-')),
               len(argv))
  args = top.parse_args(argv[:first + 1])
  if args.command is None:
    top.print_help()
    return None, None
  if args.command not in COMMANDS:
    raise errors.choice('command', args.command, COMMANDS)
  module = importlib.import_module(COMMANDS[args.command][0])
  parser = _Parser(prog=f'musiclm {args.command}', description=module.__doc__,
                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--debug', action='store_true', default=args.debug,
                      help=argparse.SUPPRESS)
  module.add_arguments(parser)
  prepare = getattr(module, 'prepare', list)
  return parser.parse_args(prepare(argv[first + 1:])), module


def main(argv=None):
  """Runs one command and exits with its code."""
  argv = sys.argv[1:] if argv is None else argv
  with entry.guarded('musiclm', debug='--debug' in argv):
    args, module = _parse(argv)
    if module is not None:
      module.run(args)


if __name__ == '__main__':
  main()
