"""Captions and aspects of a track: true by construction, many ways to say it.

`facts(meta)` reduces what is known of a track to words; `write` puts them into
sentences. Every template and synonym marked '*' (a fifth of them) is used in
the test split alone, where half of the choices fall on the marked ones.
"""

import re

from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import phrases

_FAST, _SLOW, _SLOW_DANCE = 5.2, 3.3, 2.0  # notes a second
_LOW, _HIGH = 58, 77  # mean MIDI pitch
CAPTIONS_PER_TRACK = 4
_NAMES_NO_DRUMS = 0.3  # of the prompts of tracks without drums, that say so


def words(entry):
  """The phrases of 'a|b|*c', without marks."""
  return [word.lstrip('*') for word in entry.split('|')]


def held_out(entry):
  """The phrases of 'a|b|*c' that only the test split may use."""
  return [word[1:] for word in entry.split('|') if word.startswith('*')]


class _Chooser:
  """Draws phrases; marked ones in the test split only, and half of the time.

  Attributes:
    used: names of the templates drawn, e.g. ['lead/3', 'mood/0'].
  """

  def __init__(self, split, rng):
    self._test = split == 'test'
    self._rng = rng
    self.used = []

  def index(self, entries):
    marked = [i for i, e in enumerate(entries) if e.startswith('*')]
    plain = [i for i, e in enumerate(entries) if not e.startswith('*')]
    if self._test and marked and (not plain or self._rng.random() < 0.5):
      return marked[self._rng.integers(len(marked))]
    return plain[self._rng.integers(len(plain))]

  def word(self, entry):
    entries = entry.split('|')
    return entries[self.index(entries)].lstrip('*')

  def template(self, name):
    entries = phrases.TEMPLATES[name]
    i = self.index(entries)
    self.used.append(f'{name}/{i}')
    return entries[i].lstrip('*')

  def chance(self, p):
    return self._rng.random() < p

  def some(self, items, count):
    order = self._rng.permutation(len(items))[:count]
    return [items[i] for i in sorted(order)]


def facts(meta):
  """Classes that the words are chosen by.

  Args:
    meta: the track's metadata, see corpus.py.

  Returns:
    dict with pace (fast, medium, slow), colour (major, minor), mood (key of
    phrases.MOODS), register (low, middle, high).
  """
  rate = meta['notes_per_second']
  slow = _SLOW if meta['rhythm'] in ('air', 'minuet') else _SLOW_DANCE
  pace = 'fast' if rate >= _FAST else 'slow' if rate < slow else 'medium'
  colour = 'minor' if meta['mode'] in ('minor', 'dorian', 'phrygian') else (
      'major')
  mean = meta['mean_pitch']
  register = 'low' if mean < _LOW else 'high' if mean > _HIGH else 'middle'
  kind = pace
  if meta['rhythm'] == 'march' and pace != 'fast':
    kind = 'march'
  return dict(pace=pace, colour=colour, mood=f'{kind} {colour}',
              register=register)


def write(meta, split, rng, count=CAPTIONS_PER_TRACK):
  """Writes the captions of a track.

  Args:
    meta: its metadata, see corpus.py.
    split: 'train', 'validation' or 'test'.
    rng: numpy Generator.
    count: captions wanted; the first is short, like a prompt.

  Returns:
    (captions, aspects, templates): lists of strings, `templates` naming the
    templates used by each caption.
  """
  fact = facts(meta)
  captions, templates = [], []
  while len(captions) < count:
    choose = _Chooser(split, rng)
    slots = _slots(meta, fact, choose)
    if not captions:
      text = _fill(choose.template(_kind(meta, 'prompt')), slots)
      if _drumless(meta) and choose.chance(_NAMES_NO_DRUMS):
        text += ', ' + choose.word(phrases.NO_DRUMS)
    else:
      text = _paragraph(meta, fact, slots, choose, 1 + (
          len(captions) + int(rng.integers(2))) % 4)
    if text not in captions:
      captions.append(text)
      templates.append(' '.join(choose.used))
  return captions, _aspects(meta, fact, _Chooser(split, rng)), templates


def _drumless(meta):
  """Whether somebody might miss the drums: not where one person hums."""
  return not meta['drums'] and meta['arrangement'] != 'hummed'


def _kind(meta, name):
  """The template list: hummed, solo or accompanied tracks have their own."""
  if meta['arrangement'] == 'hummed':
    return f'{name}_hummed'
  return name if meta['backing'] else f'{name}_solo'


def _slots(meta, fact, choose):
  """A word for every slot of the templates."""
  lead = instruments.find(meta['lead'])
  unfit = dict(loud=phrases.NOT_LOUD, soft=phrases.NOT_SOFT).get(
      meta['dynamics'], ())
  moods = [m for m in phrases.MOODS[fact['mood']].split('|')
           if m.lstrip('*') not in unfit]
  first = choose.word('|'.join(moods))
  second = choose.word('|'.join(
      m for m in moods if m.lstrip('*') != first))
  backing = []
  for part, table in (('second', instruments.LEADS),
                      ('chords', {**instruments.LEADS, **instruments.CHORDS}),
                      ('bass', instruments.BASSES)):
    if meta.get(part) and not (part == 'chords' and meta['drone']):
      backing.append(choose.word(table[meta[part]].names))
  if meta['drone']:
    backing.append(choose.word(phrases.DRONE))
  drums = meta['drums'] and choose.word(instruments.DRUMS[meta['drums']])
  if drums:
    backing.append(drums)
  return dict(
      lead=choose.word(lead.names), mood=first, mood2=second,
      rhythm=choose.word(phrases.RHYTHMS[meta['rhythm']]),
      origin=choose.word(phrases.ORIGINS[meta['origin']]),
      backing=_join(backing), one=backing[0] if backing else '',
      drums=drums, tempo=choose.word(phrases.TEMPI[fact['pace']]),
      key=meta['key'], colour=choose.word(phrases.COLOURS[fact['colour']]),
      scene=choose.word(phrases.SCENES[fact['mood']]),
      register=choose.word(phrases.REGISTERS[fact['register']]),
      dynamics=choose.word(phrases.DYNAMICS[meta['dynamics']]),
      second=meta['second'] and choose.word(
          instruments.LEADS[meta['second']].names),
      chords=meta['chords'] and not meta['drone'] and choose.word(
          instruments.CHORDS[meta['chords']].names),
      chord_style=choose.word(phrases.CHORD_STYLES.get(
          meta['chord_style'], '')),
      bass=meta['bass'] and choose.word(
          instruments.BASSES[meta['bass']].names),
      ornament=choose.word(phrases.ORNAMENTS.get(meta['ornament'], '')),
      room=choose.word(phrases.ROOMS[meta['room']]),
      bpm=str(int(round(meta['tempo_bpm']))))


def _paragraph(meta, fact, slots, choose, sentences):
  """`sentences` of them: the lead, then details in the order of a listener."""
  text = [choose.template(_kind(meta, 'lead'))]
  details = []
  for part in ('second', 'chords', 'bass', 'drums'):
    if slots[part]:
      details.append(part)
  if _drumless(meta):
    details.append('no_drums')
  if meta['drone']:
    details.append('drone')
  if meta['arrangement'] == 'hummed':
    details.append('voice')
  if meta['ornament']:
    details.append('ornament')
  details += ['tempo', 'key', 'register', 'dynamics', 'room', 'mood', 'scene']
  if fact['register'] == 'middle':
    details.remove('register')
  if meta['dynamics'] == 'moderate':
    details.remove('dynamics')
  for name in choose.some(details, sentences - 1):
    text.append(choose.template(name))
  return ' '.join(_sentence(_fill(part, slots)) for part in text)


def _fill(template, slots):
  text = template
  for name, value in slots.items():
    text = text.replace('{' + name + '}', value or '')
  text = re.sub(r'\b([Aa]) (?=[aeiouAEIOU])', r'\1n ', text)
  text = re.sub(r'\b(\w+) \1\b', r'\1', text)  # 'irish folk' + 'folk reel'
  return re.sub(r'\s+', ' ', text).strip()


def _sentence(text):
  return text[0].upper() + text[1:]


def _join(items):
  if len(items) < 2:
    return ''.join(items)
  return ', '.join(items[:-1]) + ' and ' + items[-1]


def _aspects(meta, fact, choose):
  """Short tags, like MusicCaps' aspect list."""
  slots = _slots(meta, fact, choose)
  tags = [slots['rhythm'], slots['origin'] + ' music', slots['lead'],
          slots['mood'], slots['mood2'], slots['tempo'], slots['colour']]
  tags += [slots[part] for part in ('second', 'chords', 'bass', 'drums')
           if slots[part]]
  if meta['drone']:
    tags.append('drone')
  if meta['ornament']:
    tags.append(slots['ornament'])
  if fact['register'] != 'middle':
    tags.append(slots['register'])
  if meta['dynamics'] != 'moderate':
    tags.append(slots['dynamics'])
  if meta['arrangement'] == 'hummed':
    tags += ['humming', 'a cappella']
  else:
    tags.append(choose.word(phrases.INSTRUMENTAL if meta['family'] != 'voice'
                            else phrases.WORDLESS))
    if not meta['backing']:
      tags.append(choose.word(phrases.SOLO))
  return list(dict.fromkeys(tags))
