"""Two reports: what is apart, and what they do not share."""

import doctest
import json
import math

import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.pages import beside
from musiclm_jax.evaluation.pages import folder


def _pair(one, other, better=''):
  return beside.Pair('', 'x', measures.Figure('x', *one, better=better),
                     measures.Figure('x', *other, better=better))


@pytest.fixture(name='make')
def _make(tmp_path):
  """Function from a folder's name and {file: JSON} to the Folder."""
  def make(name, **found):
    for stem, value in found.items():
      path = tmp_path / name / f'{stem}.json'
      path.parent.mkdir(exist_ok=True)
      path.write_text(json.dumps(dict(value, wall_seconds=1.0)))
    return folder.read(tmp_path / name)

  return make


def test_documented_examples():
  tried = doctest.testmod(beside)
  assert tried.attempted and not tried.failed


@pytest.mark.parametrize('one, other, better, apart, verdict', [
    ((1.0, 0.9, 1.1), (2.0, 1.9, 2.1), 'lower', True, 'better'),
    ((2.0, 1.9, 2.1), (1.0, 0.9, 1.1), 'lower', True, 'worse'),
    ((2.0, 1.9, 2.1), (1.0, 0.9, 1.1), 'higher', True, 'better'),
    ((2.0, 1.9, 2.1), (1.0, 0.9, 1.1), '', True, ''),
    ((1.0, 0.9, 1.5), (2.0, 1.5, 2.1), 'lower', False, ''),  # they touch
    ((1.0, 0.9, 1.1), (2.0, None, None), 'lower', False, ''),
    ((1.0, 0.9, 1.1), (math.nan, 1.9, 2.1), 'lower', False, ''),
    ((1.0, 0.9, math.nan), (2.0, 1.9, 2.1), 'lower', False, ''),
    ((None, 0.9, 1.1), (2.0, 1.9, 2.1), 'lower', False, '')])
def test_what_is_apart(one, other, better, apart, verdict):
  pair = _pair(one, other, better)
  assert (pair.apart, pair.verdict) == (apart, verdict)


def test_differences():
  assert _pair((1.0,), (3.0,)).difference == -2.0
  assert _pair((None,), (3.0,)).difference is None


def test_circumstances_are_compared_at_any_depth():
  one = dict(git_commit='a', machine='m', version_jax='1', listeners=dict(
      musicnn=dict(hash='h', hop_seconds=1)), wall_seconds=3)
  other = dict(git_commit='a', machine='n', version_jax='2', listeners=dict(
      musicnn=dict(hash='i', hop_seconds=1), clap=dict(hash='c')))
  assert beside.circumstances(one, other) == {
      'listeners: musicnn: hash': ('h', 'i'),
      'listeners: clap: hash': (None, 'c')}


def _figures(value, better='lower'):
  return dict(columns=['fad', 'mcc'], rows=[dict(name='drawn', figures={
      'fad': dict(value=value, low=value - 0.1, high=value + 0.1, better=better),
      'mcc': dict(value=0.5)})])


def test_the_section(make):
  one = make('one', captions=dict(table=_figures(1.0), provenance=dict(
      git_commit='aaa')), lone=dict(a=1.0))
  other = make('other', captions=dict(table=_figures(2.0), extra=1.0,
                                      provenance=dict(git_commit='bbb')))
  beside.check(one, other)
  found, told = beside.html(one, other)
  assert told == ('one against other: 2 figures in both, 1 of 1 with intervals '
                  'apart (1 better); they differ in git_commit.')
  assert '>apart, better<' in found and '−1.00' in found
  assert 'Only in one: lone.' in found and '1 figure only in other' in found
  assert '</b>git_commit. What differs' in found
  assert '<code>aaa</code>' in found and '<code>bbb</code>' in found
  # The other way round it is worse, and the difference has the other sign.
  found, told = beside.html(other, one)
  assert '(1 worse)' in told and '+1.00' in found


def test_the_same_beside_itself(make):
  one = make('one', a=dict(x=1.0, x_low=0.5, x_high=2.0, seed=3))
  found, told = beside.html(one, one)
  assert told.endswith('1 figure in both, 0 of 1 with intervals apart.')
  assert 'Of the same circumstances' in found and 'Not of the same' not in found


def test_curves_are_laid_over_each_other(make):
  curves = lambda y: {'c': {'lines': {'exact': [[0, y], [1, y]]}}}
  one = make('one', a=dict(curves=curves(1.0)))
  other = make('other', a=dict(curves=curves(2.0)))
  found, _ = beside.html(one, other)
  assert found.count('<polyline') == 2
  assert 'exact, one' in found and 'exact, other' in found
  # Counterparts have one colour and different dashes.
  assert found.count('--line0') >= 2 and '--line1' not in found
  assert found.count('stroke-dasharray') == 2  # the line and its legend


def test_what_different_listeners_heard_is_not_compared(make):
  heard = lambda value, code: dict(table=_figures(value), provenance=dict(
      listeners={'/models/fad.onnx': dict(hash=code)}))
  one, other = make('one', a=heard(1.0, 'x')), make('other', a=heard(9.0, 'y'))
  found, told = beside.html(one, other)
  assert '0 of 1 with intervals apart; they differ in listeners.' in told
  assert '>another listener<' in found and '>apart' not in found
  assert 'Of fad they had different listeners' in found
  assert found.count('another listener') == 1  # mcc is of no listener


def test_nothing_in_common(make):
  with pytest.raises(errors.UserError, match='no evaluation and no training of '
                     'one name: a here, b there; give files'):
    beside.check(make('one', a=dict(x=1.0)), make('other', b=dict(x=1.0)))
