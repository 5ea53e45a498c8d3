"""What is known of clips: columns of a CSV or a corpus's metadata, as values.

  fact        columns               values
  tempo       tempo_bpm tempo bpm   beats a minute, '120' as well as 120.0
  key         key                   'B flat major', 'Bb major', 'Gm', 'D dorian'
  mode        mode, key             'major', 'minor' and the church modes
  family      family                names, such as folk_gm's 'bowed strings'
  percussion  percussion drums      yes or no; or what drums there are
  register    register              names, such as 'low', 'middle', 'high'
  mean_pitch  mean_pitch            MIDI number, 60 for middle C

In `drums` nothing means that there are none, as in folk_gm; in all others, that
it is not known.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from musiclm_jax.evaluation import clip_sets
from musiclm_jax.metrics import keys

_YES = ('yes', 'true', 'y', '1', '1.0')
_NO = ('no', 'false', 'n', '0', '0.0', 'none', '')
_TEMPI, _PITCHES = (20.0, 400.0), (0.0, 127.0)


@dataclasses.dataclass(frozen=True)
class Fact:
  """One kind of fact.

  Attributes:
    columns: that may have it, the first one that does counts.
    read: (value, all facts of the clip) -> value; None where it does not tell,
      ValueError where it is not understood.
    empty: whether '' says something.
  """

  columns: tuple[str, ...]
  read: Callable[[Any, Mapping[str, Any]], Any]
  empty: tuple[str, ...] = ()


def _number(value, low, high):
  number = float(str(value).strip().lower().removesuffix('bpm'))
  if not low <= number <= high or math.isnan(number):
    raise ValueError(f'{value!r} is not between {low:g} and {high:g}.')
  return number


def _key(value, facts):
  return keys.parse(value, str(facts.get('mode') or ''))


def _mode(value, facts):
  """Of a column `mode`, or of a key that names one."""
  if str(facts.get('mode') or '').strip():
    return keys.parse_mode(value)
  return keys.mode_in(value)


def _percussion(value, facts):
  text = str(value).strip().lower()
  if text in _YES + _NO:
    return text in _YES
  if 'percussion' in facts and facts['percussion'] == value:
    raise ValueError(f'{value!r} is neither yes nor no.')
  return True  # the names of drums


def _name(value, facts):
  return str(value).strip().lower()


FACTS = {
    'tempo': Fact(('tempo_bpm', 'tempo', 'bpm'),
                  lambda value, facts: _number(value, *_TEMPI)),
    'key': Fact(('key',), _key),
    'mode': Fact(('mode', 'key'), _mode),
    'family': Fact(('family',), _name),
    'percussion': Fact(('percussion', 'drums'), _percussion, empty=('drums',)),
    'register': Fact(('register',), _name),
    'mean_pitch': Fact(('mean_pitch',),
                       lambda value, facts: _number(value, *_PITCHES)),
}


@dataclasses.dataclass(frozen=True)
class Known:
  """What is known of a set's clips.

  Attributes:
    values: {fact: {clip id: value}}; every fact has an entry.
    odd: {fact: what was there, but not understood}.
    count: clips that were asked of.
  """

  values: Mapping[str, Mapping[str, Any]]
  odd: Mapping[str, tuple[Any, ...]]
  count: int

  def line(self) -> str:
    """One line: which facts there are, which are not, with counts."""
    have = [f'{name} {len(found)}' for name, found in self.values.items()
            if found]
    absent = [name for name, found in self.values.items() if not found]
    parts = [', '.join(have) or 'none']
    if absent:
      parts.append(f'absent: {", ".join(absent)}')
    parts += [f'{len(values)} of {name} not understood, such as {values[0]!r}'
              for name, values in self.odd.items() if values]
    return f'facts of {self.count} clips: {"; ".join(parts)}'


def known(clips: Iterable[clip_sets.Clip],
          others: Mapping[str, Mapping[str, Any]] | None = None) -> Known:
  """Reads the facts of clips.

  Args:
    clips: whose `facts` they are.
    others: {id: facts} for clips that have none of their own, such as those of
      the recording that a clip was drawn for.
  """
  values = {name: {} for name in FACTS}
  odd = {name: [] for name in FACTS}
  count = 0
  for clip in clips:
    count += 1
    for name, fact in FACTS.items():
      found = _find(fact, clip.facts)
      facts = clip.facts
      if found is None and others:
        facts = others.get(clip.id, {})
        found = _find(fact, facts)
      if found is None:
        continue
      try:
        value = fact.read(found, facts)
      except ValueError:
        odd[name].append(found)
        continue
      if value is not None:
        values[name][clip.id] = value
  return Known(values, {name: tuple(v) for name, v in odd.items()}, count)


def _find(fact, facts):
  """The first column's value that says something, or None."""
  for column in fact.columns:
    value = facts.get(column)
    if value is not None and (
        str(value).strip() != '' or column in fact.empty):
      return value
  return None
