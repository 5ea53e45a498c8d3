"""Tables of figures: rows that were measured alike, beside what was published.

  [Figure] of each row ──> Table ──┬─> text, for the terminal
                                   └─> JSON, from which pages are made

A cell is a value with its interval, or n/a; what a reader has to know of it
stands below the table under a number. Published figures are a table of their
own: they are of other music, heard by other listeners, and have no rank among
ours.

>>> from musiclm_jax.evaluation import measures
>>> table = Table.of({
...     'ours': [measures.Figure('fad', 1.5, 1.25, 1.75, 100, 'lower')],
...     'noise': [measures.Figure('fad', None, note='too few clips')]})
>>> print(table.text())
         fad
         lower is better
  ours   1.50 [1.25, 1.75]
  noise  n/a (1)
<BLANKLINE>
  (1) too few clips
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
import textwrap
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import measures

WIDTH = 100  # characters of a terminal's line
NOTHING = 'n/a'
_DIGITS = 3  # significant
_PLAIN = (1e-4, 1e6)  # sizes that are written without an exponent
_BETTER = ('lower', 'higher', '')


@dataclasses.dataclass(frozen=True)
class Row:
  """What was found of one set of clips.

  Attributes:
    name: of the set.
    figures: {name of the figure: measures.Figure}.
  """

  name: str
  figures: Mapping[str, measures.Figure]


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows that were measured alike.

  Attributes:
    columns: names of figures, in order.
    rows: in order.
    not_measured: {measure: why it could not be taken}.
    notes: lines that hold for the whole table.
  """

  columns: tuple[str, ...]
  rows: tuple[Row, ...]
  not_measured: Mapping[str, str] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()

  @classmethod
  def of(cls, rows: Mapping[str, Iterable[measures.Figure]],
         not_measured: Mapping[str, str] | None = None,
         notes: Sequence[str] = ()) -> Table:
    """A Table whose columns are in the order in which rows name them."""
    made = tuple(Row(name, {f.name: f for f in figures})
                 for name, figures in rows.items())
    columns = dict.fromkeys(name for row in made for name in row.figures)
    return cls(tuple(columns), made, dict(not_measured or {}), tuple(notes))

  def better(self, column: str) -> str:
    """'lower', 'higher' or '': what is good in a column."""
    return next((row.figures[column].better for row in self.rows
                 if column in row.figures and row.figures[column].better), '')

  def to_json(self) -> dict[str, Any]:
    """What `from_json` reads."""
    rows = [dict(name=row.name, figures={
        name: dict(value=f.value, low=f.low, high=f.high, count=f.count,
                   better=f.better, note=f.note)
        for name, f in row.figures.items()}) for row in self.rows]
    return dict(columns=list(self.columns), rows=rows,
                not_measured=dict(self.not_measured), notes=list(self.notes))

  @classmethod
  def from_json(cls, found: Any, where: str = 'the table') -> Table:
    """The Table of what `to_json` gave, or of what somebody wrote like it.

    Args:
      found: of the JSON.
      where: what messages call it.

    Raises:
      UserError: it is not such a table.
    """
    check(found, dict, where)
    rows = []
    for number, row in enumerate(check(found.get('rows'), list,
                                        f'{where}: rows')):
      place = f'{where}: row {number + 1}'
      name = check(check(row, dict, place).get('name'), str, f'{place}: name')
      figures = check(row.get('figures', {}), dict, f'{place}: figures')
      rows.append(Row(name, {
          key: _figure(key, value, f'{place}: {key}')
          for key, value in figures.items()}))
    columns = _texts(found.get('columns', []), f'{where}: columns')
    columns = dict.fromkeys([*columns, *(k for r in rows for k in r.figures)])
    not_measured = check(
        found.get('not_measured') or {}, dict, f'{where}: not_measured')
    return cls(tuple(columns), tuple(rows),
               {str(k): str(v) for k, v in not_measured.items()},
               _texts(found.get('notes') or [], f'{where}: notes'))

  def text(self, width: int = WIDTH) -> str:
    """As the terminal shows it: as many columns beside each other as fit."""
    notes = Footnotes()
    cells = [[row.name, *(notes.cell(row.figures.get(c)) for c in self.columns)]
             for row in self.rows]
    heads = [['', *self.columns],
             ['', *(f'{b} is better' if b else '' for b in map(
                 self.better, self.columns))]]
    parts = [_aligned(block) for block in _blocks([*heads, *cells], width)]
    if not self.rows:
      parts = ['  no rows']
    below = [f'({n}) {note}' for n, note in notes.listed()]
    below += [f'{name} was not measured: {why}'
              for name, why in self.not_measured.items()]
    below += self.notes
    if below:
      parts.append('\n'.join(_wrapped(line, width) for line in below))
    return '\n\n'.join(parts)


class Footnotes:
  """Notes under a table: a number for each, one for those that are alike."""

  def __init__(self):
    self._numbers = {}

  def number(self, note: str) -> int:
    """Of this note."""
    return self._numbers.setdefault(note, len(self._numbers) + 1)

  def cell(self, figure: measures.Figure | None) -> str:
    """A figure with its interval and the number of its note."""
    if figure is None:
      return NOTHING
    shown = number_with_interval(figure.value, figure.low, figure.high)
    return f'{shown} ({self.number(figure.note)})' if figure.note else shown

  def listed(self) -> Iterator[tuple[int, str]]:
    """(number, note), in order."""
    return iter((number, note) for note, number in self._numbers.items())


@dataclasses.dataclass(frozen=True)
class Published:
  """Figures of other people's, as they stand in their papers.

  Attributes:
    note: why they are not to be held against ours.
    columns: names of figures.
    rows: {system: {figure: value}}.
  """

  note: str
  columns: tuple[str, ...]
  rows: Mapping[str, Mapping[str, float | None]]

  def to_json(self) -> dict[str, Any]:
    """What `from_json` reads."""
    return dict(note=self.note, columns=list(self.columns), rows=[
        dict(name=name, figures=dict(f)) for name, f in self.rows.items()])

  @classmethod
  def from_json(cls, found: Any, where: str = 'the published rows'
                ) -> Published:
    """Of what `to_json` gave; UserError of anything else."""
    check(found, dict, where)
    rows = {}
    for row in check(found.get('rows'), list, f'{where}: rows'):
      name = check(check(row, dict, where).get('name'), str, f'{where}: name')
      rows[name] = {
          key: checked_number(value, f'{where}: {name}: {key}') for key, value in
          check(row.get('figures', {}), dict, f'{where}: {name}').items()}
    return cls(str(found.get('note', '')),
               _texts(found.get('columns', []), f'{where}: columns'), rows)

  def text(self, width: int = WIDTH) -> str:
    """As the terminal shows it."""
    cells = [['published', *self.columns]] + [
        [name, *(number(figures.get(c)) for c in self.columns)]
        for name, figures in self.rows.items()]
    parts = [_aligned(block) for block in _blocks(cells, width)]
    if self.note:
      parts.append(_wrapped(self.note, width))
    return '\n\n'.join(parts)


def number(value: float | None, like: float | None = None) -> str:
  """A value with 3 significant digits.

  Args:
    value: None is n/a.
    like: with as many decimals as this one has, so that an interval's ends
      stand beside its value.

  >>> [number(x) for x in (0.05, 12.345, 12345.6, 0.0, 1e-7, None)]
  ['0.0500', '12.3', '12346', '0', '1.00e-07', 'n/a']
  >>> number(0.1, like=12.3)
  '0.1'
  """
  if value is None:
    return NOTHING
  if not math.isfinite(value):
    return 'NaN' if math.isnan(value) else f'{value}'
  like = value if like is None or not math.isfinite(like) else like
  if value == 0 == like:
    return '0'
  size = float(f'{abs(like or value):.{_DIGITS - 1}e}')  # 9.999 is 10.0
  if not _PLAIN[0] <= size < _PLAIN[1]:
    return f'{value:.{_DIGITS - 1}e}'
  return f'{value:.{max(0, _DIGITS - 1 - math.floor(math.log10(size)))}f}'


def number_with_interval(
    value: float | None, low: float | None, high: float | None) -> str:
  """As tables show it: `1.50 [1.25, 1.75]`."""
  if value is None or low is None or high is None:
    return number(value)
  like = value or max(abs(low), abs(high))
  return (f'{number(value, like)} [{number(low, like)}, '
          f'{number(high, like)}]')


def _blocks(cells, width):
  """Cells with the first column and as many others as fit, again and again."""
  wides = [max(map(len, column)) for column in zip(*cells)]
  first = 1
  while first < len(wides):
    last, used = first, wides[0] + 2
    while last < len(wides) and (last == first or
                                 used + wides[last] + 2 <= width):
      used += wides[last] + 2
      last += 1
    yield [[row[0], *row[first:last]] for row in cells]
    first = last


def _aligned(cells):
  """Lines of cells in columns."""
  wides = [max(map(len, column)) for column in zip(*cells)]
  lines = ['  ' + '  '.join(f'{c:<{w}}' for c, w in zip(row, wides))
           for row in cells if any(row)]
  return '\n'.join(line.rstrip() for line in lines)


def _wrapped(line, width):
  return textwrap.fill(line, width, initial_indent='  ',
                       subsequent_indent='      ')


def _figure(name, found, where):
  check(found, dict, where)
  numbers = {key: checked_number(found.get(key), f'{where}: {key}')
             for key in ('value', 'low', 'high', 'count')}
  better = found.get('better') or ''
  if better not in _BETTER:
    raise errors.UserError(
        f'{where}: better is {better!r}; expected lower, higher or nothing.')
  if not math.isfinite(numbers['count'] or 0):
    raise errors.UserError(f'{where}: count is not finite.')
  return measures.Figure(
      name, numbers['value'], numbers['low'], numbers['high'],
      int(numbers['count'] or 0), better, str(found.get('note') or ''))


def checked_number(value: Any, where: str) -> float | None:
  """`value` as float, or None where it is None; UserError if no number."""
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise errors.UserError(
        f'{where} is {errors.kind(value)}; expected a number.')
  try:
    return float(value)
  except OverflowError as error:
    raise errors.UserError(f'{where} is too large for a number.') from error


def _texts(found, where):
  return tuple(check(text, str, where) for text in check(found, list, where))


def check(value: Any, kind: type, where: str) -> Any:
  """`value`, which is of this kind: dict, list or str; UserError if not."""
  if not isinstance(value, kind):
    expected = {dict: 'an object', list: 'a list', str: 'text'}[kind]
    raise errors.UserError(
        f'{where} is {errors.kind(value)}; expected {expected}.')
  return value
