"""One HTML page from what evaluations and trainings left in a folder.

  musiclm evaluate quick --json results/quick.json
  musiclm report results -o results.html
  musiclm report results --against older

The folder, and those in it, may hold JSON of any evaluation (`musiclm evaluate
NAME --json FILE`), folders of training runs (metrics.csv), and folders of audio
files, such as generated clips; of audio folders with the same file names each
clip is shown in all its forms, with its line of captions.csv. The page has
everything in it and opens from disk: figures with their intervals, curves,
players, spectrograms, and where each figure comes from.

With --against, files of the same name are held side by side: differences,
intervals that do not overlap, and in what circumstances they differ.
"""

from __future__ import annotations

import argparse
import pathlib

from musiclm_jax import errors
from musiclm_jax import files

MOST_CLIPS = 500
_TOKENIZERS = ('codec', 'w2vbert')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm report`."""
  parser.add_argument('folder', metavar='DIR', help='what to show')
  parser.add_argument('-o', '--output', metavar='FILE.html',
                      help='the page (default: report.html in DIR)')
  parser.add_argument('--against', metavar='DIR2',
                      help='what to hold it against')
  parser.add_argument('--clips', type=int, default=12, metavar='N',
                      help='clips with players in the page (default: '
                      '%(default)s)')
  parser.add_argument('--tokens', action='store_true',
                      help="show the clips' tokens as well, as the bundle's "
                      'codec and w2v-BERT make them')
  parser.add_argument('--bundle', metavar='DIR',
                      help='whose tokens --tokens shows (default: the shipped '
                      'one)')


def run(args: argparse.Namespace) -> None:
  """Reads, writes the page, says what is in it."""
  if not 0 <= args.clips <= MOST_CLIPS:
    raise errors.UserError(
        f'--clips is {args.clips}; expected 0 to {MOST_CLIPS}.')
  if args.bundle and not args.tokens:
    raise errors.UserError('--bundle is for --tokens; give both or neither.')
  for folder, what in ((args.folder, 'DIR'), (args.against, '--against')):
    if folder is not None and not pathlib.Path(folder).is_dir():
      raise errors.UserError(
          f'{what} {folder} is not a folder; name one with what `musiclm '
          f'evaluate NAME --json FILE` wrote.')
  path = pathlib.Path(args.output or pathlib.Path(args.folder) / 'report.html')
  files.check_output(path, ('.html',), '--output')
  from musiclm_jax.evaluation.pages import beside  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation.pages import folder as folder_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation.pages import page  # pylint: disable=g-import-not-at-top
  found = folder_lib.read(args.folder, 'DIR')
  other = folder_lib.read(args.against, '--against') if args.against else None
  if other is not None:
    beside.check(found, other)
  page.write(path, found, other, args.clips,
             _tokens(args) if args.tokens else None)
  print(f'{path}: {page.size(path)}; {page.counted(found)}')
  for name, why in found.skipped:
    print(f'not shown: {name}: {why}')


def _tokens(args):
  """What makes token maps; the bundle is checked before anything is drawn."""
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation.pages import players  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  bundle.require(*_TOKENIZERS)
  return players.tokens_of(bundle)
