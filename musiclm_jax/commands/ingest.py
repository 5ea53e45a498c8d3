"""Turns a folder of WAV, FLAC, OGG, Opus, AIFF or MP3 files into a corpus.

  musiclm ingest ~/music --out corpus/mine

Captions are read from a CSV (file,caption) or JSONL beside the audio if there is
one. Files that cannot be used are listed with the reason in rejects.jsonl.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm ingest`."""
  parser.add_argument('folder')
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--captions', metavar='FILE',
                      help='CSV or JSONL (default: the one in the folder)')


def run(args: argparse.Namespace) -> None:
  """Builds the corpus and says what it holds."""
  from musiclm_jax.data import audio_folder  # pylint: disable=g-import-not-at-top
  audio_folder.build(args.folder, args.out, captions=args.captions)
  from musiclm_jax.commands import inspect as inspection  # pylint: disable=g-import-not-at-top
  inspection.print_corpus(args.out)
