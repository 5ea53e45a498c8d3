"""Exports a trained model as a component of a bundle.

  musiclm export soundstream_tiny --gin.MODEL_DIR="'/tmp/codec'" \\
      --gin.CORPUS_DIR="'/tmp/corpus'" --out /tmp/bundle/codec

The gin arguments are those of the training run. The folder of the component is
named in the bundle's manifest, which is made where there is none.

A stage that T5X trained, and a checkpoint of ours for T5X to go on from:

  musiclm export semantic_base --gin.CACHE_DIR="'/data/cache'" \\
      --from-t5x /runs/semantic --out /tmp/bundle/semantic
  musiclm export semantic_base --gin.CACHE_DIR="'/data/cache'" \\
      --gin.MODEL_DIR="'/runs/ours'" --to-t5x /runs/for_t5x
"""

import argparse
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.commands import train

prepare = train.prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm export`."""
  train.add_gin_arguments(parser)
  to = parser.add_mutually_exclusive_group(required=True)
  to.add_argument('--out', metavar='BUNDLE/COMPONENT')
  to.add_argument('--to-t5x', metavar='DIR',
                  help='writes DIR/checkpoint_<step> for T5X')
  parser.add_argument('--from-t5x', metavar='DIR',
                      help='a run of T5X or one of its checkpoints, in place '
                      'of MODEL_DIR')
  parser.add_argument('--corpus', default=None, metavar='DIR',
                      help='fits codebooks here, not on the training corpus')
  parser.add_argument('--storage', default='float32',
                      help='float32, float16 or int8')


def write(names, bindings, out_dir, corpus_dir=None, storage='float32',
          metadata=None, from_t5x=None):
  """Loads the leaves and exports their newest checkpoint.

  Args:
    names: the leaves of the training run.
    bindings: its bindings.
    out_dir: `<bundle>/<component>`.
    corpus_dir: see `training.export.export`, as the arguments after it.
    storage: how the weights are stored.
    metadata: JSON values to add.
    from_t5x: a run of T5X, in place of MODEL_DIR.
  Returns:
    The metadata as written.
  """
  from musiclm_jax.training import exporting  # pylint: disable=g-import-not-at-top
  return exporting.export(
      *_run(names, bindings, from_t5x), out_dir, corpus_dir, storage, metadata,
      from_t5x=bool(from_t5x))


def _run(names, bindings, model_dir=None):
  """(trainable, source, directory) of a run; `model_dir` wins."""
  from musiclm_jax import configs  # pylint: disable=g-import-not-at-top
  if model_dir:
    more = {'MODEL_DIR': str(model_dir)}
    bindings = ({**bindings, **more} if isinstance(bindings, dict) else
                [*bindings, f'MODEL_DIR = {str(model_dir)!r}'])
  arguments = configs.load(names, bindings).arguments
  return (arguments['trainable'], arguments['source'], arguments['model_dir'])


def run(args: argparse.Namespace) -> None:
  """Exports, enters the component in its bundle, says what was written."""
  from musiclm_jax import bundle  # pylint: disable=g-import-not-at-top
  if args.to_t5x:
    _run_to_t5x(args)
    return
  place = pathlib.Path(os.path.abspath(args.out))  # '.' has no name
  known = (*bundle.COMPONENTS, *bundle.LISTENERS)
  if place.name not in known:
    raise errors.choice('component in --out', place.name, known)
  bundle.check_place(place, place.name)
  files.check_folder(place, '--out')
  about = write(*train.gin_arguments(args), place, args.corpus,
                args.storage, from_t5x=args.from_t5x)
  if place.name not in bundle.LISTENERS:
    bundle.enter(place.parent, place.name)
  print(f'{args.out}: step {about["steps"]}')


def _run_to_t5x(args):
  """Writes a checkpoint for T5X."""
  from musiclm_jax.training import exporting  # pylint: disable=g-import-not-at-top
  if args.from_t5x:
    raise errors.UserError('--from-t5x and --to-t5x exclude each other.')
  run_of = _run(*train.gin_arguments(args))
  print(exporting.to_t5x(*run_of, args.to_t5x))


if __name__ == '__main__':
  train.run_as_module('musiclm_jax.commands.export', __doc__, add_arguments, run)
