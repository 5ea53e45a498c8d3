"""Who plays what of a tune, in which key, how fast and how loud: the Plan.

Plans are cheap, so that a corpus of H hours is planned before any of it is
written out (score.py) and rendered.
"""

import dataclasses

import numpy as np

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
LOUDNESS = dict(soft=-25.0, moderate=-20.5, loud=-17.0)  # dBFS, RMS
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
    dynamics: key of LOUDNESS, and rms_db, its level.
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
      seconds=(num_bars - lead_in(tune)) * bar_seconds,
      shift=shift, tonic=(tune.tonic + shift) % 12, mode=tune.mode,
      dynamics=dynamics,
      rms_db=LOUDNESS[dynamics] + float(rng.uniform(-1, 1)),
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


def lead_in(tune):
  """Bars of silence that are cut off before an upbeat."""
  return max(0.0, tune.upbeat - 1.0 / 12)


def _length(tune, bar_seconds, rng):
  """Bars to play: whole tunes, then four-bar phrases, 31 to 75 s."""
  shortest = int(np.ceil(MIN_SECONDS / bar_seconds + lead_in(tune)))
  target = rng.uniform(MIN_SECONDS, 45.0)
  times = max(1, int(np.ceil(target / (tune.period * bar_seconds))))
  bars = times * tune.period + tune.num_bars - tune.period
  longest = rng.uniform(40.0, MAX_SECONDS)
  if bars * bar_seconds > longest:
    upbeat_bar = tune.num_bars - tune.period
    bars = int(longest / bar_seconds) // 4 * 4 + upbeat_bar
  return max(bars, shortest)
