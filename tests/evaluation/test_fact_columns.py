"""Facts of folk_gm's metadata and of CSVs, where all is text."""

import pytest

from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import fact_columns


def _known(*facts, others=None):
  return fact_columns.known([
      clip_sets.Clip(str(k), str(k), lambda rate: None, facts=f)
      for k, f in enumerate(facts)], others)


def test_metadata_of_folk_gm():
  found = _known(dict(
      tempo_bpm=122.1, key='B flat major', mode='major', drums='tambourine',
      family='bowed strings', register='middle', mean_pitch=73.2)).values
  assert {name: values['0'] for name, values in found.items()} == dict(
      tempo=122.1, key=10, mode=0, family='bowed strings', percussion=True,
      register='middle', mean_pitch=73.2)


def test_text_of_a_csv():
  found = _known(
      dict(bpm=' 96 bpm', key='Gm', percussion='no', register='LOW '),
      dict(tempo='120', key='C', percussion='1', mean_pitch='61.5'),
      dict(tempo_bpm='', key='', percussion='', drums='')).values
  assert found['tempo'] == {'0': 96.0, '1': 120.0}
  assert found['key'] == {'0': 19, '1': 0}
  assert found['mode'] == {'0': 1}  # "C" tells none
  # An empty `percussion` is not known; empty `drums` are none.
  assert found['percussion'] == {'0': False, '1': True, '2': False}
  assert found['register'] == {'0': 'low'}
  assert found['mean_pitch'] == {'1': 61.5}


def test_modes_of_columns_and_keys():
  found = _known(dict(key='D', mode='dorian'), dict(key='D dorian'),
                 dict(mode='M'), dict(mode='')).values
  assert found['key'] == {'0': 14, '1': 14}
  assert found['mode'] == {'0': 1, '1': 1, '2': 0}


@pytest.mark.parametrize('fact, facts', [
    ('tempo', {'tempo_bpm': 'fast'}), ('tempo', {'tempo_bpm': '-3'}),
    ('tempo', {'tempo_bpm': 'nan'}), ('key', {'key': 'H'}),
    ('mode', {'mode': 'sad'}), ('percussion', {'percussion': 'perhaps'}),
    ('mean_pitch', {'mean_pitch': '440 Hz'})])
def test_what_is_not_understood_is_counted(fact, facts):
  found = _known(facts)
  assert not found.values[fact]
  assert found.odd[fact] == tuple(facts.values())
  assert f'1 of {fact} not understood, such as ' in found.line()


def test_one_line_says_what_there_is():
  line = _known(dict(tempo_bpm=100), dict(tempo_bpm='90', key='A minor')).line()
  assert line == ('facts of 2 clips: tempo 2, key 1, mode 1; absent: family, '
                  'percussion, register, mean_pitch')
  assert _known({}).line().startswith('facts of 1 clips: none; absent: tempo')


def test_facts_of_the_recording_of_the_same_id():
  found = _known({}, dict(tempo_bpm=80), others={
      '0': dict(tempo_bpm=100, key='', mode='minor'),
      '1': dict(tempo_bpm=60, key='G')}).values
  assert found['tempo'] == {'0': 100.0, '1': 80.0}
  assert found['key'] == {'1': 7} and found['mode'] == {'0': 1}
