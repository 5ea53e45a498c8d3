"""Captions of a folder of recordings, from a CSV or JSONL file.

  captions.csv      file,caption[,aspects]     one row a caption; aspects are
                                               separated by ';'
  captions.jsonl    {"file": ..., "caption": ... or "captions": [...],
                     "aspects": [...]}         one line a file

`file` is a path relative to the folder; a bare name does where it is unique.
"""

import csv
import json
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files

_STEMS = ('captions', 'metadata', 'labels')


def locate(folder):
  """The labels file of a folder, or None.

  captions, metadata or labels (.csv or .jsonl) in the folder, else
  <folder>.csv or <folder>.jsonl beside it.
  """
  folder = pathlib.Path(os.path.abspath(folder))
  for stem in _STEMS:
    for suffix in ('.csv', '.jsonl'):
      if (folder / (stem + suffix)).is_file():
        return folder / (stem + suffix)
  for suffix in ('.csv', '.jsonl'):
    beside = folder.parent / f'{folder.name}{suffix}'
    if beside.is_file():
      return beside
  return None


def load(folder, path=None):
  """Reads the labels of a folder.

  Args:
    folder: the recordings' folder.
    path: the labels file; None: `locate` it.

  Returns:
    ({file: dict(captions=[...], aspects=[...])}, path or None).

  Raises:
    UserError: `path` is missing, or the file is not what it should be.
  """
  if path is None:
    path = locate(folder)
    if path is None:
      return {}, None
  path = files.expand(path)
  errors.check_input(path, 'captions file')
  readers = {'.csv': _read_csv, '.jsonl': _read_jsonl}
  if path.suffix.lower() not in readers:
    raise errors.UserError(
        f'captions file {path} has extension {path.suffix!r}; expected .csv '
        f'or .jsonl.')
  try:
    text = path.read_text(encoding='utf-8-sig')
  except UnicodeDecodeError as error:
    raise errors.UserError(
        f'captions file {path} is not UTF-8 text ({error}).') from error
  table = {}
  for name, captions, aspects in readers[path.suffix.lower()](path, text):
    for text in (name, *captions, *aspects):
      if files.encodable(text) != text:
        raise errors.UserError(
            f'captions file {path}: what it says of {name!r} holds half a '
            f'character, {text[:40]!r}; write the whole one.')
    entry = table.setdefault(_normal(name), dict(captions=[], aspects=[]))
    entry['captions'] += [c for c in captions if c not in entry['captions']]
    entry['aspects'] += [a for a in aspects if a not in entry['aspects']]
  return table, path


def find(table, name):
  """The labels of a file: by relative path, else by its bare name."""
  empty = dict(captions=[], aspects=[])
  return table.get(name) or table.get(pathlib.PurePosixPath(name).name) or empty


def _normal(name):
  return name.strip().replace('\\', '/').removeprefix('./')


def _read_csv(path, text):
  """Yields (file, captions, aspects) of each row."""
  rows = csv.DictReader(text.splitlines())
  columns = [c.strip().lower() for c in rows.fieldnames or []]
  if 'file' not in columns or 'caption' not in columns:
    raise errors.UserError(
        f'captions file {path} has columns {", ".join(columns) or "none"}; '
        f'expected file,caption (and aspects, if any).')
  rows.fieldnames = columns
  for row in rows:
    if not (row['file'] or '').strip():
      raise errors.UserError(
          f'captions file {path}, line {rows.line_num}: no file named.')
    caption = (row['caption'] or '').strip()
    aspects = [a.strip() for a in (row.get('aspects') or '').split(';')]
    yield row['file'], [caption] if caption else [], [a for a in aspects if a]


def _read_jsonl(path, text):
  """Yields (file, captions, aspects) of each line."""
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    where = f'captions file {path}, line {number}'
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise errors.UserError(f'{where}: not JSON ({error}).') from error
    if not isinstance(row, dict) or not isinstance(row.get('file'), str):
      raise errors.UserError(
          f'{where}: expected {{"file": "...", "caption": "..."}}.')
    captions = row.get('captions', row.get('caption')) or []
    aspects = row.get('aspects') or []
    captions = [captions] if isinstance(captions, str) else captions
    for value in (captions, aspects):
      if not isinstance(value, list) or not all(
          isinstance(item, str) for item in value):
        raise errors.UserError(
            f'{where}: captions and aspects must be strings.')
    yield row['file'], captions, aspects
