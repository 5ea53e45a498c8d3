"""Exports a trained model as a component of a bundle.

  musiclm export soundstream_tiny --gin.MODEL_DIR="'/tmp/codec'" \\
      --gin.CORPUS_DIR="'/tmp/corpus'" --out /tmp/bundle/soundstream

The gin arguments are those of the training run. The folder of the component is
named in the bundle's manifest, which is made where there is none.
"""

import pathlib
import sys

from musiclm_jax import errors
from musiclm_jax import train

prepare = train.prepare


def add_arguments(parser):
  """The options of `musiclm export`."""
  train.add_gin_arguments(parser)
  parser.add_argument('--out', required=True, metavar='BUNDLE/COMPONENT')
  parser.add_argument('--corpus', default=None, metavar='DIR',
                      help='fits codebooks here, not on the training corpus')
  parser.add_argument('--storage', default='float32',
                      help='float32, float16 or int8')


def write(names, bindings, out_dir, corpus_dir=None, storage='float32',
          metadata=None):
  """Loads the leaves and exports their newest checkpoint.

  Args:
    names: the leaves of the training run.
    bindings: its bindings.
    out_dir: `<bundle>/<component>`.
    corpus_dir: see `training.export.export`, as the arguments after it.
    storage: how the weights are stored.
    metadata: JSON values to add.
  Returns:
    The metadata as written.
  """
  from musiclm_jax import configs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.training import export  # pylint: disable=g-import-not-at-top
  arguments = configs.load(names, bindings).arguments
  return export.export(
      arguments['trainable'], arguments['source'], arguments['model_dir'],
      out_dir, corpus_dir, storage, metadata)


def run(args):
  """Exports, enters the component in its bundle, says what was written."""
  from musiclm_jax import bundle  # pylint: disable=g-import-not-at-top
  place = pathlib.Path(args.out)
  if place.name not in bundle.COMPONENTS:
    raise errors.choice('component in --out', place.name, bundle.COMPONENTS)
  about = write(*train.gin_arguments(args), args.out, args.corpus,
                args.storage)
  bundle.enter(place.parent, place.name)
  print(f'{args.out}: step {about["steps"]}')


if __name__ == '__main__':
  sys.exit(train.run_as_module(
      'musiclm_jax.export', __doc__, add_arguments, run))
