"""Curves as small SVG pictures that need nothing else.

Lines differ in dash and marker as well as in colour, points say their values,
and short curves have them as a table below.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import tables
from musiclm_jax.evaluation.pages import markup

tag = markup.tag

_WIDTH, _HEIGHT = 420, 240  # units; text of 12 stays readable on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 26, 40
_DASHES = ('', '7 3', '2 3', '9 3 2 3')
_MARKERS = 4
_COLOURS = 6  # that the style names: --line0, --line1, ...
_MARKED = 24  # points of a line that get a marker and a place in the table
_TICKS = 5
_HUGE = 1e300  # what is larger has no place: differences would overflow


@dataclasses.dataclass(frozen=True)
class Point:
  """One point; low and high are its interval, or None."""

  x: float
  y: float
  low: float | None = None
  high: float | None = None

  @property
  def drawn(self) -> bool:
    """Whether it has a place: NaN has none."""
    return abs(self.x) < _HUGE and abs(self.y) < _HUGE

  @property
  def extent(self) -> list[float]:
    """Values on the y axis that have a place."""
    return [v for v in (self.y, self.low, self.high)
            if v is not None and abs(v) < _HUGE]


@dataclasses.dataclass(frozen=True)
class Chart:
  """Lines over one pair of axes.

  Attributes:
    title: of the picture.
    x, y: what the axes are.
    lines: {name: Points}.
    note: below it.
    firsts: so many lines come first, and as many others after them are their
      counterparts, of their colours; 0: all lines are of their own.
  """

  title: str
  x: str
  y: str
  lines: Mapping[str, Sequence[Point]]
  note: str = ''
  firsts: int = 0

  def look(self, index: int) -> tuple[str, str | None, int]:
    """(style, dashes, marker) of a line."""
    colour = dash = marker = index
    if self.firsts:
      colour, dash = index % self.firsts, index // self.firsts
    return (f'--line: var(--line{colour % _COLOURS})',
            _DASHES[dash % len(_DASHES)] or None, marker % _MARKERS)


def from_json(found: Any, where: str) -> tuple[Chart, ...]:
  """The Charts of {title: {x, y, lines: {name: [[x, y(, low, high)]]}}}.

  Raises:
    UserError: it is something else.
  """
  made = []
  for title, chart in tables.check(found, dict, where).items():
    place = f'{where}: {title}'
    lines = chart.get('lines') if isinstance(chart, dict) else None
    if not isinstance(lines, dict):
      raise errors.UserError(f'{place} has no lines; expected an object.')
    made.append(Chart(
        title, str(chart.get('x', '')), str(chart.get('y', '')),
        {name: _points(points, f'{place}: {name}')
         for name, points in lines.items()}, str(chart.get('note', ''))))
  return tuple(made)


def _points(found, where):
  return tuple(_point(point, where)
               for point in tables.check(found, list, where))


def _point(found, where):
  if isinstance(found, list) and len(found) in (2, 4) and all(
      v is None or isinstance(v, (int, float)) for v in found):
    values = [tables.checked_number(v, where) for v in found]
    return Point(*(math.nan if v is None and i < 2 else v
                   for i, v in enumerate(values)))
  raise errors.UserError(
      f'{where} has the point {str(found)[:40]}; expected [x, y] or '
      f'[x, y, low, high].')


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
  """Round numbers within low..high, at most `most` + 1 of them.

  >>> ticks(0, 250), ticks(0.13, 0.52)
  ([0, 50, 100, 150, 200, 250], [0.2, 0.3, 0.4, 0.5])
  """
  rough = (high - low) / most
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999999)
  first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
  return [float(f'{i * step:.12g}') if step < 1 else round(i * step)
          for i in range(first, last + 1)]


def figure(chart: Chart) -> markup.Html:
  """The chart with its legend, what is missing, and its values."""
  missing = sum(not p.drawn for points in chart.lines.values() for p in points)
  told = [tag('p', chart.note, class_='note') if chart.note else None,
          tag('p', f'{markup.count(missing, "point")} without a value (NaN): '
              f'the line is broken there.', class_='note') if missing else None]
  if not any(p.drawn for points in chart.lines.values() for p in points):
    return tag('figure', tag('figcaption', chart.title),
               tag('p', 'no points with values'), *told)
  legend = [tag('span', _swatch(chart.look(i)), ' ', name, class_='key')
            for i, name in enumerate(chart.lines)]
  return tag('figure', tag('figcaption', chart.title), _svg(chart),
             tag('div', *legend, class_='legend'), *told, _values(chart))


def _svg(chart):
  points = [p for line in chart.lines.values() for p in line if p.drawn]
  across = _axis([p.x for p in points], _LEFT, _WIDTH - _RIGHT, 0.0)
  up = _axis([v for p in points for v in p.extent],
             _HEIGHT - _BOTTOM, _TOP, 0.05)
  parts = [tag('title', f'{chart.title}: {chart.y} over {chart.x}'),
           *_grid(chart, across, up)]
  for i, line in enumerate(chart.lines.values()):
    parts += _line(line, chart.look(i), across, up)
  return tag('svg', *parts, viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img',
             class_='chart')


@dataclasses.dataclass(frozen=True)
class _Axis:
  """Values low..high to units first..last."""

  low: float
  high: float
  first: float
  last: float

  def __call__(self, value):
    share = (value - self.low) / (self.high - self.low)
    return round(self.first + share * (self.last - self.first), 1)


def _axis(values, first, last, margin):
  low, high = min(values), max(values)
  if high - low < 1 / _HUGE:
    low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
  room = (high - low) * margin
  # Shares and losses begin at 0: no room below what cannot be negative.
  return _Axis(0.0 if 0 <= low < room else low - room, high + room, first, last)


def _grid(chart, across, up):
  bottom = _HEIGHT - _BOTTOM
  for value in ticks(up.low, up.high):
    y = up(value)
    yield tag('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_='grid')
    yield tag('text', f'{value:g}', x=_LEFT - 6, y=y + 4, text_anchor='end')
  for value in ticks(across.low, across.high):
    x = across(value)
    yield tag('line', x1=x, x2=x, y1=bottom, y2=bottom + 4, class_='axis')
    yield tag('text', f'{value:g}', x=x, y=bottom + 17, text_anchor='middle')
  yield tag('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom,
            class_='axis')
  yield tag('text', chart.y, x=4, y=14)
  yield tag('text', chart.x, x=_WIDTH - _RIGHT, y=_HEIGHT - 6,
            text_anchor='end')


def _line(line, look, across, up):
  """Band, strokes and markers of one line."""
  style, dashes, marker = look
  for part in _unbroken(line):
    band = [p for p in part if len(p.extent) == 3]
    if len(band) > 1:
      edge = ([(across(p.x), up(p.high)) for p in band] +
              [(across(p.x), up(p.low)) for p in reversed(band)])
      yield tag('polygon', points=_coordinates(edge), class_='band',
                style=style)
    yield tag('polyline', points=_coordinates(
        [(across(p.x), up(p.y)) for p in part]), class_='line', style=style,
              stroke_dasharray=dashes)
  drawn = [p for p in line if p.drawn]
  # One point alone is no line: it would not be seen.
  for p in drawn if len(line) <= _MARKED else [
      part[0] for part in _unbroken(line) if len(part) == 1]:
    yield _marker(marker, across(p.x), up(p.y), style, _told(p))


def _unbroken(line):
  """Runs of points that have values."""
  run = []
  for point in line:
    if point.drawn:
      run.append(point)
    elif run:
      yield run
      run = []
  if run:
    yield run


def _coordinates(pairs):
  return ' '.join(f'{x},{y}' for x, y in pairs)


def _marker(index, x, y, style, told=None):
  """Circle, square, diamond or triangle."""
  corners = ((), ((-3, -3), (3, -3), (3, 3), (-3, 3)),
             ((0, -4), (4, 0), (0, 4), (-4, 0)), ((0, -4), (4, 3), (-4, 3)))
  shape = corners[index]
  drawn = tag('circle', cx=x, cy=y, r=3.2) if not shape else tag(
      'polygon', points=_coordinates([(x + a, y + b) for a, b in shape]))
  return tag('g', tag('title', told) if told else None, drawn, class_='marker',
             style=style)


def _told(point):
  value = tables.number_with_interval(point.y, point.low, point.high)
  return f'{point.x:g}: {value}'


def _swatch(look):
  style, dashes, marker = look
  return tag('svg', tag('line', x1=1, x2=27, y1=6, y2=6, class_='line',
                        style=style, stroke_dasharray=dashes),
             _marker(marker, 14, 6, style), viewBox='0 0 28 12', width=28,
             height=12, aria_hidden='true')


def _values(chart):
  """The values of short lines, for who cannot see them or wants to copy."""
  if any(len(points) > _MARKED for points in chart.lines.values()):
    return None
  places = sorted({p.x for line in chart.lines.values() for p in line
                   if math.isfinite(p.x)})
  by_name = {name: {p.x: p for p in line} for name, line in chart.lines.items()}
  head = tag('tr', tag('th', chart.x), *(tag('th', name) for name in by_name))
  rows = [tag('tr', tag('th', f'{x:g}'), *(
      tag('td', tables.number_with_interval(p.y, p.low, p.high) if p else '',
          class_='number')
      for p in (points.get(x) for points in by_name.values())))
          for x in places]
  return markup.folded('the values', markup.scrolled(tag('table', head, *rows)))
