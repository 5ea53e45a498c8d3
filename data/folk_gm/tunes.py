"""The tunes: three old collections, read, named by rhythm and checked.

The collections are folders of ABC files inside the music21 package, which is
only located, never imported (that takes seconds).
"""

import dataclasses
import functools
import importlib.util
import pathlib
import re

import numpy as np

from musiclm_jax import errors
from musiclm_jax.data.folk_gm import abc_reader

COLLECTIONS = dict(
    oneills="O'Neill's Music of Ireland (1903), 1850 melodies",
    ryans="Ryan's Mammoth Collection of Fiddle Tunes (1883)",
    airds="Aird's Selection of Scotch, English, Irish and Foreign Airs "
          '(1778-1801)')
_FOLDERS = dict(oneills='oneills1850', ryans='ryansMammoth', airds='airdsAirs')
_ORIGINS = dict(oneills='irish', ryans='american', airds='scottish')

# O'Neill's numbers his tunes by kind: (first number, rhythm).
_ONEILLS = ((1, 'air'), (701, 'jig'), (1116, 'slip jig'), (1176, 'reel'),
            (1556, 'hornpipe'), (1736, 'hornpipe'), (1786, 'march'))
_TAGS = {
    'reel': 'reel', 'hornpipe': 'hornpipe', 'clog': 'hornpipe', 'jig': 'jig',
    'double jig': 'jig', 'slipjig': 'slip jig', 'slip jig': 'slip jig',
    'strathspey': 'strathspey', 'highland fling': 'strathspey',
    'fling': 'strathspey', 'air': 'air', 'waltz': 'waltz', 'march': 'march',
    'slide': 'slide', 'walkaround': 'polka'}
_TITLE_WORDS = (
    ('slip jig', 'slip jig'), ('jig', 'jig'), ('reel', 'reel'),
    ('hornpipe', 'hornpipe'), ('clog', 'hornpipe'),
    ('strathspey', 'strathspey'), ('march', 'march'),
    ('quick step', 'march'), ('quickstep', 'march'), ('minuet', 'minuet'),
    ('waltz', 'waltz'), ('lament', 'air'), ('polka', 'polka'))
# The metres in which a rhythm can stand, as the bar's length in whole notes
# and its grouping; see `metre_kind`.
_ALLOWED = dict(
    reel=('duple',), hornpipe=('duple',), strathspey=('duple',),
    polka=('duple',), march=('duple', 'jig'), jig=('jig',),
    slide=('double jig',), waltz=('triple',), minuet=('triple',),
    air=('duple', 'jig', 'slip', 'triple', 'double jig'))
_ALLOWED['slip jig'] = ('slip',)
_FALLBACK = dict(jig='jig', slip='slip jig', triple='waltz')
_FALLBACK['double jig'] = 'slide'
_MIN_BARS, _MAX_FAULTS = 8, 0.08


@dataclasses.dataclass(frozen=True)
class Tune:
  """One tune, repeats played out.

  Attributes:
    id: 'oneills-1234'.
    collection: key of COLLECTIONS.
    title: as printed.
    origin: 'irish', 'american' or 'scottish'.
    rhythm: reel, jig, slip jig, hornpipe, strathspey, polka, march, slide,
      waltz, minuet or air.
    metre: 'duple', 'jig', 'slip', 'double jig' or 'triple': see `metre_kind`.
    tonic: pitch class, 0 = C.
    mode: major, minor, dorian, mixolydian, ...
    num_bars: length of the grid, from the upbeat's bar to the last.
    period: bars after which a repetition starts; one less than num_bars where
      the upbeat of the next round fills up the last bar.
    notes: [n, 3] float64: start in bars, length in bars, MIDI pitch.
  """

  id: str
  collection: str
  title: str
  origin: str
  rhythm: str
  metre: str
  tonic: int
  mode: str
  num_bars: int
  period: int
  notes: np.ndarray

  @property
  def upbeat(self):
    """Part of bar 0 that is silent before the first note."""
    return float(self.notes[0, 0])

  @property
  def notes_per_bar(self):
    return len(self.notes) / self.num_bars


def metre_kind(metre):
  """(6, 8) -> 'jig': how a bar divides, or None where we have no pattern."""
  return {(2, 2): 'duple', (4, 4): 'duple', (2, 4): 'duple', (6, 8): 'jig',
          (9, 8): 'slip', (12, 8): 'double jig', (3, 4): 'triple',
          (3, 8): 'triple'}.get(tuple(metre))


def corpus_folder():
  """music21's folder of scores; UserError where the package is missing."""
  spec = importlib.util.find_spec('music21')
  if spec is None:
    raise errors.UserError(
        'folk_gm reads its tunes from the music21 package, which is not '
        'installed; `pip install music21` (or this package\'s `data` extra).')
  return pathlib.Path(spec.origin).parent / 'corpus'


@functools.lru_cache(maxsize=1)
def load():
  """All usable tunes, in a fixed order: a tuple of Tune."""
  folder, tunes, seen = corpus_folder(), [], set()
  for collection, name in _FOLDERS.items():
    for path in sorted((folder / name).glob('*.abc')):
      text = path.read_text(encoding='utf-8', errors='replace')
      for lines in abc_reader.split_tunes(text):
        tune = _read(lines, collection, path, seen)
        if tune is not None:
          tunes.append(tune)
  if not tunes:
    raise errors.UserError(
        f'no tune found under {folder}; is the music21 package complete?')
  return tuple(tunes)


def _read(lines, collection, path, seen):
  """A Tune, or None where it cannot be used."""
  try:
    abc = abc_reader.parse(lines)
    number = int(re.match(r'\d*', abc.fields['X'][0]).group() or 0)
    stem = f'{number:04d}' if collection != 'ryans' else path.stem
    tune_id, variant = f'{collection}-{stem}', 1
    while tune_id in seen:
      variant += 1
      tune_id = f'{collection}-{stem}-{variant}'
    seen.add(tune_id)
    return from_abc(abc, tune_id, collection, number)
  except abc_reader.AbcError:
    return None


def from_abc(abc, tune_id, collection='oneills', number=0):
  """Makes a Tune of a parsed one, or None where its bars do not add up."""
  kind = metre_kind(abc.metre)
  if kind is None:
    return None
  bar = abc_reader.bar_ticks(abc.metre)
  played = abc_reader.expand(abc.measures)
  notes, num_bars, faults = abc_reader.to_bars(played, bar)
  _, twice, _ = abc_reader.to_bars(list(played) * 2, bar)
  if num_bars < _MIN_BARS or faults > _MAX_FAULTS * num_bars:
    return None
  if len(notes) < 2 * num_bars or notes[0][0] >= bar:
    return None
  table = np.array([[s / bar, n / bar, p] for s, n, p in notes])
  title = abc.fields.get('T', [''])[0].strip(' .')
  rhythm = _rhythm(abc, collection, number, kind, len(notes) / num_bars)
  tonic, mode = _true_key(abc.tonic, abc.mode, table)
  return Tune(tune_id, collection, title, _ORIGINS[collection], rhythm, kind,
              tonic, mode, num_bars, twice - num_bars, table)


def _rhythm(abc, collection, number, kind, notes_per_bar):
  """The dance, from the tag, the title, O'Neill's numbering or the metre."""
  tag = _TAGS.get(abc.fields.get('R', [''])[0].lower().strip())
  title = ' '.join(abc.fields.get('T', [''])).lower()
  named = [rhythm for word, rhythm in _TITLE_WORDS
           if re.search(rf'\b{word}s?\b', title)]
  printed = [r for first, r in _ONEILLS if number >= first][-1:]
  slow = any('slow' in line.lower()
             for line in abc.fields.get('Q', []) + abc.fields.get('N', []))
  guesses = [tag] + named + (printed if collection == 'oneills' else [])
  if slow:
    guesses.append('air')
  for guess in guesses:
    if guess and kind in _ALLOWED[guess]:
      return guess
  if kind != 'duple':
    return _FALLBACK[kind]
  if abc.metre == (2, 4):
    return 'polka' if notes_per_bar >= 4 else 'march'
  return 'reel' if notes_per_bar >= 6 else 'march'


def _true_key(tonic, mode, notes):
  """The key by the last note where the signature's own tonic is not there.

  Transcribers often write the signature of G major over a tune in A dorian.
  A tune that ends on the second, fifth or sixth degree of its signature, and
  sounds that note more than the written tonic, is in the mode on that degree.
  """
  weight = np.bincount(notes[:, 2].astype(int) % 12, weights=notes[:, 1],
                       minlength=12)
  last = int(notes[-1, 2]) % 12
  if mode != 'major' or last == tonic:
    return tonic, mode
  other = {2: 'dorian', 7: 'mixolydian', 9: 'minor'}.get((last - tonic) % 12)
  # A reel in D often ends on its fifth to lead back; ask more of that one.
  needed = weight[tonic] * (1.6 if other == 'mixolydian' else 1.0)
  if other and weight[last] > needed:
    return last, other
  return tonic, mode
