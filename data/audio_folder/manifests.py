"""A list of recordings, as CSV or JSONL: one a line.

  path or url   of the file; a path may be relative to the list's folder
  id            unique; the path where there is none
  caption       a text; in JSONL also `captions`, a list of them
  aspects       short tags: separated by ';' in CSV, a list in JSONL
  licence, split                   of this recording
  start_s, end_s                   the part of the file that is meant; where the
                                   file ends before it, it is rejected

Other columns are kept with the track, but for the names that records have of their
own (`RESERVED`), which are refused. A recording with several captions may have
several lines that differ in the caption alone.
"""

import csv
import dataclasses
import io
import json
import math
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import places
from musiclm_jax import text as text_lib
from musiclm_jax.data import tables
from musiclm_jax.data.audio_folder import items as items_lib

SUFFIXES = ('.csv', '.jsonl')
_KNOWN = ('path', 'url', 'id', 'caption', 'captions', 'aspects', 'licence',
          'license', 'split', 'start_s', 'end_s')
_SPLITS = ('train', 'validation', 'test')
# What the index of a corpus says of every track.
RESERVED = ('shard', 'offset', 'num_samples', 'checksum', 'start_seconds')


def find(place: str) -> items_lib.Found:
  """The recordings of a list.

  Args:
    place: path or URL of the list.

  Raises:
    UserError: it is not what it should be; the line is named.
  """
  try:
    data = places.read(place)
  except OSError as error:
    raise errors.UserError(f'{place} cannot be read ({error.strerror or error}).'
                           ) from error
  text = tables.decoded(place, data)
  rows = _csv if place.lower().endswith('.csv') else _jsonl
  made = items_lib.Found(files.encodable(pathlib.PurePath(place).stem), [])
  by_id = {}
  for line, row in rows(place, text):
    where = f'{place}, line {line}'
    item, blank = _item(where, place, row)
    made.blank_captions += blank
    before = by_id.get(item.id)
    if before is None:
      by_id[item.id] = item
      continue
    bare = dict(captions=(), aspects=())
    if dataclasses.replace(before, **bare) != dataclasses.replace(item, **bare):
      raise errors.UserError(
          f'{where}: the id {item.id} stands for another recording above; give '
          f'it one of its own.')
    by_id[item.id] = dataclasses.replace(
        before, **{kind: tuple(dict.fromkeys(
            getattr(before, kind) + getattr(item, kind))) for kind in bare})
  made.items = list(by_id.values())
  if not made.items:
    raise errors.UserError(f'{place} names no recording.')
  return made


def _csv(place, text):
  """Yields (line, {column: text}) of each row; what is empty is left out."""
  rows = csv.reader(io.StringIO(text, newline=''), strict=True)
  columns, line = None, 1
  try:
    for row in rows:
      if columns is None:
        columns = [name.strip().lower() for name in row]
        twice = {name for name in columns if columns.count(name) > 1}
        if twice or not {'path', 'url'} & set(columns):
          raise errors.UserError(
              f'{place} has columns {", ".join(columns)[:200] or "of no name"}; '
              f'expected path or url among them, each once.')
      elif any(field.strip() for field in row):
        if len(row) > len(columns):
          raise errors.UserError(
              f'{place}, line {line}: {len(row)} fields, expected '
              f'{len(columns)}; a text with a comma stands in "...".')
        yield line, {name: field for name, field in zip(columns, row)
                     if field.strip()}
      line = rows.line_num + 1
  except csv.Error as error:
    raise errors.UserError(
        f'{place}, line {line}: not CSV ({error}).') from error


def _jsonl(place, text):
  for number, line in enumerate(text.split('\n'), 1):
    if line.strip():
      try:
        row = json.loads(line)
      except (ValueError, RecursionError) as error:
        raise errors.UserError(
            f'{place}, line {number}: not JSON ({error}).') from error
      if not isinstance(row, dict):
        raise errors.UserError(
            f'{place}, line {number}: {errors.kind(row)}, expected an object.')
      yield number, {key: value for key, value in row.items()
                     if value is not None and value != ''}


def _item(where, place, row):
  """(`Item`, number of blank captions) of a row."""
  named = row.get('url') or row.get('path')
  if not isinstance(named, str):
    raise errors.UserError(f'{where}: no path or url.')
  path = named.strip()
  if not places.is_remote(path) and not os.path.isabs(os.path.expanduser(path)):
    path = places.join(os.path.dirname(place) or '.', path)
  elif not places.is_remote(path):
    path = os.path.expanduser(path)
  start, end = (_seconds(where, row, key) for key in ('start_s', 'end_s'))
  if end is not None and end <= (start or 0.0):
    raise errors.UserError(
        f'{where}: start_s is {start or 0:g} and end_s {end:g}; expected an end '
        f'after the start.')
  texts = _texts(where, row, 'caption') + _texts(where, row, 'captions')
  captions = tuple(dict.fromkeys(
      text.strip() for text in texts if not text_lib.is_blank(text)))
  split = str(row.get('split', '')).strip()
  if split and split not in _SPLITS:
    raise errors.UserError(
        f'{where}: split {split!r}; expected train, validation or test.')
  about = _about(where, row)
  return items_lib.Item(
      str(row.get('id') or files.encodable(named.strip()) + (
          f'@{start:g}' if start else '')),
      path, captions=captions, aspects=_aspects(where, row), split=split,
      licence=str(row.get('licence') or row.get('license') or ''),
      folder=named.strip().rpartition('/')[0], start_seconds=start or 0.0,
      end_seconds=end, whole=end is not None, about=about, **items_lib.of_file(path)
  ), len(texts) - sum(not text_lib.is_blank(text) for text in texts)


def _about(where, row):
  """The columns that are not ours; UserError for what no track can keep."""
  for key in RESERVED:
    if key in row:
      raise errors.UserError(
          f'{where}: {key} is a name that records have of their own; call the '
          f'column otherwise.')
  if not isinstance(row.get('source', ''), str):
    raise errors.UserError(f'{where}: source must be text.')
  # Paths may go beyond UTF-8, as file names do.
  kept = {key: value for key, value in row.items() if key not in ('path', 'url')}
  text = json.dumps(kept, ensure_ascii=False)
  if files.encodable(text) != text:
    raise errors.UserError(
        f'{where}: a text holds half a character; write the whole one.')
  return {key: value for key, value in row.items() if key not in _KNOWN}


def _seconds(where, row, key):
  if key not in row:
    return None
  try:
    value = float(row[key])
  except (TypeError, ValueError):
    value = math.nan
  if not 0 <= value < math.inf:
    raise errors.UserError(
        f'{where}: {key} is {row[key]!r}; expected seconds, from 0 on.')
  return value


def _texts(where, row, key):
  value = row.get(key, [])
  value = [value] if isinstance(value, str) else value
  if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
    raise errors.UserError(f'{where}: {key} must be text.')
  return value


def _aspects(where, row):
  texts = _texts(where, row, 'aspects')
  if isinstance(row.get('aspects'), str):
    texts = texts[0].split(';')
  return tuple(dict.fromkeys(t.strip() for t in texts if t.strip()))
