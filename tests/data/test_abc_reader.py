"""The ABC reader against hand-written values."""

import pytest

from musiclm_jax.data.folk_gm import abc_reader
from musiclm_jax.data.folk_gm import tunes as tunes_lib

W = abc_reader.WHOLE


def F(p, q=1):
  return p / q


def _read(body, key='C', metre='4/4', unit='1/8'):
  text = f'X:1\nT:Test\nM:{metre}\nL:{unit}\nK:{key}\n{body}\n'
  lines, = abc_reader.split_tunes(text)
  return abc_reader.parse(lines)


def _notes(body, **kwargs):
  abc = _read(body, **kwargs)
  notes, bars, faults = abc_reader.to_bars(
      abc_reader.expand(abc.measures), abc_reader.bar_ticks(abc.metre))
  return [(s / W, n / W, p) for s, n, p in notes], bars, faults


def _pitches(body, **kwargs):
  return [n[2] for n in _notes(body, **kwargs)[0]]


def test_pitch_octaves_and_signature():
  assert _pitches("C,CEGce'|") == [48, 60, 64, 67, 72, 88]
  assert _pitches('FCGB|', key='D') == [66, 61, 67, 71]
  assert _pitches('BEA|', key='Gm') == [70, 63, 69]
  assert _pitches('FBc|', key='Ador') == [66, 71, 72]


def test_accidentals_last_until_the_bar_line():
  assert _pitches('F ^F F f|F _B =B B|', key='G') == [
      66, 66, 66, 78, 66, 70, 71, 71]
  assert _pitches('=F F|F|', key='G') == [65, 65, 66]


def test_lengths_broken_rhythm_and_tuplets():
  notes, _, _ = _notes('A2 A/ A/ A3/2 A// A// A2 A|')
  assert [n[1] * 8 for n in notes] == [
      2, F(1, 2), F(1, 2), F(3, 2), F(1, 4), F(1, 4), 2, 1]
  notes, _, _ = _notes('A>B c<d (3efg a2|')
  assert [n[1] * 8 for n in notes] == pytest.approx([
      F(3, 2), F(1, 2), F(1, 2), F(3, 2), F(2, 3), F(2, 3), F(2, 3), 2])
  assert [n[0] * 8 for n in notes][-1] == pytest.approx(6)


def test_ties_join_also_across_bars():
  notes, _, _ = _notes('A4 B4-|B4 c4|')
  assert [(n[0], n[1], n[2]) for n in notes] == [
      (0, F(1, 2), 69), (F(1, 2), 1, 71), (F(3, 2), F(1, 2), 72)]


@pytest.mark.parametrize('body, heard', [
    ('C8|D8:|E8|]', 'CDCDE'),
    ('|:C8|D8:||:E8|F8:|', 'CDCDEFEF'),
    ('C8|D8::E8|F8:|', 'CDCDEFEF'),
    ('|:C8|1D8:|2E8||F8|', 'CDCEF'),
    ('|:C8|[1D8:|[2E8|]F8|', 'CDCEF'),
    ('C8||D8:|', 'CDD'),
    ('|:C8|D8|1E8:|2F8:|:G8:|', 'CDECDFGG')])
def test_repeats_are_played_out(body, heard):
  names = {60: 'C', 62: 'D', 64: 'E', 65: 'F', 67: 'G'}
  assert ''.join(names[p] for p in _pitches(body)) == heard


def test_what_is_no_note_is_passed_over():
  assert _pitches('"Am"C{de}D !trill!E~F (GA) `TB .c|') == [
      60, 62, 64, 65, 67, 69, 71, 72]
  assert _pitches('[CEG]2 z2 x2 D2|') == [67, 62]


def test_an_upbeat_completes_the_bar_before():
  # 6/8 with an upbeat of a quaver; the second part's upbeat as well.
  body = 'E|CDE CDE|CDE CD:|E|CDE CDE|CDE CD||'
  notes, bars, faults = _notes(body, metre='6/8')
  assert faults == 0 and bars == 7
  starts = [n[0] / F(6, 8) for n in notes]
  assert starts[0] == F(5, 6) and starts[1] == 1
  assert notes[-1][0] + notes[-1][1] == F(6, 8) * 6 + F(5, 8)


def test_a_wrong_bar_is_counted_and_the_grid_kept():
  notes, bars, faults = _notes('C8|D6|E8|F8|')
  assert faults == 1 and bars == 4
  assert [n[0] for n in notes] == [0, 1, 2, 3]


@pytest.mark.parametrize('body', ['C8|[K:G]D8|', 'C8|\nM:3/4\nD6|', 'C8|@|'])
def test_what_is_not_understood_is_refused(body):
  with pytest.raises(abc_reader.AbcError):
    _read(body)


@pytest.mark.parametrize('text, key', [
    ('G', (7, 'major')), ('E Minor', (4, 'minor')), ('Bb', (10, 'major')),
    ('AMix', (9, 'mixolydian')), ('F#m', (6, 'minor')), ('Hp', (9, 'mixolydian'
    )), ('GM', (7, 'major')), ('Glyd % Two sharps', (7, 'lydian'))])
def test_keys(text, key):
  assert abc_reader.parse_key(text)[:2] == key


def test_almost_all_of_the_collections_can_be_used(tunes):
  assert len(tunes) > 3900
  assert len({t.id for t in tunes}) == len(tunes)
  by = {c: sum(t.collection == c for t in tunes) for c in tunes_lib.COLLECTIONS}
  assert by['oneills'] > 1800 and by['ryans'] > 950 and by['airds'] > 1100


def test_a_known_tune_is_read_right(tunes):
  # Lanigan's Ball as Ryan printed it: E minor, upbeat F sharp, then E2F G2A.
  tune, = [t for t in tunes if t.id == 'ryans-LanigansBallJig']
  assert (tune.rhythm, tune.metre, tune.mode, tune.tonic) == (
      'jig', 'jig', 'minor', 4)
  assert tune.notes[:6, 2].tolist() == [66, 64, 66, 67, 69, 71]
  assert (tune.notes[1:6, 0] * 6).tolist() == pytest.approx([6, 8, 9, 11, 12])
  # Two parts of eight bars, each twice; the next round's upbeat overlaps.
  assert (tune.num_bars, tune.period) == (33, 32)


def test_oneills_numbers_name_the_dance(tunes):
  rhythm = {t.id: t.rhythm for t in tunes}
  assert rhythm['oneills-0505'] == 'air'
  assert rhythm['oneills-1200'] == 'reel'
  assert rhythm['oneills-1130'] == 'slip jig'
