"""Curves: ticks, places and gaps by hand, and what is no curve."""

import doctest
import math
import re
from xml.etree import ElementTree

import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation.pages import charts


def _chart(*lines, **more):
  return charts.Chart('a title', 'x', 'y', {
      f'line {i}': tuple(charts.Point(*p) for p in line)
      for i, line in enumerate(lines)}, **more)


def _svg(chart):
  """The picture as a tree, which it can only be where every tag is closed."""
  return ElementTree.fromstring(
      re.search('<svg[^>]*class="chart".*?</svg>', charts.figure(chart)).group())


def test_documented_examples():
  tried = doctest.testmod(charts)
  assert tried.attempted and not tried.failed


@pytest.mark.parametrize('low, high, found', [
    (0, 1, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-0.3, 0.3, [
        -0.2, 0.0, 0.2]), (0, 6700, [0, 2000, 4000, 6000]),
    (1e-6, 3e-6, [1e-6, 1.5e-6, 2e-6, 2.5e-6, 3e-6]),
    (-1e9, 1e9, [-1e9, -5e8, 0, 5e8, 1e9])])
def test_ticks_are_round_and_within(low, high, found):
  assert charts.ticks(low, high) == pytest.approx(found, abs=1e-15)


def test_points_are_where_they_should_be():
  line, = _svg(_chart([(0, 0.0), (5, 5.0), (10, 10.0)])).iter('polyline')
  places = [tuple(map(float, p.split(','))) for p in line.get('points').split()]
  # 48..408 across; up from the axis at 200 to 5 % of the range below 26.
  assert places == [(48, 200), (228, 117.1), (408, 34.3)]


def test_a_band_goes_up_and_back():
  svg = _svg(_chart([(0, 1.0, 0.5, 1.5), (1, 2.0, 1.0, 3.0)]))
  band = next(p for p in svg.iter('polygon') if p.get('class') == 'band')
  ys = [float(p.split(',')[1]) for p in band.get('points').split()]
  assert ys[1] < ys[0] < ys[3] and ys[1] < ys[2] < ys[3]
  assert 'the values' in charts.figure(_chart([(0, 1.0, 0.5, 1.5)]))


def test_nan_breaks_the_line_and_is_told():
  chart = _chart([(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 2.0)])
  assert len(list(_svg(chart).iter('polyline'))) == 2
  found = charts.figure(chart)
  assert '1 point without a value (NaN)' in found
  assert '<td class="number">NaN</td>' in found
  assert 'no points with values' in charts.figure(_chart([(0, math.nan)]))
  assert 'no points with values' in charts.figure(_chart())


@pytest.mark.parametrize('points', [
    [(1, 2.0)], [(1, 0.0)], [(0, 3.0), (1, 3.0)], [(0, math.inf), (1, 1.0)],
    [(0, -5.0), (1, -4.0)], [(0, 1e-300), (1, 2e-300)],
    [(0, 0.0), (1, 5e-324)], [(0, -1e308), (1, 1e308), (2, 1.0)]])
def test_hard_ranges_stay_within_the_picture(points):
  for p in _svg(_chart(points)).iter('polyline'):
    for place in p.get('points').split():
      x, y = map(float, place.split(','))
      assert 48 <= x <= 408 and 26 <= y <= 200


def test_lines_differ_in_more_than_colour():
  svg = _svg(_chart([(0, 1.0), (1, 2.0)], [(0, 2.0), (1, 3.0)]))
  dashes = {p.get('stroke-dasharray') for p in svg.iter('polyline')}
  assert len(dashes) == 2
  told = [t.text for t in svg.iter('title')]
  assert told[0] == 'a title: y over x' and '1: 3.00' in told


def test_long_lines_have_no_table():
  found = charts.figure(_chart([(i, float(i)) for i in range(100)]))
  assert 'the values' not in found and found.count('<polyline') == 1


def test_from_json():
  made, = charts.from_json({'t': {'x': 'T', 'y': 'share', 'lines': {
      'exact': [[0, 0.1], [25, None]], 'near': [[0, 0.2, 0.1, 0.3]]}}}, 'c')
  assert (made.title, made.x, made.y) == ('t', 'T', 'share')
  assert made.lines['near'] == (charts.Point(0, 0.2, 0.1, 0.3),)
  assert math.isnan(made.lines['exact'][1].y)


@pytest.mark.parametrize('found, line', [
    ([], 'c is a list; expected an object.'),
    ({'t': 3}, 'c: t has no lines; expected an object.'),
    ({'t': {'lines': {'a': 3}}}, 'c: t: a is a number; expected a list.'),
    ({'t': {'lines': {'a': [[1]]}}}, 'c: t: a has the point [1]; expected'),
    ({'t': {'lines': {'a': [[1, 'x']]}}}, "c: t: a has the point [1, 'x']; exp"),
    ({'t': {'lines': {'a': [[1, 10**400]]}}}, 'c: t: a is too large for a number.')])
def test_what_is_no_curve(found, line):
  with pytest.raises(errors.UserError) as raised:
    charts.from_json(found, 'c')
  assert str(raised.value).startswith(line)
