"""Makes a corpus of recordings: a folder, a list, a store, a corpus, a dataset.

  musiclm ingest ~/music --out corpus/mine
  musiclm ingest 'music/**/*.flac' --out flac
  musiclm ingest tracks.csv --out chosen          columns path or url, id,
                                caption, licence, split, start_s, end_s
  musiclm ingest gs://bucket/music --out gs://bucket/corpus --runner DataflowRunner
  musiclm ingest tfds:NAME --data-dir DIR --out theirs

Captions are read from a CSV (file,caption) or JSONL beside the audio if there is
one. What cannot be used is listed with the reason in rejects.jsonl, and what is
the same as something else in duplicates.jsonl; no copies stand in two splits.
Killed and run again, it goes on where it was.
"""

import argparse

from musiclm_jax import workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm ingest`."""
  parser.add_argument('source', metavar='SOURCE')
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--captions', metavar='FILE',
                      help='CSV or JSONL (default: the one in the folder)')
  parser.add_argument('--licence', metavar='TEXT',
                      help='of the recordings; it goes into every bundle')
  parser.add_argument('--split-by', default='file', metavar='file|folder',
                      help="'folder' keeps an album in one split")
  parser.add_argument('--min-seconds', type=float, metavar='S',
                      help='shorter ones are rejected (default: 3)')
  parser.add_argument('--max-seconds', type=float, metavar='S',
                      help='longer ones are cut into pieces (default: 300)')
  parser.add_argument('--data-dir', metavar='DIR',
                      help='where the dataset of a tfds:NAME is')
  workers.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
  """Builds the corpus and says what it holds."""
  from musiclm_jax import places  # pylint: disable=g-import-not-at-top
  places.check_lasting(args.out, '--out')
  from musiclm_jax.data import audio_folder  # pylint: disable=g-import-not-at-top
  given = {name: getattr(args, name)
           for name in ('licence', 'min_seconds', 'max_seconds')
           if getattr(args, name) is not None}
  audio_folder.build(
      args.source, args.out, captions=args.captions, split_by=args.split_by,
      data_dir=args.data_dir, runner=workers.from_arguments(args), **given)
  if not places.is_remote(args.out):
    from musiclm_jax.commands import inspect as inspection  # pylint: disable=g-import-not-at-top
    inspection.print_corpus(args.out)
