"""FMA's tables: tracks.csv, whose header has two rows, and genres.csv.

  ,album,album,...,set,set,track,track,...
  ,comments,date_created,...,split,subset,bit_rate,...
  track_id,,,...
  2,0,2008-11-26 01:44:45,...,training,small,256000,...
"""

import ast
import dataclasses
import functools

from musiclm_jax import errors
from musiclm_jax.data import archives
from musiclm_jax.data import tables

# Each subset holds those before it; large and full are all tracks.
SUBSETS = ('small', 'medium', 'large', 'full')
_SPLITS = {'training': 'train', 'validation': 'validation', 'test': 'test'}
_COLUMNS = ('set.split', 'set.subset', 'track.title', 'artist.name',
            'album.title', 'track.genre_top', 'track.genres', 'track.license')


@dataclasses.dataclass(frozen=True)
class Row:
  """One track.

  Attributes:
    number: its id in FMA.
    split: 'train', 'validation' or 'test', as FMA divides it; by artist.
    subset: the smallest that has it.
    genres: names, the top one first.
  """

  number: int
  split: str
  subset: str
  title: str
  artist: str
  album: str
  genres: tuple[str, ...]
  licence: str

  def in_subset(self, subset: str) -> bool:
    """Whether a subset has it."""
    return SUBSETS.index(self.subset) <= SUBSETS.index(subset)


def read(archive: archives.Archive) -> list[Row]:
  """The rows of tracks.csv, in order.

  Args:
    archive: fma_metadata.

  Raises:
    UserError: a table is missing, or not FMA's.
  """
  path = archive.path / 'tracks.csv'
  lines = tables.parse(path, tables.decoded(path, archive.read('tracks.csv')))
  (_, above), (_, below), _ = (next(lines, (0, [])) for _ in range(3))
  header = ['.'.join(pair) for pair in zip(above, below)]
  missing = [name for name in _COLUMNS if name not in header]
  if missing:
    raise errors.UserError(
        f'{path} lacks the columns {", ".join(missing)} of FMA, whose names stand '
        f'in two rows.')
  places = [header.index(name) for name in _COLUMNS]
  rows = tables.whole(path, lines, len(header))
  tables.unique(path, [row[0] for row in rows])
  named = functools.partial(_genres, _genre_names(archive))
  wrong, found = [], []
  for row in rows:
    try:
      found.append(_row(row[0], *(row[place].strip() for place in places), named))
    except (ValueError, SyntaxError, KeyError) as error:
      wrong.append(f'{row[0]} ({error})')
  if wrong:
    raise errors.UserError(
        f'{path}: {len(wrong)} tracks have no number, split, subset or genres of '
        f'FMA, the first is {wrong[0]}.')
  return found


def _row(number, split, subset, title, artist, album, genre_top, genres, licence,
         named):
  if subset not in SUBSETS:
    raise KeyError(subset)
  return Row(int(number), _SPLITS[split], subset, title, artist, album,
             named(genre_top, genres), licence)


def _genres(names, top, numbers):
  """The top genre's name and those of a list such as '[21, 76]'."""
  listed = [names[int(n)] for n in ast.literal_eval(numbers or '[]')]
  return tuple(dict.fromkeys(filter(None, [top, *listed])))


def _genre_names(archive):
  """{genre's number: name} of genres.csv."""
  path = archive.path / 'genres.csv'
  lines = tables.parse(path, tables.decoded(path, archive.read('genres.csv')))
  _, header = next(lines, (0, []))
  if not {'genre_id', 'title'} <= set(header):
    raise errors.UserError(
        f'{path} has the columns {", ".join(header)[:200] or "none"}; expected '
        f'genre_id and title among them.')
  number, title = header.index('genre_id'), header.index('title')
  rows = tables.whole(path, lines, len(header))
  return {int(row[number]): row[title].strip() for row in rows}
