"""Makes a corpus of 24 kHz mono records.

  musiclm data folk_gm --hours 20 --out corpus/folk_gm [--shares test=1]
  musiclm data debian_music --out corpus/debian [--packages a,b] [--debs DIR]

folk_gm: old public tunes, arranged for General MIDI instruments and rendered,
with captions that are true by construction.
debian_music: recordings in Debian packages, split by package, for codecs; no
captions. Fetched with apt-get, or taken from a folder of .deb files.
"""

import importlib

from musiclm_jax import errors

CORPORA = {'folk_gm': 'musiclm_jax.data.folk_gm',
           'debian_music': 'musiclm_jax.data.debian_music'}
MAX_HOURS = 1000.0
_HOURS = {'folk_gm': 20.0}
_SPLITS = ('train', 'validation', 'test')
# Options of one corpus only.
_ONLY = dict(packages='debian_music', debs='debian_music',
             test_minutes='debian_music', shares='folk_gm')


def add_arguments(parser):
  """The options of `musiclm data`."""
  parser.add_argument('corpus', help=', '.join(CORPORA))
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--hours', type=float, default=None,
                      help='audio to make (default: 20 for folk_gm; for '
                      'debian_music all that its training packages have)')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workers', type=int, default=None,
                      help='processes (default: one a core)')
  parser.add_argument('--packages', metavar='A,B',
                      help='debian_music: these packages (default: all)')
  parser.add_argument('--debs', metavar='DIR',
                      help='debian_music: .deb files; what is missing there is '
                      'downloaded into it')
  parser.add_argument('--test-minutes', type=float, default=None,
                      help='debian_music: of each test package (default: 12)')
  parser.add_argument('--shares', metavar='SPLIT=X,...',
                      help='folk_gm: share of the audio for each split, such '
                      'as train=0.5,test=0.5 (no split changes the tunes that '
                      'it may take)')


def run(args):
  """Builds the corpus and says what it holds."""
  if args.corpus not in CORPORA:
    raise errors.choice('corpus', args.corpus, CORPORA)
  extra = {}
  for option, corpus in _ONLY.items():
    value = getattr(args, option, None)
    if value is None:
      continue
    if args.corpus != corpus:
      raise errors.UserError(
          f'--{option.replace("_", "-")} goes with `musiclm data {corpus}`, '
          f'not with {args.corpus}.')
    extra[option] = value
  if 'packages' in extra:
    extra['packages'] = [
        name.strip() for name in extra['packages'].split(',') if name.strip()]
  if extra.get('test_minutes', 1) <= 0:
    raise errors.UserError(
        f'--test-minutes is {extra["test_minutes"]:g}; expected above 0.')
  if 'shares' in extra:
    extra['shares'] = _shares(extra['shares'])
  hours = _HOURS.get(args.corpus) if args.hours is None else args.hours
  if hours is not None and not 0 < hours <= MAX_HOURS:
    raise errors.UserError(
        f'--hours is {hours:g}; expected above 0, at most {MAX_HOURS:g}.')
  corpus = importlib.import_module(CORPORA[args.corpus])
  corpus.build(args.out, hours=hours, seed=args.seed, workers=args.workers,
               **extra)
  from musiclm_jax.commands import inspect as inspection  # pylint: disable=g-import-not-at-top
  inspection.print_corpus(args.out)


def _shares(text):
  """'train=0.5,test=0.5' -> {'train': 0.5, 'test': 0.5}."""
  shares = {}
  for part in text.split(','):
    name, _, value = part.partition('=')
    name = name.strip()
    if name not in _SPLITS:
      raise errors.choice('split', name, _SPLITS)
    try:
      shares[name] = float(value)
    except ValueError:
      shares[name] = -1.0
    if not 0 < shares[name] <= 1:
      raise errors.UserError(
          f'--shares {text}: {name} has {value or "nothing"}; expected a number '
          f'above 0, at most 1, as in train=0.5,test=0.5.')
  return shares
