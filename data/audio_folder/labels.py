"""Captions of a folder of recordings, from a CSV or JSONL file.

  captions.csv      file,caption[,aspects]     one row a caption; aspects are
                                               separated by ';'
  captions.jsonl    {"file": ..., "caption": ... or "captions": [...],
                     "aspects": [...]}         one line a file

`file` is a path relative to the folder; a bare name does where it is unique.
Both are read strictly: a caption is whole, or the line is refused.
"""

import collections
import csv
import io
import json
import os
import pathlib
import unicodedata

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import text as text_lib
from musiclm_jax.data import tables

_COLUMNS = ('file', 'caption', 'aspects')
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
    `Labels`.

  Raises:
    UserError: `path` is missing, or the file is not what it should be.
  """
  if path is None:
    path = locate(folder)
    if path is None:
      return Labels()
  path = files.expand(path)
  errors.check_input(path, 'captions file')
  readers = {'.csv': _read_csv, '.jsonl': _read_jsonl}
  if path.suffix.lower() not in readers:
    raise errors.UserError(
        f'captions file {path} has extension {path.suffix!r}; expected .csv '
        f'or .jsonl.')
  text = tables.decoded(f'captions file {path}', path.read_bytes())
  labels = Labels(path)
  for line, name, captions, aspects in readers[path.suffix.lower()](path, text):
    labels.add(line, name, captions, aspects)
  return labels


class Labels:
  """What a labels file says.

  Attributes:
    path: of the file, or None for no labels.
    blank: captions that were left out because there is nothing to read in them.
  """

  def __init__(self, path=None):
    self.path, self.blank = path, 0
    self._table = {}  # name -> (line, dict(captions, aspects))

  def add(self, line, name, captions, aspects):
    """Adds to what is known of a file, in the order of lines.

    Raises:
      UserError: a text holds half a character, which nothing can write.
    """
    for text in (name, *captions, *aspects):
      if files.encodable(text) != text:
        raise errors.UserError(
            f'captions file {self.path}, line {line}: {text[:40]!r} holds half a '
            f'character; write the whole one.')
    _, entry = self._table.setdefault(
        _normal(name), (line, dict(captions=[], aspects=[])))
    for kind, texts in (('captions', captions), ('aspects', aspects)):
      for text in texts:
        if text_lib.is_blank(text):
          self.blank += kind == 'captions'
        elif text.strip() not in entry[kind]:
          entry[kind].append(text.strip())

  def match(self, names):
    """Finds the files that are meant: by relative path, else by bare name.

    Args:
      names: of files, relative to their folder, with '/' between the parts.

    Returns:
      ({name: dict(captions, aspects)} for every name, {label: name} of the
      labels that name one).

    Raises:
      UserError: a bare name fits several files.
    """
    by_path, by_name = collections.defaultdict(list), (
        collections.defaultdict(list))
    for name in names:
      by_path[_normal(name)].append(name)
      by_name[_normal(name).rpartition('/')[2]].append(name)
    found = {name: dict(captions=[], aspects=[]) for name in names}
    meant = {}
    for label, (line, entry) in self._table.items():
      fitting = by_path.get(label) or by_name.get(label, [])
      if len(fitting) > 1:
        raise errors.UserError(
            f'captions file {self.path}, line {line}: {label} may be '
            f'{fitting[0]} or {fitting[1]}; name it with its folder.')
      for name in fitting:
        meant[label] = name
        for kind, texts in entry.items():
          found[name][kind] += [t for t in texts if t not in found[name][kind]]
    return found, meant

  def __iter__(self):
    return iter(self._table)


def _normal(name):
  # One letter with an accent is written in two ways, and file systems differ.
  name = unicodedata.normalize('NFC', name)
  return name.strip().replace('\\', '/').removeprefix('./')


def _read_csv(path, text):
  """Yields (line, file, captions, aspects) of each row."""
  rows = csv.reader(io.StringIO(text, newline=''), strict=True)
  line, columns = 1, None
  try:
    for row in rows:
      where = f'captions file {path}, line {line}'
      if columns is None:
        columns = _columns(path, row)
      elif any(field.strip() for field in row):
        yield line, *_fields(where, columns, row)
      line = rows.line_num + 1
  except csv.Error as error:
    raise errors.UserError(
        f'captions file {path}, line {line}: not CSV ({error}); a text with '
        f'quotes, commas or line breaks stands in "...", with "" for ".'
        ) from error
  if columns is None:
    _columns(path, [])


def _columns(path, row):
  """{name: place} of the columns that are read."""
  names = [name.strip().lower() for name in row]
  if 'file' not in names or 'caption' not in names:
    raise errors.UserError(
        f'captions file {path} has columns {", ".join(names)[:200] or "none"}; '
        f'expected file,caption (and aspects, if any).')
  for name in _COLUMNS:
    if names.count(name) > 1:
      raise errors.UserError(
          f'captions file {path} has {names.count(name)} columns {name}; '
          f'expected one. Several captions of a file are several rows.')
  return dict(zip(names, range(len(names))))


def _fields(where, columns, row):
  """(file, captions, aspects) of a row."""
  if len(row) <= columns['caption'] or any(
      field.strip() for field in row[len(columns):]):
    raise errors.UserError(
        f'{where}: {len(row)} fields, expected {len(columns)}; a text with a '
        f'comma stands in "...".')
  file, caption, aspects = (
      row[columns[name]] if columns.get(name, len(row)) < len(row) else ''
      for name in _COLUMNS)
  if not file.strip():
    raise errors.UserError(f'{where}: no file named.')
  return file, [caption] if caption else [], aspects.split(';')


def _read_jsonl(path, text):
  """Yields (line, file, captions, aspects) of each line."""
  # Other characters that split lines elsewhere may stand in a JSON string.
  for number, line in enumerate(text.split('\n'), 1):
    if not line.strip():
      continue
    where = f'captions file {path}, line {number}'
    try:
      row = json.loads(line)
    except json.JSONDecodeError as error:
      raise errors.UserError(f'{where}: not JSON ({error}).') from error
    except RecursionError as error:
      raise errors.UserError(
          f'{where}: too many brackets within brackets.') from error
    if not isinstance(row, dict) or not isinstance(row.get('file'), str) or (
        not row['file'].strip()):
      raise errors.UserError(
          f'{where}: expected {{"file": "...", "caption": "..."}}.')
    captions = (_strings(where, row.get('caption')) +
                _strings(where, row.get('captions')))
    yield number, row['file'], captions, _strings(where, row.get('aspects'))


def _strings(where, value):
  """The texts of a JSON value: a string, a list of them or null."""
  value = [] if value is None else [value] if isinstance(value, str) else value
  if not isinstance(value, list) or not all(
      isinstance(item, str) for item in value):
    raise errors.UserError(f'{where}: captions and aspects must be strings.')
  return value
