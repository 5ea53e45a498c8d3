"""From a tune and a seed to a score: who plays what, how fast, how loud.

  plan(tune, rng, kind) -> Plan    every decision, known before any sound is made
  score(tune, plan, rng) -> Score  the notes of each part, in seconds

Plans are cheap, so that a corpus of H hours is planned before it is rendered.
"""

import dataclasses

import numpy as np

from musiclm_jax.data.folk_gm import harmony
from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import patterns

# Felt beats per minute, by rhythm, and beats in a bar by metre.
_TEMPI = {
    'reel': (84, 118), 'jig': (92, 132), 'slip jig': (92, 128),
    'hornpipe': (62, 90), 'strathspey': (48, 64), 'polka': (92, 132),
    'march': (50, 66), 'slide': (110, 140), 'waltz': (96, 176),
    'minuet': (96, 126), 'air': (44, 84)}
BEATS = dict(duple=2, jig=2, slip=3, triple=3)
BEATS['double jig'] = 4
# A bar of these has four beats to the ear, though two to the dancer.
_COUNTED_IN_FOUR = ('hornpipe', 'strathspey', 'march')
_MAX_NOTES_PER_S = 9.0
_AIR_NOTES_PER_S = (1.5, 3.0)
_SWING = {'hornpipe': 0.62, 'polka': 0.54, 'reel': 0.53}
_DRUMS = {
    'reel': ('hand', 'hand', 'kit', 'spoons', 'tambourine', 'shaker'),
    'jig': ('hand', 'hand', 'tambourine', 'kit', 'spoons', 'shaker'),
    'slip jig': ('hand', 'hand', 'tambourine', 'shaker', 'spoons'),
    'hornpipe': ('hand', 'kit', 'spoons', 'brushes', 'tambourine'),
    'strathspey': ('march', 'hand', 'kit', 'tambourine'),
    'polka': ('kit', 'tambourine', 'hand', 'spoons'),
    'march': ('march', 'march', 'march', 'kit', 'tambourine'),
    'slide': ('hand', 'tambourine', 'spoons'),
    'waltz': ('brushes', 'kit', 'hand', 'tambourine', 'shaker'),
    'minuet': ('tambourine', 'brushes'),
    'air': ('brushes', 'shaker', 'hand')}
# texture: (weight, chords, bass, drums, drone)
TEXTURES = dict(
    solo=(0.13, 0, 0, 0, 0), drums=(0.13, 0, 0, 1, 0), duo=(0.17, 1, 0, 0, 0),
    trio=(0.12, 1, 1, 0, 0), percussive=(0.17, 1, 0, 1, 0),
    band=(0.22, 1, 1, 1, 0), drone=(0.06, 0, 0, 0, 1))
_LOUDNESS = dict(soft=-25.0, moderate=-20.5, loud=-17.0)  # dBFS, RMS
_SHIFTS = (-5, -4, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, 5)
NOTE_NAMES = ('C', 'C sharp', 'D', 'E flat', 'E', 'F', 'F sharp', 'G', 'A flat',
              'A', 'B flat', 'B')
MIN_SECONDS, MAX_SECONDS = 31.5, 75.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """Every decision of one track; see `plan`.

  Attributes:
    kind: 'arrangement' or 'hummed'.
    rhythm: how it is played (an air in three may be played as a waltz).
    lead, second, chords, bass: instrument keys, '' where nobody plays.
    drums: key of instruments.DRUMS or ''.
    texture: key of TEXTURES.
    tempo_bpm: beats a minute, as a listener counts them.
    bar_seconds: length of a bar.
    num_bars: bars played; repeats of the tune included.
    seconds: length of the music, before the last notes die away.
    shift: semitones added to the tune for the lead.
    tonic, mode: of what sounds.
    dynamics: key of _LOUDNESS, and rms_db, its level.
    ornament: '', 'grace notes', 'trills'.
    room: 'dry', 'room' or 'hall'.
    chord_style, bass_style: keys of the pattern tables, or ''.
    second_shift: semitones between the second instrument and the lead.
    swing: share of a pair of steps that the first takes.
  """

  kind: str
  rhythm: str
  lead: str
  second: str
  chords: str
  bass: str
  drums: str
  texture: str
  tempo_bpm: float
  bar_seconds: float
  num_bars: int
  seconds: float
  shift: int
  tonic: int
  mode: str
  dynamics: str
  rms_db: float
  ornament: str
  room: str
  chord_style: str
  bass_style: str
  second_shift: int
  swing: float

  @property
  def key_name(self):
    return f'{NOTE_NAMES[self.tonic]} {self.mode}'


@dataclasses.dataclass
class Part:
  """Notes of one instrument: rows (start s, length s, pitch, velocity)."""

  program: int | None
  notes: np.ndarray
  bank: int = 0


@dataclasses.dataclass
class Score:
  """The parts of a track.

  Attributes:
    melody: the lead's Part.
    backing: Parts of second, chords, bass and drone, by name.
    drums: a Part with bank 128, or None.
    tune_notes: [n, 3] the melody without ornaments: start, length, pitch.
    seconds: length of the music.
  """

  melody: Part
  backing: dict
  drums: Part | None
  tune_notes: np.ndarray
  seconds: float


def _pick(rng, weights):
  """A key of `weights` (dict key -> weight), drawn by weight."""
  keys = list(weights)
  values = np.array([weights[k] for k in keys], np.float64)
  return keys[int(rng.choice(len(keys), p=values / values.sum()))]


def _weights(table):
  return {key: row.weight for key, row in table.items()}


def plan(tune, rng, kind='arrangement', avoid=()):
  """Decides one track.

  Args:
    tune: a Tune.
    rng: numpy Generator; the only source of chance.
    kind: 'arrangement' or 'hummed'.
    avoid: leads that earlier tracks of this tune have had.

  Returns:
    A Plan.
  """
  hummed = kind == 'hummed'
  rhythm = tune.rhythm
  if tune.metre == 'triple' and rhythm in ('air', 'waltz'):
    rhythm = 'waltz' if rng.random() < 0.5 else 'air'
  table = instruments.HUMMERS if hummed else instruments.LEADS
  weights = {k: w for k, w in _weights(table).items() if k not in avoid}
  lead = _pick(rng, weights or _weights(table))
  texture = 'solo' if hummed else _pick(
      rng, {k: v[0] for k, v in TEXTURES.items()})
  if lead == 'bagpipes' and texture == 'solo':
    texture = 'drone'
  if rhythm == 'air' and TEXTURES[texture][3] and rng.random() < 0.75:
    texture = {'drums': 'solo', 'percussive': 'duo', 'band': 'trio'}[texture]
  _, has_chords, has_bass, has_drums, has_drone = TEXTURES[texture]
  chords = _chord_player(rng, lead) if has_chords else ''
  if has_drone:
    chords = lead if lead in ('bagpipes', 'accordion', 'reed organ') else (
        'strings')
  bass = _pick(rng, _weights(instruments.BASSES)) if has_bass else ''
  drums = str(rng.choice(_DRUMS[rhythm])) if has_drums else ''
  second, second_shift = _second_player(rng, lead, hummed)
  tempo, bar_seconds = _tempo(tune, rhythm, rng, hummed)
  num_bars = _length(tune, bar_seconds, rng)
  shift = _transposition(tune, lead, rng)
  dynamics = _pick(rng, dict(soft=0.25, moderate=0.5, loud=0.25))
  if hummed:
    dynamics = _pick(rng, dict(soft=0.5, moderate=0.5))
  return Plan(
      kind=kind, rhythm=rhythm, lead=lead, second=second, chords=chords,
      bass=bass, drums=drums, texture=texture, tempo_bpm=round(tempo, 1),
      bar_seconds=bar_seconds, num_bars=num_bars,
      seconds=(num_bars - _lead_in(tune)) * bar_seconds,
      shift=shift, tonic=(tune.tonic + shift) % 12, mode=tune.mode,
      dynamics=dynamics,
      rms_db=_LOUDNESS[dynamics] + float(rng.uniform(-1, 1)),
      ornament='' if hummed else _pick(
          rng, {'': 0.6, 'grace notes': 0.28, 'trills': 0.12}),
      room=_pick(rng, dict(dry=0.5, room=0.3, hall=0.2)),
      chord_style='' if not chords else 'drone' if has_drone else
      _chord_style(rng, chords, rhythm),
      bass_style=str(rng.choice(list(patterns.BASS))) if bass else '',
      second_shift=second_shift, swing=_SWING.get(rhythm, 0.5))


def _chord_player(rng, lead):
  program = instruments.find(lead).program
  return _pick(rng, {
      k: row.weight for k, row in instruments.CHORDS.items()
      if row.program != program})


def _second_player(rng, lead, hummed):
  """Now and then another instrument doubles the lead, an octave off or not."""
  if hummed or rng.random() > 0.15:
    return '', 0
  family = instruments.find(lead).family
  second = _pick(rng, {
      k: row.weight for k, row in instruments.LEADS.items()
      if row.family != family})
  return second, 0


def _chord_style(rng, chords, rhythm):
  row = instruments.CHORDS[chords]
  if row.sustained:
    return _pick(rng, dict(sustain=0.75, vamp=0.25))
  if rhythm in ('air', 'minuet'):
    return _pick(rng, dict(arpeggio=0.6, strum=0.2, sustain=0.2))
  if chords in ('harp',):
    return _pick(rng, dict(arpeggio=0.7, strum=0.3))
  return _pick(rng, dict(vamp=0.4, strum=0.4, arpeggio=0.2))


def _tempo(tune, rhythm, rng, hummed):
  """(beats a minute as counted, seconds a bar), kept playable."""
  beats = BEATS[tune.metre]
  if rhythm == 'air':
    rate = rng.uniform(*_AIR_NOTES_PER_S)
    bar_seconds = float(np.clip(tune.notes_per_bar / rate, 1.6, 5.0))
  else:
    bpm = rng.uniform(*_TEMPI[rhythm]) * (0.85 if hummed else 1.0)
    bar_seconds = beats * 60.0 / bpm
  limit = _MAX_NOTES_PER_S * (0.7 if hummed else 1.0)
  bar_seconds = max(bar_seconds, tune.notes_per_bar / limit)
  if tune.metre == 'duple' and rhythm in _COUNTED_IN_FOUR:
    beats = 4
  return beats * 60.0 / bar_seconds, bar_seconds


def _transposition(tune, lead, rng):
  """Semitones that put the tune into the lead's range, in some key."""
  row = instruments.find(lead)
  pitches = tune.notes[:, 2]
  base = int(rng.choice(_SHIFTS))
  options = [base + 12 * k for k in range(-4, 5)]

  def outside(shift):
    return (np.maximum(row.low - pitches - shift, 0).sum() +
            np.maximum(pitches + shift - row.high, 0).sum())

  best = min(outside(s) for s in options)
  fitting = [s for s in options if outside(s) <= best]
  return int(fitting[rng.integers(len(fitting))])


def _lead_in(tune):
  """Bars of silence that are cut off before an upbeat."""
  return max(0.0, tune.upbeat - 1.0 / 12)


def _length(tune, bar_seconds, rng):
  """Bars to play: whole tunes, then four-bar phrases, 31 to 75 s."""
  shortest = int(np.ceil(MIN_SECONDS / bar_seconds + _lead_in(tune)))
  target = rng.uniform(MIN_SECONDS, 45.0)
  times = max(1, int(np.ceil(target / (tune.period * bar_seconds))))
  bars = times * tune.period + tune.num_bars - tune.period
  longest = rng.uniform(40.0, MAX_SECONDS)
  if bars * bar_seconds > longest:
    upbeat_bar = tune.num_bars - tune.period
    bars = int(longest / bar_seconds) // 4 * 4 + upbeat_bar
  return max(bars, shortest)


def score(tune, plan_, rng):
  """Writes out the parts of a plan.

  Args:
    tune: the Tune that was planned for.
    plan_: its Plan.
    rng: numpy Generator for timing, accents and pattern variants.

  Returns:
    A Score.
  """
  notes = _played_melody(tune, plan_)
  clock = _Clock(plan_, tune)
  start, end = clock(notes[:, 0]), clock(notes[:, 0] + notes[:, 1])
  lead = instruments.find(plan_.lead)
  plain = np.stack([start, end - start, notes[:, 2] + plan_.shift], axis=1)
  velocity = _accents(notes, tune, rng)
  played = _humanise(np.column_stack([plain, velocity]), rng)
  played = _articulate(played, lead, rng)
  if plan_.ornament:
    played = _ornament(played, tune, plan_, rng)
  backing = {}
  if plan_.second:
    backing['second'] = _second_part(plain, velocity, plan_, rng)
  if plan_.chords or plan_.bass:
    _accompany(tune, plan_, clock, rng, backing)
  drums = _drum_part(tune, plan_, clock, rng) if plan_.drums else None
  return Score(Part(lead.program, played), backing, drums, plain,
               plan_.seconds)


def _played_melody(tune, plan_):
  """[n, 3] the tune's notes in bars, repeated to the length of the plan."""
  times = -(-plan_.num_bars // tune.period)
  rounds = []
  for k in range(times):
    notes = tune.notes.copy()
    notes[:, 0] += k * tune.period
    rounds.append(notes)
  notes = np.concatenate(rounds)
  notes = notes[notes[:, 0] < plan_.num_bars - 1e-6]
  notes[:, 1] = np.minimum(notes[:, 1], plan_.num_bars - notes[:, 0])
  return notes


class _Clock:
  """Bars -> seconds, with swing; the upbeat's rest is cut off."""

  def __init__(self, plan_, tune):
    self._bar = plan_.bar_seconds
    self._swing = plan_.swing
    # A pair of steps: quavers of a duple bar.
    self._pairs = 4 if tune.metre == 'duple' else 0
    self._lead_in = _lead_in(tune)

  def __call__(self, bars):
    bars = np.asarray(bars, np.float64)
    if self._pairs and self._swing != 0.5:
      pair = bars * self._pairs
      whole = np.floor(pair + 1e-9)
      inside = pair - whole
      late = np.where(
          inside < 0.5, inside * 2 * self._swing,
          self._swing + (inside - 0.5) * 2 * (1 - self._swing))
      bars = (whole + late) / self._pairs
    return np.maximum(0.0, (bars - self._lead_in) * self._bar)


def _accents(notes, tune, rng):
  """[n] velocities: beats louder, phrases swelling a little."""
  beats = BEATS[tune.metre]
  phase = notes[:, 0] * beats
  on_beat = np.abs(phase - np.round(phase)) < 1e-3
  on_bar = np.abs(notes[:, 0] - np.round(notes[:, 0])) < 1e-3
  swell = 5 * np.sin(2 * np.pi * notes[:, 0] / 8)
  velocity = 84 + 8 * on_beat + 5 * on_bar + swell
  return velocity + rng.normal(0, 4, len(notes))


def _humanise(notes, rng):
  """Shifts starts by some milliseconds, keeps them in order."""
  notes = notes.copy()
  notes[:, 0] = np.maximum(0, notes[:, 0] + rng.normal(0, 0.006, len(notes)))
  notes[:, 3] = np.clip(notes[:, 3], 30, 122)
  return notes


def _articulate(notes, lead, rng):
  """Sustained instruments leave a small gap; plucked ones ring on."""
  notes = notes.copy()
  share = rng.uniform(0.86, 0.97) if lead.sustained else 1.15
  notes[:, 1] = np.maximum(notes[:, 1] * share, 0.04)
  return notes


def _ornament(notes, tune, plan_, rng):
  """Grace notes before, or trills over, some of the notes."""
  scale = [(plan_.tonic + s) % 12 for s in harmony.SCALES[tune.mode]]
  out = []
  for start, length, pitch, velocity in notes:
    upper = pitch + (1 if (int(pitch) + 1) % 12 in scale else 2)
    if plan_.ornament == 'trills' and length > 0.28 and rng.random() < 0.6:
      count = int(min(length * 0.7, 0.6) / 0.075) // 2 * 2
      for k in range(count):
        out.append((start + k * 0.075, 0.08, upper if k % 2 else pitch,
                    velocity - 4 * (k > 0)))
      held = 0.075 * count
      out.append((start + held, length - held, pitch, velocity - 4))
    elif plan_.ornament == 'grace notes' and length > 0.13 and (
        rng.random() < 0.35):
      grace = min(0.05, length * 0.3)
      out.append((start, grace, upper, velocity - 10))
      out.append((start + grace, length - grace, pitch, velocity))
    else:
      out.append((start, length, pitch, velocity))
  return np.array(out)


def _second_part(plain, velocity, plan_, rng):
  row = instruments.LEADS[plan_.second]
  centre, middle = np.median(plain[:, 2]), (row.low + row.high) / 2
  octaves = int(np.clip(np.round((middle - centre) / 12), -2, 2))
  notes = np.column_stack([plain, velocity - 12])
  notes[:, 2] += 12 * octaves
  return Part(row.program, _articulate(_humanise(notes, rng), row, rng))


def _accompany(tune, plan_, clock, rng, backing):
  """Adds the parts of chords (or drone) and bass to `backing`."""
  steps = patterns.STEPS[tune.metre]
  spans = harmony.SPANS_PER_BAR[tune.metre]
  grid = harmony.chords(tune)
  grid[:, 0] = (grid[:, 0] + plan_.shift) % 12
  first_bar = int(np.floor(tune.upbeat + 1e-6)) + (tune.upbeat % 1 > 1e-6)
  if plan_.chord_style == 'drone':
    row = instruments.CHORDS.get(plan_.chords) or instruments.find(plan_.chords)
    backing['chords'] = Part(row.program, _drone(plan_, clock))
  else:
    for name, key, table, style, base in (
        ('chords', plan_.chords, patterns.CHORDS, plan_.chord_style, 48),
        ('bass', plan_.bass, patterns.BASS, plan_.bass_style, 28)):
      if not key:
        continue
      row = (instruments.CHORDS if name == 'chords' else
             instruments.BASSES)[key]
      pattern = patterns.of(table[style], tune.metre)
      notes = []
      for bar in range(first_bar, plan_.num_bars):
        for step, length, what in pattern:
          span = _tune_bar(tune, bar) * spans + step * spans // steps
          begin = clock(bar + step / steps)
          end = clock(bar + min(step + length, steps) / steps)
          accent = 6 if step == 0 else 0
          for k, pitch in enumerate(
              _voicing(grid[span], what, base if name == 'chords' else row.low)):
            strum = 0.012 * k if style == 'strum' else 0.0
            notes.append((begin + strum, (end - begin) * 0.95, pitch,
                          72 + accent + rng.normal(0, 3)))
      backing[name] = Part(row.program, _humanise(np.array(notes), rng))


def _tune_bar(tune, bar):
  """The bar of the tune that sounds in `bar` of the track."""
  within = bar % tune.period
  if within == 0 and bar and tune.period < tune.num_bars:
    return tune.num_bars - 1  # the last bar, with the next upbeat
  return within


def _voicing(chord, what, base):
  """Pitches of what a pattern asks for, from MIDI pitch `base` upwards."""
  root, major = int(chord[0]), int(chord[1])
  low = base + (root - base) % 12
  fifth = low + 7 if base >= 40 else base + (root + 7 - base) % 12
  if what == 'l':
    return [low]
  if what == 'f':
    return [fifth]
  triad = sorted(base + 7 + (root + step - base - 7) % 12
                 for step in (0, 3 + major, 7))
  if what == 'c':
    return triad
  ladder = triad + [p + 12 for p in triad]
  return [ladder[int(what)]]


def _drone(plan_, clock):
  """Tonic and fifth held, renewed every four bars."""
  low = 43 + (plan_.tonic - 43) % 12
  notes = []
  for bar in range(0, plan_.num_bars, 4):
    begin, end = clock(bar), clock(min(bar + 4, plan_.num_bars))
    notes += [(begin, end - begin, low, 64), (begin, end - begin, low + 7, 58)]
  return np.array(notes, np.float64)


def _drum_part(tune, plan_, clock, rng):
  variants = patterns.of(patterns.DRUMS[plan_.drums], tune.metre)
  steps, notes = patterns.STEPS[tune.metre], []
  base = variants[int(rng.integers(len(variants)))]
  for bar in range(int(tune.upbeat > 0.5), plan_.num_bars):
    for key, line in base.items():
      for step, sign in enumerate(line):
        if sign == '.' or (sign == '-' and rng.random() < 0.3):
          continue
        begin = clock(bar + step / steps)
        notes.append((begin, 0.1, key,
                      patterns.VELOCITY[sign] + rng.normal(0, 4)))
  return Part(patterns.DRUM_KITS[plan_.drums],
              _humanise(np.array(notes), rng), bank=128)
