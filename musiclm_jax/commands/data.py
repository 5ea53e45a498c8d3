"""Makes a corpus of 24 kHz mono records.

  musiclm data folk_gm --hours 20 --out corpus/folk_gm [--shares test=1]
  musiclm data debian_music --out corpus/debian [--packages a,b] [--debs DIR]

folk_gm: old public tunes, arranged for General MIDI instruments and rendered,
with captions that are true by construction.
debian_music: recordings in Debian packages, split by package, for codecs; no
captions. Fetched with apt-get, or taken from a folder of .deb files.
"""

import argparse
import importlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.commands import parsers

CORPORA = {'folk_gm': 'musiclm_jax.data.folk_gm',
           'debian_music': 'musiclm_jax.data.debian_music'}
MAX_HOURS = 1000.0
_HOURS = {'folk_gm': 20.0}
_HOURS_HELP = {'folk_gm': 'default: 20',
               'debian_music': 'default: all that its training packages have'}
_SPLITS = ('train', 'validation', 'test')
_OWN = ('packages', 'debs', 'test_minutes', 'shares')  # of one corpus only


def add_arguments(parser: parsers.Parser) -> None:
  """A parser for each corpus."""
  kinds = parser.add_kinds('corpus', 'corpus')
  for name in CORPORA:
    kind = kinds.add_parser(name, description=__doc__)
    kind.add_argument('--out', required=True, metavar='DIR')
    kind.add_argument('--hours', type=float, default=None,
                      help=f'audio to make ({_HOURS_HELP[name]})')
    kind.add_argument('--seed', type=int, default=0)
    kind.add_argument('--workers', type=int, default=None,
                      help='processes (default: one a core)')
    (_add_folk_gm if name == 'folk_gm' else _add_debian_music)(kind)


def _add_folk_gm(parser: parsers.Parser) -> None:
  parser.add_argument('--shares', metavar='SPLIT=X,...',
                      help='share of the audio for each split, such as '
                      'train=0.5,test=0.5 (no split changes the tunes that it '
                      'may take)')


def _add_debian_music(parser: parsers.Parser) -> None:
  parser.add_argument('--packages', metavar='A,B',
                      help='these packages (default: all)')
  parser.add_argument('--debs', metavar='DIR',
                      help='.deb files; what is missing there is downloaded '
                      'into it')
  parser.add_argument('--test-minutes', type=float, default=None,
                      help='of each test package (default: 12)')


def run(args: argparse.Namespace) -> None:
  """Builds the corpus and says what it holds."""
  hours = _HOURS.get(args.corpus) if args.hours is None else args.hours
  extra = _extra(args)
  if hours is not None and not 0 < hours <= MAX_HOURS:
    raise errors.UserError(
        f'--hours is {hours:g}; expected above 0, at most {MAX_HOURS:g}.')
  corpus = importlib.import_module(CORPORA[args.corpus])
  corpus.build(args.out, hours=hours, seed=args.seed, workers=args.workers,
               **extra)
  from musiclm_jax.commands import inspect as inspection  # pylint: disable=g-import-not-at-top
  inspection.print_corpus(args.out)


def _extra(args: argparse.Namespace) -> dict[str, Any]:
  """What the corpus's own options say, as its `build` takes it."""
  extra = {option: getattr(args, option) for option in _OWN
           if getattr(args, option, None) is not None}
  if 'packages' in extra:
    extra['packages'] = [
        name.strip() for name in extra['packages'].split(',') if name.strip()]
  if extra.get('test_minutes', 1) <= 0:
    raise errors.UserError(
        f'--test-minutes is {extra["test_minutes"]:g}; expected above 0.')
  if 'shares' in extra:
    extra['shares'] = _shares(extra['shares'])
  return extra


def _shares(text: str) -> dict[str, float]:
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
