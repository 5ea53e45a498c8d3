"""The CSVs of data sets, read strictly: what is wrong is one line, with counts."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import io
import pathlib

from musiclm_jax import errors

_MOST_OF_A_FIELD = 1 << 24  # characters: biographies are longer than csv's limit


def read(path: str | pathlib.Path, columns: Sequence[str],
         optional: Sequence[str] = ()) -> list[dict[str, str]]:
  """The rows of a CSV with a header.

  Args:
    path: of the file.
    columns: that it must have.
    optional: columns that are '' where it lacks them. Others are not read.

  Raises:
    UserError: no such file, no CSV in UTF-8, a column is missing or there twice,
      or a row has more or fewer fields than the header.
  """
  lines = parse(path, text_of(path))
  _, header = next(lines, (0, []))
  header = [name.strip() for name in header]
  missing = [name for name in columns if name not in header]
  if missing:
    raise errors.UserError(
        f'{path} lacks the columns {", ".join(missing)}; it has '
        f'{", ".join(header)[:200] or "none"}.')
  twice = [name for name in (*columns, *optional) if header.count(name) > 1]
  if twice:
    raise errors.UserError(
        f'{path} has {header.count(twice[0])} columns {twice[0]}; expected one.')
  rows = whole(path, lines, len(header))
  places = {name: header.index(name) if name in header else None
            for name in (*columns, *optional)}
  return [{name: '' if place is None else row[place]
           for name, place in places.items()} for row in rows]


def text_of(path: str | pathlib.Path) -> str:
  """The text of a file in UTF-8; UserError where there is none."""
  errors.check_input(path, 'CSV')
  with errors.of_files(path):
    data = pathlib.Path(path).read_bytes()
  return decoded(path, data)


def decoded(path: str | pathlib.Path, data: bytes) -> str:
  """Bytes as text; UserError where they are not UTF-8."""
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise errors.UserError(f'{path} is not UTF-8 text ({error}).') from error


def parse(path: str | pathlib.Path, text: str, spaced: bool = False
          ) -> Iterator[tuple[int, list[str]]]:
  """Yields (line, fields) of all rows that are not empty.

  Args:
    path: for messages.
    text: of the file.
    spaced: whether a blank may follow a comma.
  """
  rows = csv.reader(io.StringIO(text, newline=''), strict=True,
                    skipinitialspace=spaced)
  line = 1
  with _long_fields():
    try:
      for row in rows:
        if any(field.strip() for field in row):
          yield line, row
        line = rows.line_num + 1
    except csv.Error as error:
      raise errors.UserError(
          f'{path}, line {line}: not CSV ({error}).') from error


def whole(path: str | pathlib.Path, lines: Iterable[tuple[int, list[str]]],
          count: int) -> list[list[str]]:
  """The rows; UserError unless each has `count` fields."""
  lines = list(lines)
  odd = [(line, len(row)) for line, row in lines if len(row) != count]
  if odd:
    raise errors.UserError(
        f'{path}: {len(odd)} rows have other than {count} fields, the first in '
        f'line {odd[0][0]} ({odd[0][1]} fields).')
  return [row for _, row in lines]


def unique(path: str | pathlib.Path, ids: Iterable[str]) -> None:
  """UserError where an id stands more than once."""
  twice = [name for name, count in Counter(ids).items() if count > 1]
  if twice:
    raise errors.UserError(
        f'{path} has {len(twice)} ids more than once, such as {twice[0]!r}.')


def number(path: str | pathlib.Path, column: str, rows: Sequence[dict[str, str]]
           ) -> list[float]:
  """A column as numbers from 0 on; UserError with the count of those not."""
  found, wrong = [], []
  for row in rows:
    try:
      value = float(row[column])
    except ValueError:
      value = -1.0
    if not 0 <= value < float('inf'):
      wrong.append(row[column])
    found.append(value)
  if wrong:
    raise errors.UserError(
        f'{path}: {len(wrong)} rows have no number in {column}, such as '
        f'{wrong[0][:40]!r}.')
  return found


@contextlib.contextmanager
def _long_fields():
  before = csv.field_size_limit(_MOST_OF_A_FIELD)
  try:
    yield
  finally:
    csv.field_size_limit(before)
