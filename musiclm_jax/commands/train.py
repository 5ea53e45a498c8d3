"""Trains one model from its gin leaf.

  musiclm train soundstream_tiny --gin.MODEL_DIR="'/tmp/codec'" \\
      --gin.CORPUS_DIR="'/tmp/corpus'"
  python -m musiclm_jax.commands.train --gin_file=gin/soundstream_tiny.gin --gin.X=VALUE

A leaf is a path, or its name from any directory. gin/runs/local.gin is loaded
before it, and the bindings after it. The same command resumes the run. On many
hosts each runs it, with COORDINATOR, NUM_PROCESSES and PROCESS_ID or the
environment of training/hosts.py.
"""

import argparse
from collections.abc import Sequence
import sys

from musiclm_jax import errors
from musiclm_jax import process
from musiclm_jax.commands import entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm train`."""
  add_gin_arguments(parser)


def add_gin_arguments(parser: argparse.ArgumentParser) -> None:
  """Leaves and bindings, as every command that loads gin takes them."""
  parser.add_argument('leaf', nargs='*', help='name or path of a gin leaf')
  parser.add_argument('--gin_file', action='append', default=[],
                      metavar='LEAF', help='the same; the last one wins')
  parser.add_argument('--gin', action='append', default=[],
                      metavar='NAME=VALUE',
                      help='binds a macro or parameter; --gin.NAME=VALUE too')


def prepare(argv: Sequence[str]) -> list[str]:
  """Rewrites --gin.NAME=VALUE to what argparse can read: --gin=NAME=VALUE."""
  return ['--gin=' + word[len('--gin.'):] if word.startswith('--gin.') else word
          for word in argv]


def gin_arguments(args: argparse.Namespace) -> tuple[list[str], list[str]]:
  """(leaves, gin lines) of parsed arguments."""
  for binding in args.gin:
    if '=' not in binding:
      raise errors.UserError(
          f'--gin.{binding} has no value; write --gin.{binding}=VALUE.')
  lines = [' = '.join(binding.split('=', 1)) for binding in args.gin]
  return args.leaf + args.gin_file, lines


def start(names, bindings=()):
  """Loads the leaves and trains.

  Args:
    names: a leaf or several, as `configs.resolve` takes them.
    bindings: {'MODEL_DIR': '/tmp/x'} or gin lines.
  Returns:
    The `training.loop.Result`.
  """
  from musiclm_jax import configs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.training import directory  # pylint: disable=g-import-not-at-top
  from musiclm_jax.training import loop  # pylint: disable=g-import-not-at-top
  configs.join_hosts(names, bindings)
  config = configs.load(names, bindings)
  model_dir = config.arguments['model_dir']
  directory.check(model_dir)
  with directory.claimed(model_dir):
    directory.write_settings(model_dir, config.text)
  return loop.train(**config.arguments)


def run(args: argparse.Namespace) -> None:
  """Trains; who starts a stopped run again asks for another exit code."""
  process.keep_memory()
  result = start(*gin_arguments(args))
  from musiclm_jax.training import hosts  # pylint: disable=g-import-not-at-top
  code = hosts.exit_code(result.reason)
  if code:
    sys.exit(code)


def run_as_module(name, doc, add, command):
  """`python -m` for the modules that load gin."""
  parser = argparse.ArgumentParser(
      prog=name, description=doc,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  add(parser)
  args = parser.parse_args(prepare(sys.argv[1:]))
  with entry.guarded(name):
    command(args)


if __name__ == '__main__':
  run_as_module('musiclm_jax.commands.train', __doc__, add_arguments, run)
