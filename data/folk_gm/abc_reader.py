"""A small reader of ABC notation: text -> bars of notes, repeats played out.

It reads what the three collections use (one voice, repeats and endings, broken
rhythm, tuplets, ties, accidentals, inline fields) and over 1,000 tunes/s;
a full notation library takes minutes for the same. A tune that it does not
understand is refused, never guessed at.

  text --split--> one tune's lines --lex--> measures --expand--> played measures
       --to_bars--> notes on a regular grid of bars
"""

import dataclasses
import functools
import re

# Lengths are whole numbers of ticks: a 64th in a septuplet in broken rhythm
# still is one.
WHOLE = 2**11 * 3**2 * 5 * 7
_FIELD = re.compile(r'^([A-Za-z]):(?!\|)\s*(.*)$')
_STEPS = dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)
_FIFTHS = dict(F=-1, C=0, G=1, D=2, A=3, E=4, B=5)
_SHARP_ORDER = 'FCGDAEB'
# Fifths to add to a tonic's to get the signature of the mode.
MODE_FIFTHS = dict(major=0, mixolydian=-1, dorian=-2, minor=-3, phrygian=-4,
                   lydian=1)
_MODE_NAMES = {
    '': 'major', 'maj': 'major', 'ion': 'major', 'm': 'minor', 'min': 'minor',
    'aeo': 'minor', 'mix': 'mixolydian', 'dor': 'dorian', 'phr': 'phrygian',
    'lyd': 'lydian'}
# (p notes in the time of q): q where the text does not say.
_TUPLETS = {2: 3, 3: 2, 4: 3, 5: 2, 6: 2, 7: 2, 8: 3, 9: 2}

_TOKEN = re.compile(r'''
    (?P<skip>"[^"]*"|![^!\s|]*!|\+[^+\s|]*\+|\{[^}]*\}|[`~.H-WYh-wy!*\\\s\]$])
  | (?P<field>\[[A-Za-z]:[^\]]*\])
  | (?P<bar>(?::*\|[|\]:]*|\[\||::+))(?P<ending1>\s*\[?[1-4](?:[-,][1-4])*
      (?![\d/]))?
  | (?P<ending>\[[1-4](?:[-,][1-4])*)
  | (?P<colon>:)
  | (?P<tuplet>\((?P<p>[2-9])(?::(?P<q>\d)?)?(?::(?P<r>\d)?)?)
  | (?P<slur>[()])
  | (?P<tie>-)
  | (?P<broken>[<>]+)
  | (?P<chord>\[(?P<inner>[^\]|:]+)\](?P<clen>\d*/*\d*))
  | (?P<note>(?P<acc>\^\^|\^|__|_|=)?(?P<step>[A-Ga-g])(?P<oct>[,']*)
      (?P<len>\d*/*\d*))
  | (?P<rest>[zx](?P<rlen>\d*/*\d*))
''', re.VERBOSE)
_INNER = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)(\d*/*\d*)")


class AbcError(ValueError):
  """The tune uses what this reader does not understand."""


@dataclasses.dataclass
class Measure:
  """Notes between two bar lines, with what the lines say about repeats.

  Attributes:
    notes: [(pitch or None for a rest, length in ticks, tied to next)].
    starts / ends: a repeat opens before / closes after this measure.
    closes: a double bar (or any repeat sign) follows.
    endings: the passes in which it is played; empty: all.
  """

  notes: list = dataclasses.field(default_factory=list)
  starts: bool = False
  ends: bool = False
  closes: bool = False
  endings: tuple = ()

  @property
  def length(self):
    return sum(n[1] for n in self.notes)


@dataclasses.dataclass(frozen=True)
class Abc:
  """One tune as written.

  Attributes:
    fields: header fields, first letter -> list of values.
    tonic: pitch class of the key as written.
    mode: one of MODE_FIFTHS.
    metre: (beats, unit).
    measures: the Measures, repeats not played out.
  """

  fields: dict
  tonic: int
  mode: str
  metre: tuple
  measures: tuple


def split_tunes(text):
  """Yields the lines of each tune (from X: to the next X:)."""
  lines = None
  for line in text.replace('\r', '').split('\n'):
    if re.match(r'^X:', line):
      if lines:
        yield lines
      lines = []
    if lines is not None:
      lines.append(line)
  if lines:
    yield lines


def parse_key(text):
  """'A Dorian' -> (9, 'dorian', {accidentals by letter}).

  >>> parse_key('Ador')
  (9, 'dorian', {'F': 1})
  """
  text = text.split('%')[0].strip()
  if text.startswith(('Hp', 'HP')):  # Highland pipes: A with F# and C#
    return 9, 'mixolydian', {'F': 1, 'C': 1}
  match = re.match(r'^([A-G])([#b]?)\s*([A-Za-z]*)', text)
  if not match:
    raise AbcError(f'key {text!r}')
  letter, accidental, mode = match.groups()
  name = _MODE_NAMES.get('m' if mode == 'M' else mode.lower()[:3])
  if mode == 'M':
    name = 'major'
  if name is None:
    raise AbcError(f'mode {mode!r}')
  shift = {'#': 1, 'b': -1, '': 0}[accidental]
  fifths = _FIFTHS[letter] + 7 * shift + MODE_FIFTHS[name]
  if abs(fifths) > 7:
    raise AbcError(f'key {text!r}')
  if fifths >= 0:
    signature = {s: 1 for s in _SHARP_ORDER[:fifths]}
  else:
    signature = {s: -1 for s in _SHARP_ORDER[::-1][:-fifths]}
  return (_STEPS[letter] + shift) % 12, name, signature


def parse_metre(text):
  """'C|' -> (2, 2); '6/8' -> (6, 8)."""
  text = text.split('%')[0].strip()
  if text in ('C', 'C|'):
    return (4, 4) if text == 'C' else (2, 2)
  match = re.match(r'^(\d+)/(\d+)$', text)
  if not match:
    raise AbcError(f'metre {text!r}')
  return int(match.group(1)), int(match.group(2))


@functools.cache
def parse_length(text):
  """'3/2' -> (3, 2); '/' -> (1, 2); '//' -> (1, 4); '' -> (1, 1)."""
  if not text:
    return 1, 1
  number, slashes, divisor = re.match(r'^(\d*)(/*)(\d*)$', text).groups()
  if divisor:
    if not slashes or not int(divisor):
      raise AbcError(f'length {text!r}')
    return int(number or 1), int(divisor)
  return int(number or 1), 2**len(slashes)


def _scale(ticks, ratio):
  """`ticks` times the ratio (p, q), which must come out whole."""
  scaled, rest = divmod(ticks * ratio[0], ratio[1])
  if rest:
    raise AbcError(f'a length of {ticks}*{ratio[0]}/{ratio[1]} ticks')
  return scaled


def bar_ticks(metre):
  """(6, 8) -> the ticks of a bar."""
  return _scale(WHOLE, metre)


def parse(lines):
  """Reads one tune.

  Args:
    lines: its lines, from X: on.

  Returns:
    An Abc.

  Raises:
    AbcError: what this reader does not understand (several voices, a change
      of metre or key, an unknown sign).
  """
  fields, body = {}, []
  for line in lines:
    line = re.sub(r'(?<!\\)%.*$', '', line).rstrip()
    field = _FIELD.match(line)
    if field and (field.group(1) not in 'ABCDEFG' or 'K' not in fields):
      letter, value = field.group(1), field.group(2).strip()
      if 'K' in fields and letter in 'KMLV':
        if fields.get(letter, [None])[0] != value:
          raise AbcError(f'{letter}: changes within the tune')
        continue
      fields.setdefault(letter, []).append(value)
    elif 'K' in fields and line.strip():
      body.append(line)
  if 'K' not in fields or 'M' not in fields or not body:
    raise AbcError('no key, metre or music')
  tonic, mode, signature = parse_key(fields['K'][0])
  metre = parse_metre(fields['M'][0])
  if 'L' in fields:
    match = re.match(r'^1/(\d+)', fields['L'][0])
    if not match:
      raise AbcError(f'unit {fields["L"][0]!r}')
    unit = _scale(WHOLE, (1, int(match.group(1))))
  else:
    unit = WHOLE // (16 if metre[0] / metre[1] < 0.75 else 8)
  measures = _Lexer(signature, unit).run('\n'.join(body))
  return Abc(fields, tonic, mode, metre, tuple(measures))


class _Lexer:
  """Turns the music lines into Measures."""

  def __init__(self, signature, unit):
    self._signature = signature
    self._unit = unit
    self._accidentals = {}
    self._measures = []
    self._current = Measure()
    self._tuplet = None  # (notes left, factor)
    self._broken = None  # factor of the next note

  def run(self, text):
    position = 0
    while position < len(text):
      match = _TOKEN.match(text, position)
      if match is None:
        raise AbcError(f'sign {text[position]!r}')
      position = match.end()
      kind = match.lastgroup
      if match.group('skip') is None:
        self._token(match, kind)
    self._bar('||')
    return self._measures

  def _token(self, match, kind):
    if match.group('bar'):
      self._bar(match.group('bar'))
      if match.group('ending1'):
        self._ending(match.group('ending1'))
    elif match.group('ending'):
      self._ending(match.group('ending'))
    elif match.group('colon'):
      self._current.starts = True
    elif match.group('tuplet'):
      p = int(match.group('p'))
      q = int(match.group('q') or _TUPLETS[p])
      self._tuplet = (int(match.group('r') or p), (q, p))
    elif match.group('tie'):
      if self._current.notes:
        pitch, length, _ = self._current.notes[-1]
        self._current.notes[-1] = (pitch, length, True)
    elif match.group('broken'):
      self._break(match.group('broken'))
    elif match.group('chord'):
      parts = _INNER.findall(match.group('inner'))
      if not parts:
        raise AbcError(f'chord {match.group("inner")!r}')
      pitches = [self._pitch(*part[:3]) for part in parts]
      self._note(max(pitches), parse_length(match.group('clen')),
                 parse_length(parts[0][3]))
    elif match.group('note'):
      pitch = self._pitch(match.group('acc'), match.group('step'),
                          match.group('oct'))
      self._note(pitch, parse_length(match.group('len')))
    elif match.group('rest'):
      self._note(None, parse_length(match.group('rlen')))
    elif match.group('field'):
      raise AbcError(f'inline field {match.group("field")!r}')

  def _pitch(self, accidental, step, octave):
    letter = step.upper()
    pitch = 60 + _STEPS[letter] + 12 * step.islower()
    pitch += 12 * (octave.count("'") - octave.count(','))
    key = (letter, pitch)
    if accidental:
      self._accidentals[key] = {
          '^': 1, '^^': 2, '_': -1, '__': -2, '=': 0}[accidental]
    return pitch + self._accidentals.get(key, self._signature.get(letter, 0))

  def _note(self, pitch, *factors):
    length = self._unit
    for factor in factors:
      length = _scale(length, factor)
    if self._tuplet:
      left, factor = self._tuplet
      length = _scale(length, factor)
      self._tuplet = (left - 1, factor) if left > 1 else None
    if self._broken:
      length = _scale(length, self._broken)
      self._broken = None
    if length > 4 * WHOLE:
      raise AbcError(f'a note of {length / WHOLE:g} whole notes')
    self._current.notes.append((pitch, length, False))

  def _break(self, signs):
    if not self._current.notes:
      raise AbcError('broken rhythm without a note')
    whole = 2**len(signs)  # '>' is 3/2 and 1/2, '>>' is 7/4 and 1/4
    before, after = (2 * whole - 1, whole), (1, whole)
    if signs[0] == '<':
      before, after = after, before
    pitch, length, tied = self._current.notes[-1]
    self._current.notes[-1] = (pitch, _scale(length, before), tied)
    self._broken = after

  def _ending(self, text):
    numbers = re.findall(r'[1-4](?:-[1-4])?', text)
    endings = []
    for number in numbers:
      first, _, last = number.partition('-')
      endings += range(int(first), int(last or first) + 1)
    self._current.endings = tuple(endings)

  def _bar(self, sign):
    ends = sign.startswith(':')
    starts = sign.endswith(':') and (sign != ':|')
    closes = ends or starts or sign.count('|') > 1 or ']' in sign
    current = self._current
    if current.notes:
      current.ends, current.closes = ends, closes
      self._measures.append(current)
      endings = () if closes else current.endings
    else:  # two signs in a row, or one that opens the line
      if self._measures and (ends or closes):
        self._measures[-1].ends |= ends
        self._measures[-1].closes |= closes
      starts |= current.starts
      endings = () if closes else current.endings
    self._current = Measure(starts=starts, endings=endings)
    self._accidentals = {}
    self._tuplet = self._broken = None


def expand(measures):
  """The measures in the order in which they are played.

  >>> a, b, c = Measure(['a']), Measure(['b'], ends=True), Measure(['c'])
  >>> [m.notes[0] for m in expand([a, b, c])]
  ['a', 'b', 'a', 'b', 'c']
  """
  played, start, turn, i = [], 0, 1, 0
  while i < len(measures):
    measure = measures[i]
    if measure.starts and turn == 1:
      start = i
    if measure.endings and turn not in measure.endings:
      # After the last pass an ending that is never reached is skipped; a
      # first ending that nobody repeats was played as turn 1.
      i += 1
      continue
    played.append(measure)
    i += 1
    if measure.ends and turn == 1:
      i, turn = start, 2
    elif measure.ends or (measure.closes and not _awaits(measures, i, turn)):
      start, turn = i, 1
  return played


def _awaits(measures, i, turn):
  """True where the next measure is another ending of the same repeat."""
  return i < len(measures) and measures[i].endings and turn == 1


def to_bars(played, bar_length):
  """Lays played measures on a regular grid.

  Incomplete measures that together fill a bar (the end of a part and the
  upbeat of the next) are one bar. A measure of a wrong length is cut or
  lengthened, and counted.

  Args:
    played: Measures.
    bar_length: ticks of a bar.

  Returns:
    (notes, num_bars, faults): notes are (start, length, pitch) in ticks from
    the first bar line of a grid whose bar 0 may hold the upbeat alone.
  """
  bars, pending, faults = [], [], 0
  for index, measure in enumerate(played):
    length = measure.length
    filled = sum(n[1] for n in pending)
    if filled and filled + length <= bar_length:
      pending = pending + list(measure.notes)
    else:
      if filled:
        faults += 1
        bars.append(pending + [(None, bar_length - filled, False)])
        pending = []
      pending = list(measure.notes)
      if index == 0 and length < bar_length:
        pending = [(None, bar_length - length, False)] + pending
    filled = sum(n[1] for n in pending)
    if filled > bar_length:
      faults += 1
      bars.append(_cut(pending, bar_length))
      pending = []
    elif filled == bar_length:
      bars.append(pending)
      pending = []
  if pending:
    filled = sum(n[1] for n in pending)
    bars.append(pending + [(None, bar_length - filled, False)])
  notes, time, tied = [], 0, False
  for bar in bars:
    for pitch, length, tie in bar:
      if pitch is not None:
        if tied and notes and notes[-1][2] == pitch:
          notes[-1] = (notes[-1][0], notes[-1][1] + length, pitch)
        else:
          notes.append((time, length, pitch))
        tied = tie
      time += length
  return notes, len(bars), faults


def _cut(notes, limit):
  """The notes up to `limit`, the last one shortened."""
  out, time = [], 0
  for pitch, length, tied in notes:
    if time + length >= limit:
      out.append((pitch, limit - time, False))
      break
    out.append((pitch, length, tied))
    time += length
  return out
