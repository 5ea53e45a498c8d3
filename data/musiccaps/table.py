"""MusicCaps's CSV, as Kaggle and Hugging Face have it (musiccaps-public.csv)."""

import ast
from collections.abc import Mapping
import dataclasses
import pathlib

from musiclm_jax import errors
from musiclm_jax.data import clips
from musiclm_jax.data import tables

NUM_ROWS = 5521  # paper
_COLUMNS = ('ytid', 'start_s', 'end_s', 'aspect_list', 'caption',
            'is_balanced_subset', 'is_audioset_eval')
_OPTIONAL = ('audioset_positive_labels', 'author_id')
_YES, _NO = ('true', '1', 'yes'), ('false', '0', 'no')


@dataclasses.dataclass(frozen=True)
class Row:
  """One clip.

  Attributes:
    ytid: YouTube's name of the video; no video is there twice.
    excerpt: which ten seconds of it.
    aspects: tags that its musician wrote.
    labels: AudioSet's machine ids, such as '/m/04rlf'.
    is_balanced: whether it is one of 1,000 that are balanced over genres.
    is_eval: whether AudioSet has it in its evaluation split.
    fields: the row as it stands.
  """

  ytid: str
  excerpt: clips.Excerpt
  caption: str
  aspects: tuple[str, ...]
  labels: tuple[str, ...]
  is_balanced: bool
  is_eval: bool
  fields: Mapping[str, str]


def read(path: str | pathlib.Path) -> dict[str, Row]:
  """{ytid: row}, in order.

  Raises:
    UserError: not MusicCaps's CSV; it says what is wrong, and how often.
  """
  rows = tables.read(path, _COLUMNS, _OPTIONAL)
  names = [row['ytid'].strip() for row in rows]
  tables.unique(path, names)
  starts, ends = (tables.number(path, column, rows)
                  for column in ('start_s', 'end_s'))
  backwards = [name for name, a, b in zip(names, starts, ends) if b <= a]
  if backwards:
    raise errors.UserError(
        f'{path}: {len(backwards)} clips end before they begin, such as '
        f'{backwards[0]!r}.')
  balanced, evaluation = (_flags(path, column, rows) for column in (
      'is_balanced_subset', 'is_audioset_eval'))
  aspects = _aspects(path, rows)
  return {
      name: Row(name, clips.Excerpt(start, end - start), row['caption'].strip(),
                tags, tuple(filter(None, map(str.strip, row[
                    'audioset_positive_labels'].split(',')))),
                is_balanced, is_eval, row)
      for name, row, start, end, tags, is_balanced, is_eval in zip(
          names, rows, starts, ends, aspects, balanced, evaluation)}


def _flags(path, column, rows):
  values = [row[column].strip().lower() for row in rows]
  wrong = [value for value in values if value not in _YES + _NO]
  if wrong:
    raise errors.UserError(
        f'{path}: {len(wrong)} rows have neither True nor False in {column}, '
        f'such as {wrong[0][:40]!r}.')
  return [value in _YES for value in values]


def _aspects(path, rows):
  """The lists, which stand in the CSV as Python writes them."""
  found, wrong = [], []
  for row in rows:
    try:
      value = ast.literal_eval(row['aspect_list'].strip() or '[]')
    except (ValueError, SyntaxError):
      value = None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
      wrong.append(row['aspect_list'])
      continue
    found.append(tuple(text.strip() for text in value if text.strip()))
  if wrong:
    raise errors.UserError(
        f'{path}: {len(wrong)} rows have no list of texts in aspect_list, such '
        f'as {wrong[0][:40]!r}.')
  return found
