"""Makes a corpus of 24 kHz mono records with captions.

  musiclm data folk_gm --hours 20 --out corpus/folk_gm

folk_gm: old public tunes, arranged for General MIDI instruments and rendered,
with captions that are true by construction.
"""

import importlib

from musiclm_jax import errors

CORPORA = {'folk_gm': 'musiclm_jax.data.folk_gm'}
MAX_HOURS = 1000.0


def add_arguments(parser):
  """The options of `musiclm data`."""
  parser.add_argument('corpus', help=', '.join(CORPORA))
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--hours', type=float, default=20.0,
                      help='audio to make (default: %(default)s)')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workers', type=int, default=None,
                      help='processes (default: one a core)')


def run(args):
  """Builds the corpus and says what it holds."""
  if args.corpus not in CORPORA:
    raise errors.choice('corpus', args.corpus, CORPORA)
  if not 0 < args.hours <= MAX_HOURS:
    raise errors.UserError(
        f'--hours is {args.hours:g}; expected above 0, at most {MAX_HOURS:g}.')
  corpus = importlib.import_module(CORPORA[args.corpus])
  corpus.build(args.out, hours=args.hours, seed=args.seed,
               workers=args.workers)
  from musiclm_jax import inspection  # pylint: disable=g-import-not-at-top
  inspection.print_corpus(args.out)
