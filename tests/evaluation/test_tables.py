"""Tables: numbers as a reader wants them, and the way to JSON and back."""

import doctest
import json
import math

import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import tables


def _table():
  return tables.Table.of(
      {'drawn': [measures.Figure('fad', 12.0, 10.25, 14.5, 100, 'lower'),
                 measures.Figure('mcc', 0.4567, 0.4, 0.5, 99, 'higher',
                                 'of 99 captions')],
       'noise': [measures.Figure('fad', None, note='too few clips'),
                 measures.Figure('tempo', math.nan)]},
      dict(kld='no classifier'), ['folk_gm, test'])


def test_documented_examples():
  tried = doctest.testmod(tables)
  assert tried.attempted > 4 and not tried.failed


@pytest.mark.parametrize('value, shown', [
    (0.123456, '0.123'), (9.999, '10.0'), (9.994, '9.99'), (999.7, '1000'),
    (-0.5, '-0.500'), (100.0, '100'), (2e6, '2.00e+06'), (0.00012345, '0.000123'),
    (math.nan, 'NaN'), (math.inf, 'inf'), (-math.inf, '-inf'), (1, '1.00')])
def test_three_significant_digits(value, shown):
  assert tables.number(value) == shown


@pytest.mark.parametrize('figure, shown', [
    ((0.5, 0.4444, 0.5556), '0.500 [0.444, 0.556]'),
    ((0.0, 0.0, 0.035), '0.0000 [0.0000, 0.0350]'),
    ((0.0, 0.0, 0.0), '0 [0, 0]'),
    ((123.4, 0.4, 200.6), '123 [0, 201]'),
    ((1.0, None, None), '1.00'), ((None, 1.0, 2.0), 'n/a'),
    ((math.nan, math.nan, 1.0), 'NaN [NaN, 1.00]')])
def test_an_interval_has_the_decimals_of_its_value(figure, shown):
  assert tables.number_with_interval(*figure) == shown


def test_columns_are_in_the_order_in_which_rows_name_them():
  assert _table().columns == ('fad', 'mcc', 'tempo')
  assert [_table().better(c) for c in _table().columns] == [
      'lower', 'higher', '']


def test_the_text_against_hand():
  assert _table().text() == '''\
         fad                mcc                       tempo
         lower is better    higher is better
  drawn  12.0 [10.2, 14.5]  0.457 [0.400, 0.500] (1)  n/a
  noise  n/a (2)            n/a                       NaN

  (1) of 99 captions
  (2) too few clips
  kld was not measured: no classifier
  folk_gm, test'''


def test_what_is_too_wide_goes_below():
  text = _table().text(width=40)
  blocks = text.split('\n\n')
  assert [block.split()[0] for block in blocks] == ['fad', 'mcc', '(1)']
  assert max(map(len, text.split('\n'))) <= 40
  # Every cell is still there once.
  assert text.count('0.457 [0.400, 0.500] (1)') == text.count('NaN') == 1
  # One column is wider than the line: there it is all the same.
  assert '12.0 [10.2, 14.5]' in _table().text(width=10)


def test_alike_notes_have_one_number():
  alike = [measures.Figure('a', 1.0, note='x'), measures.Figure('b', 2.0, note='x')]
  text = tables.Table.of({'r': alike}).text()
  assert '1.00 (1)' in text and '2.00 (1)' in text and '(2)' not in text


def test_json_and_back():
  found = json.loads(json.dumps(_table().to_json()))
  assert found['rows'][0]['figures']['fad'] == dict(
      value=12.0, low=10.25, high=14.5, count=100, better='lower', note='')
  again = tables.Table.from_json(found)
  assert math.isnan(again.rows[1].figures['tempo'].value)
  assert again.text() == _table().text()
  assert again.rows[0] == _table().rows[0]
  assert again.not_measured == dict(kld='no classifier')


@pytest.mark.parametrize('found, line', [
    ([], 't is a list; expected an object.'),
    ({}, 't: rows is nothing; expected a list.'),
    ({'rows': [1]}, 't: row 1 is a number; expected an object.'),
    ({'rows': [{}]}, 't: row 1: name is nothing; expected text.'),
    ({'rows': [{'name': 'a', 'figures': {'fad': 'low'}}]},
     't: row 1: fad is text; expected an object.'),
    ({'rows': [{'name': 'a', 'figures': {'fad': {'value': 'low'}}}]},
     't: row 1: fad: value is text; expected a number.'),
    ({'rows': [{'name': 'a', 'figures': {'fad': {'value': True}}}]},
     't: row 1: fad: value is true or false; expected a number.'),
    ({'rows': [{'name': 'a', 'figures': {'fad': {'better': 'more'}}}]},
     "t: row 1: fad: better is 'more'; expected lower, higher or nothing."),
    ({'rows': [{'name': 'a', 'figures': {'fad': {'count': math.inf}}}]},
     't: row 1: fad: count is not finite.'),
    ({'rows': [{'name': 'a', 'figures': {'fad': {'low': 10**400}}}]},
     't: row 1: fad: low is too large for a number.'),
    ({'rows': [], 'columns': [1]}, 't: columns is a number; expected text.')])
def test_what_is_no_table(found, line):
  with pytest.raises(errors.UserError) as raised:
    tables.Table.from_json(found, 't')
  assert str(raised.value) == line


def test_published_rows():
  published = tables.Published(
      'other music', ('FAD', 'MCC'),
      {'A': {'FAD': 13.4, 'MCC': 0.34}, 'B': {'FAD': None}})
  assert published.text() == '''\
  published  FAD   MCC
  A          13.4  0.340
  B          n/a   n/a

  other music'''
  found = json.loads(json.dumps(published.to_json()))
  assert tables.Published.from_json(found) == published
  with pytest.raises(errors.UserError, match='A: FAD is text'):
    tables.Published.from_json(
        {'rows': [{'name': 'A', 'figures': {'FAD': '13'}}]})


def test_a_table_of_nothing():
  assert tables.Table((), ()).text() == '  no rows'
  assert tables.Table(('fad',), (), {'fad': 'no clips'}).text() == (
      '  no rows\n\n  fad was not measured: no clips')
