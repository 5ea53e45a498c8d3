"""Makes a corpus of 24 kHz mono records.

  musiclm data folk_gm --hours 20 --out DIR [--shares test=1]
  musiclm data debian_music --out DIR [--packages a,b] [--debs DIR]
  musiclm data musiccaps --csv musiccaps-public.csv --audio DIR --out DIR
  musiclm data fma --from DIR --subset small --out DIR
  musiclm data audiocaps --from DIR --audio DIR --out DIR
  musiclm data audioset_labels --from DIR --audio DIR --out DIR
  musiclm data label CORPUS --sentences FILE --bundle DIR --out DIR

folk_gm: old public tunes, arranged for General MIDI instruments and rendered,
with captions that are true by construction.
debian_music: recordings in Debian packages, split by package, for codecs; no
captions. Fetched with apt-get, or taken from a folder of .deb files.
musiccaps, audiocaps, audioset_labels: excerpts of videos, from the data set's
CSVs and a folder of their sound, cut already or whole.
fma: the Free Music Archive, from its downloaded archives.
label: a corpus again, with sentences out of a list that fit its sound.
"""

import argparse
import importlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import places
from musiclm_jax import workers
from musiclm_jax.commands import parsers

CORPORA = {name: f'musiclm_jax.data.{name}' for name in (
    'folk_gm', 'debian_music', 'musiccaps', 'fma', 'audiocaps',
    'audioset_labels')}
LABEL = 'label'
MAX_HOURS = 1000.0
_HOURS = {'folk_gm': 20.0}
_HOURS_HELP = {'folk_gm': 'default: 20',
               'debian_music': 'default: all that its training packages have'}
_SPLITS = ('train', 'validation', 'test')
# Arguments of a corpus's `build` that only some corpora have.
_OWN = ('hours', 'seed', 'packages', 'debs', 'test_minutes', 'shares', 'csv',
        'folder', 'audio', 'subset', 'verify')


def add_arguments(parser: parsers.Parser) -> None:
  """A parser for each corpus, and one for `label`."""
  kinds = parser.add_kinds('corpus', 'corpus')
  for name in CORPORA:
    kind = kinds.add_parser(name, description=__doc__)
    kind.add_argument('--out', required=True, metavar='DIR')
    _ADD[name](kind)
  _add_label(kinds.add_parser(LABEL, description=__doc__))


def _add_made(parser: parsers.Parser, name: str) -> None:
  parser.add_argument('--hours', type=float, default=None,
                      help=f'audio to make ({_HOURS_HELP[name]})')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--workers', type=int, default=None,
                      help='processes (default: one a core)')


def _add_folk_gm(parser: parsers.Parser) -> None:
  _add_made(parser, 'folk_gm')
  parser.add_argument('--shares', metavar='SPLIT=X,...',
                      help='share of the audio for each split, such as '
                      'train=0.5,test=0.5 (no split changes the tunes that it '
                      'may take)')


def _add_debian_music(parser: parsers.Parser) -> None:
  _add_made(parser, 'debian_music')
  parser.add_argument('--packages', metavar='A,B',
                      help='these packages (default: all)')
  parser.add_argument('--debs', metavar='DIR',
                      help='.deb files; what is missing there is downloaded '
                      'into it')
  parser.add_argument('--test-minutes', type=float, default=None,
                      help='of each test package (default: 12)')


def _add_musiccaps(parser: parsers.Parser) -> None:
  parser.add_argument('--csv', required=True, metavar='FILE',
                      help='musiccaps-public.csv')
  _add_audio(parser)


def _add_audiocaps(parser: parsers.Parser) -> None:
  _add_from(parser, 'train.csv, val.csv, test.csv, or some of them')
  _add_audio(parser)


def _add_audioset_labels(parser: parsers.Parser) -> None:
  _add_from(parser, 'class_labels_indices.csv and balanced_train_segments.csv, '
            'unbalanced_train_segments.csv, eval_segments.csv, or some of them')
  _add_audio(parser)


def _add_fma(parser: parsers.Parser) -> None:
  _add_from(parser, 'fma_metadata and fma_small (or another subset), zip files '
            'or folders')
  parser.add_argument('--subset', choices=['small', 'medium', 'large', 'full'],
                      default='small', help='default: small')
  parser.add_argument('--verify', action='store_true',
                      help='hold what was downloaded against published checksums')
  workers.add_arguments(parser)


def _add_from(parser: parsers.Parser, what: str) -> None:
  parser.add_argument('--from', dest='folder', required=True, metavar='DIR',
                      help=f'holds {what}')


def _add_audio(parser: parsers.Parser) -> None:
  parser.add_argument('--audio', required=True, metavar='DIR',
                      help='files named by video, such as 0123456789a.wav or '
                      '[0123456789a]-[30-40].wav: excerpts, or whole')
  workers.add_arguments(parser)


def _add_label(parser: parsers.Parser) -> None:
  parser.add_argument('source', metavar='CORPUS')
  parser.add_argument('--sentences', required=True, metavar='FILE',
                      help='a sentence a line')
  parser.add_argument('--bundle', metavar='DIR',
                      help='whose MuLan listens (default: the shipped one)')
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--nearest', type=int, default=10, metavar='K',
                      help='sentences to draw from, for each track (default: 10)')
  parser.add_argument('--draws', type=int, default=3, metavar='N',
                      help='sentences a track gets (default: 3)')
  parser.add_argument('--seed', type=int, default=0)


_ADD = {'folk_gm': _add_folk_gm, 'debian_music': _add_debian_music,
        'musiccaps': _add_musiccaps, 'fma': _add_fma,
        'audiocaps': _add_audiocaps, 'audioset_labels': _add_audioset_labels}


def run(args: argparse.Namespace) -> None:
  """Builds the corpus and says what it holds."""
  places.check_lasting(args.out, '--out')
  remote = places.is_remote(args.out)
  if remote and (args.corpus == LABEL or args.corpus in _HOURS_HELP):
    raise errors.UserError(
        f'--out {args.out} is a URL; {args.corpus} is made in a folder. Copy it '
        f'where it is wanted afterwards.')
  if args.corpus == LABEL:
    _label(args)
  else:
    corpus = importlib.import_module(CORPORA[args.corpus])
    corpus.build(out_dir=args.out, **_extra(args))
  if not remote:
    from musiclm_jax.commands import inspect as inspection  # pylint: disable=g-import-not-at-top
    inspection.print_corpus(args.out)


def _label(args: argparse.Namespace) -> None:
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.data import pseudo_captions  # pylint: disable=g-import-not-at-top
  plan = pseudo_captions.Plan(args.nearest, args.draws, args.seed)
  sentences = pseudo_captions.read_sentences(args.sentences)
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  bundle.require('mulan')
  pseudo_captions.label(
      args.source, sentences, bundle.get('mulan'), args.out, plan,
      made_by=bundle.component_hash('mulan'))


def _extra(args: argparse.Namespace) -> dict[str, Any]:
  """What the corpus's own options say, as its `build` takes it."""
  extra = {option: getattr(args, option) for option in _OWN
           if getattr(args, option, None) is not None}
  if args.corpus in _HOURS_HELP:  # made or fetched here
    extra['workers'] = args.workers
  else:
    extra['runner'] = workers.from_arguments(args)
  if args.corpus in _HOURS:
    extra.setdefault('hours', _HOURS[args.corpus])
  if 'hours' in extra and not 0 < extra['hours'] <= MAX_HOURS:
    raise errors.UserError(
        f'--hours is {extra["hours"]:g}; expected above 0, at most '
        f'{MAX_HOURS:g}.')
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
