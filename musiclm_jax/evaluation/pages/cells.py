"""Figures as HTML tables, each value with its interval drawn below it."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import tables
from musiclm_jax.evaluation.pages import markup

tag = markup.tag

_WIDE, _HIGH = 96, 10  # of the picture of an interval


def table(found: tables.Table) -> markup.Html:
  """A table, with figures down the page where there are more than rows."""
  notes, grid = tables.Footnotes(), []
  counts = {c: _usual_count(found, c) for c in found.columns}
  for column in found.columns:
    figures = [row.figures.get(column) for row in found.rows]
    scale = _scale(figures)
    grid.append([_cell(f, notes, scale, counts[column]) for f in figures])
  heads = [_column(found, c, counts[c]) for c in found.columns]
  names = [tag('th', row.name) for row in found.rows]
  if len(found.columns) > len(found.rows):
    top, lines = names, [(h, line) for h, line in zip(heads, grid)]
  else:
    top, lines = heads, [(n, line) for n, line in zip(names, zip(*grid))]
  if not found.rows or not found.columns:
    whole = tag('p', 'no rows', class_='note')
  else:
    whole = markup.scrolled(tag(
        'table', tag('thead', tag('tr', tag('td'), *top)),
        tag('tbody', *(tag('tr', head, *line) for head, line in lines))))
  below = [tag('p', f'({n}) {note}', class_='note')
           for n, note in notes.listed()]
  below += [tag('p', tag('b', name), f' was not measured: {why}', class_='note')
            for name, why in found.not_measured.items()]
  below += [tag('p', note, class_='note') for note in found.notes]
  return markup.joined(whole, *below)


def _usual_count(found, column):
  """Clips that most rows' figures are of, 0 where no row says."""
  counts = collections.Counter(
      row.figures[column].count for row in found.rows
      if column in row.figures and row.figures[column].count)
  return counts.most_common(1)[0][0] if counts else 0


def _column(found, column, count):
  better = found.better(column)
  told = ', '.join(filter(None, (
      f'{better} is better' if better else '',
      markup.count(count, 'clip') if count else '')))
  return tag('th', breakable(column), tag('small', told) if told else None)


def _cell(figure, notes, scale, usual):
  shown = [notes.cell(figure)]
  if figure is not None:
    shown.append(_interval(figure, scale))
    if figure.count not in (0, usual):
      shown.append(tag('small', markup.count(figure.count, 'clip')))
  return tag('td', *shown, class_='number')


def _scale(figures: Iterable[measures.Figure | None]
           ) -> tuple[float, float] | None:
  """The smallest and the largest value among figures that are comparable."""
  values = [v for f in figures if f for v in (f.value, f.low, f.high)
            if v is not None and math.isfinite(v)]
  if not values or min(values) == max(values):
    return None
  return min(values), max(values)


def _interval(figure, scale):
  """A rail from the smallest to the largest value, the interval, the value."""
  if scale is None or figure.value is None or not math.isfinite(figure.value):
    return None
  low, high = scale
  place = lambda v: round(4 + (v - low) / (high - low) * (_WIDE - 8), 1)
  ends = [e for e in (figure.low, figure.high)
          if e is not None and math.isfinite(e)]
  middle = _HIGH / 2
  return tag('svg',
             tag('line', x1=4, x2=_WIDE - 4, y1=middle, y2=middle,
                 class_='rail'),
             tag('line', x1=place(ends[0]), x2=place(ends[1]), y1=middle,
                 y2=middle) if len(ends) == 2 else None,
             tag('circle', cx=place(figure.value), cy=middle, r=3),
             viewBox=f'0 0 {_WIDE} {_HIGH}', width=_WIDE, height=_HIGH,
             class_='range', aria_hidden='true')


def published(found: tables.Published) -> markup.Html:
  """Other people's figures, as they published them."""
  head = tag('tr', tag('td'), *(tag('th', c) for c in found.columns))
  rows = [tag('tr', tag('th', name), *(
      tag('td', tables.number(figures.get(c)), class_='number')
      for c in found.columns)) for name, figures in found.rows.items()]
  return markup.joined(
      tag('h3', 'As published by others'),
      tag('p', 'Not to be ranked with the rows above. ', found.note,
          class_='note'),
      markup.scrolled(tag('table', tag('thead', head), tag('tbody', *rows))))


def section(found: report.Section) -> markup.Html:
  """A section as its evaluation told it."""
  rows = [tag('tr', tag('th', line.name),
              tag('td', line.value, class_='number'),
              tag('td', line.against), tag('td', line.note, class_='long'))
          for line in found.lines]
  return markup.joined(
      tag('h3', found.title),
      tag('p', found.verdict, class_='verdict') if found.verdict else None,
      markup.scrolled(tag('table', tag('tbody', *rows))) if rows else None)


def flat(figures: Mapping[str, measures.Figure]) -> markup.Html:
  """Figures by name, as many columns as there is room for."""
  return tag('ul', *(tag('li', tag('span', breakable(name)), ' ',
                         tag('b', number_or_count(f)))
                     for name, f in figures.items()), class_='flat')


def breakable(name: str) -> markup.Html:
  """A name that may go on in the next line after an underscore."""
  first, *rest = name.split('_')
  parts = [first]
  for part in rest:
    parts += ['_', tag('wbr'), part]
  return markup.joined(*parts)


def number_or_count(figure: measures.Figure) -> str:
  """A figure with its interval; a whole number without decimals.

  >>> number_or_count(measures.Figure('clips', 24.0))
  '24'
  """
  value = figure.value
  if figure.low is None and value is not None and math.isfinite(
      value) and value == int(value) and abs(value) < 1e15:
    return f'{int(value):,}'
  return tables.number_with_interval(value, figure.low, figure.high)


_FIRST = ('command', 'git_commit', 'bundle', 'bundle_fingerprint', 'seed')


def provenance(found: Mapping[str, Any]) -> markup.Html:
  """What figures rest on, the most telling first."""
  if not found:
    return tag('p', 'The file says nothing of where its figures come from.',
               class_='note')
  order = [k for k in _FIRST if k in found] + sorted(set(found) - set(_FIRST))
  return _pairs({key: found[key] for key in order})


_DEEPEST, _MOST = 6, 60


def _pairs(found, depth=0):
  parts = []
  for key, value in list(found.items())[:_MOST]:
    told = (tag('code', str(value)) if key == 'command' else
            _told(value, depth))
    parts += [tag('dt', str(key)), tag('dd', told)]
  if len(found) > _MOST:
    parts += [tag('dt', '...'), tag('dd', f'{len(found) - _MOST:,} more')]
  return tag('dl', *parts)


def _told(value: Any, depth: int) -> markup.Html:
  if isinstance(value, Mapping) and value and depth < _DEEPEST:
    return _pairs(value, depth + 1)
  if isinstance(value, Sequence) and not isinstance(value, str):
    shown = ', '.join(map(str, value[:_MOST]))
    return markup.joined(shown + (
        f' and {len(value) - _MOST:,} more' if len(value) > _MOST else ''))
  if value is None or value == {} or value == '':
    return markup.joined('none')
  if isinstance(value, float):
    return markup.joined(f'{value:g}')
  return markup.joined(str(value))
