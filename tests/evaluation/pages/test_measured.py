"""JSON files as evaluations: what is in them, and what is none."""

import doctest
import json
import math

import pytest

from musiclm_jax import errors
from musiclm_jax.evaluation.pages import cells
from musiclm_jax.evaluation.pages import markup
from musiclm_jax.evaluation.pages import measured


@pytest.fixture(name='read')
def _read(tmp_path):
  """Function from what a JSON holds to the Evaluation."""
  def read(found):
    path = tmp_path / 'x.json'
    path.write_text(found if isinstance(found, str) else json.dumps(found))
    return measured.read(path, 'x')

  return read


@pytest.mark.parametrize('module', [measured, markup, cells])
def test_documented_examples(module):
  tried = doctest.testmod(module)
  assert tried.attempted and not tried.failed


def test_flat_figures_and_their_circumstances(read):
  found = read(dict(fad=1.0, fad_low=0.5, fad_high=2.0, clips=24.0, odd_low=3,
                    wall_seconds=7.0, seed=3, bundle='b', git_commit='c',
                    version_jax='9', ok=True))
  assert {k: (f.value, f.low, f.high) for k, f in found.figures.items()} == {
      'fad': (1.0, 0.5, 2.0), 'clips': (24.0, None, None),
      'odd_low': (3.0, None, None)}
  assert dict(found.provenance) == dict(
      wall_seconds=7.0, seed=3, bundle='b', git_commit='c', version_jax='9')
  assert found.name == found.title == 'x' and found.verdicts == ()


def test_everything_that_newer_ones_hold(read, tmp_path):
  found = read(dict(
      title='T', judged='J', provenance={'command': 'musiclm x', 'seed': 1},
      sections=[dict(title='s', verdict='all is well', lines=[
          dict(name='a', value='1', against='b', note='n')]),
                dict(title='silent')],
      table=dict(columns=['fad'], rows=[dict(name='drawn', figures={
          'fad': dict(value=math.nan)})]),
      published=dict(note='no', columns=['FAD'], rows=[
          dict(name='A', figures={'FAD': 1})]),
      curves={'c': {'lines': {'l': [[0, 1]]}}},
      clips=[dict(id='i', caption='c', sounds={'drawn': 'a/b.wav'})]))
  assert found.verdicts == ('all is well',)
  assert found.sections[0].lines[0].against == 'b'
  assert math.isnan(found.every()['drawn', 'fad'].value)
  assert found.published.rows == {'A': {'FAD': 1}}
  assert found.charts[0].title == 'c'
  assert found.items == (measured.Item(
      'i', 'c', {'drawn': tmp_path / 'a/b.wav'}),)
  assert found.provenance['command'] == 'musiclm x'


def test_the_verdicts_of_a_recorded_text(read):
  found = read(dict(wall_seconds=1.0, a=1.0, text='Codec\n  a  1.0\n  -> is '
                    'good\n\nStages\n  -> weak: fine'))
  assert found.verdicts == ('is good', 'weak: fine')


@pytest.mark.parametrize('found, kind, line', [
    ('{"a": 1', errors.UserError, 'it is no JSON (Expecting'),
    ('[' * 100_000, errors.UserError, 'it is no JSON'),
    ('\udcff'.encode('utf-8', 'surrogatepass').decode('latin-1'),
     errors.UserError, 'it is no JSON'),
    ([1], measured.Foreign, 'no evaluation wrote it.'),
    (dict(a=1.0, git_commit='c'), measured.Foreign, 'no evaluation wrote it.'),
    (dict(wall_seconds=1.0), measured.Foreign, 'it has no figures.'),
    (dict(table=3), errors.UserError, 'table is a number; expected an object.'),
    (dict(provenance={}, clips=[3], a=1), errors.UserError,
     'clips: 1 is a number; expected an object.'),
    (dict(provenance={}, clips=[{'sounds': 3}]), errors.UserError,
     'clips: 1: sounds is a number; expected an object.'),
    (dict(sections={}, curves={'c': 1}), errors.UserError, 'curves: c has no'),
    (dict(sections='x'), errors.UserError, 'sections is text; expected a list.'),
    (dict(sections=[{'lines': [1]}]), errors.UserError, 'sections: 1 is a num'),
    ('{"wall_seconds": 1, "a": 1' + '0' * 400 + '}', errors.UserError,
     'a is too large for a number.'),
])
def test_what_is_none(read, found, kind, line):
  with pytest.raises(kind) as raised:
    read(found)
  assert str(raised.value).startswith(line)


def test_a_file_that_is_too_large(read, monkeypatch):
  monkeypatch.setattr(measured, 'MOST_BYTES', 2 << 20)
  with pytest.raises(errors.UserError, match='it has 3 MiB; at most 2 are'):
    read(' ' * (3 << 20) + '{}')
