"""The notes of each part of a planned track, in seconds.

  tune + Plan --write--> Score: melody, backing (second, chords, bass), drums
"""

import dataclasses

import numpy as np

from musiclm_jax.data.folk_gm import arrange
from musiclm_jax.data.folk_gm import harmony
from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import patterns

_CHORD_BASE = 48  # chords are voiced upwards from this MIDI pitch


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


def write(tune, plan, rng):
  """Writes out the parts of a plan.

  Args:
    tune: the Tune that was planned for.
    plan: its Plan.
    rng: numpy Generator for timing, accents and pattern variants.

  Returns:
    A Score.
  """
  notes = played_melody(tune, plan)
  clock = _Clock(plan, tune)
  start, end = clock(notes[:, 0]), clock(notes[:, 0] + notes[:, 1])
  lead = instruments.find(plan.lead)
  plain = np.stack([start, end - start, notes[:, 2] + plan.shift], axis=1)
  velocity = _accents(notes, tune, rng)
  played = _humanise(np.column_stack([plain, velocity]), rng)
  played = _articulate(played, lead, rng)
  if plan.ornament:
    played = _ornament(played, tune, plan, rng)
  backing = {}
  if plan.second:
    backing['second'] = _second_part(plain, velocity, plan, rng)
  if plan.chords or plan.bass:
    _accompany(tune, plan, clock, rng, backing)
  drums = _drum_part(tune, plan, clock, rng) if plan.drums else None
  return Score(Part(lead.program, played), backing, drums, plain,
               plan.seconds)


def played_melody(tune, plan):
  """[n, 3] the tune's notes in bars, repeated to the length of the plan."""
  times = -(-plan.num_bars // tune.period)
  rounds = []
  for k in range(times):
    notes = tune.notes.copy()
    notes[:, 0] += k * tune.period
    rounds.append(notes)
  notes = np.concatenate(rounds)
  notes = notes[notes[:, 0] < plan.num_bars - 1e-6]
  notes[:, 1] = np.minimum(notes[:, 1], plan.num_bars - notes[:, 0])
  return notes


class _Clock:
  """Bars -> seconds, with swing; the upbeat's rest is cut off."""

  def __init__(self, plan, tune):
    self._bar = plan.bar_seconds
    self._swing = plan.swing
    # A pair of steps: quavers of a duple bar.
    self._pairs = 4 if tune.metre == 'duple' else 0
    self._lead_in = arrange.lead_in(tune)

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
  beats = arrange.BEATS[tune.metre]
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


def _ornament(notes, tune, plan, rng):
  """Grace notes before, or trills over, some of the notes."""
  scale = [(plan.tonic + s) % 12 for s in harmony.SCALES[tune.mode]]
  out = []
  for start, length, pitch, velocity in notes:
    upper = pitch + (1 if (int(pitch) + 1) % 12 in scale else 2)
    if plan.ornament == 'trills' and length > 0.28 and rng.random() < 0.6:
      count = int(min(length * 0.7, 0.6) / 0.075) // 2 * 2
      for k in range(count):
        out.append((start + k * 0.075, 0.08, upper if k % 2 else pitch,
                    velocity - 4 * (k > 0)))
      held = 0.075 * count
      out.append((start + held, length - held, pitch, velocity - 4))
    elif plan.ornament == 'grace notes' and length > 0.13 and (
        rng.random() < 0.35):
      grace = min(0.05, length * 0.3)
      out.append((start, grace, upper, velocity - 10))
      out.append((start + grace, length - grace, pitch, velocity))
    else:
      out.append((start, length, pitch, velocity))
  return np.array(out)


def _second_part(plain, velocity, plan, rng):
  row = instruments.LEADS[plan.second]
  centre, middle = np.median(plain[:, 2]), (row.low + row.high) / 2
  octaves = int(np.clip(np.round((middle - centre) / 12), -2, 2))
  notes = np.column_stack([plain, velocity - 12])
  notes[:, 2] += 12 * octaves
  return Part(row.program, _articulate(_humanise(notes, rng), row, rng))


def _accompany(tune, plan, clock, rng, backing):
  """Adds the parts of chords (or drone) and bass to `backing`."""
  steps = patterns.STEPS[tune.metre]
  spans = harmony.SPANS_PER_BAR[tune.metre]
  grid = harmony.chords(tune)
  grid[:, 0] = (grid[:, 0] + plan.shift) % 12
  first_bar = int(np.floor(tune.upbeat + 1e-6)) + (tune.upbeat % 1 > 1e-6)
  if plan.chord_style == 'drone':
    row = instruments.CHORDS.get(plan.chords) or instruments.find(plan.chords)
    backing['chords'] = Part(row.program, _drone(plan, clock))
  else:
    for name, key, table, style in (
        ('chords', plan.chords, patterns.CHORDS, plan.chord_style),
        ('bass', plan.bass, patterns.BASS, plan.bass_style)):
      if not key:
        continue
      row = (instruments.CHORDS if name == 'chords' else
             instruments.BASSES)[key]
      base = _CHORD_BASE if name == 'chords' else row.low
      pattern = patterns.of(table[style], tune.metre)
      notes = []
      for bar in range(first_bar, plan.num_bars):
        for step, length, what in pattern:
          span = _tune_bar(tune, bar) * spans + step * spans // steps
          begin = clock(bar + step / steps)
          end = clock(bar + min(step + length, steps) / steps)
          accent = 6 if step == 0 else 0
          for k, pitch in enumerate(_voicing(grid[span], what, base)):
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


def _drone(plan, clock):
  """Tonic and fifth held, renewed every four bars."""
  low = 43 + (plan.tonic - 43) % 12
  notes = []
  for bar in range(0, plan.num_bars, 4):
    begin, end = clock(bar), clock(min(bar + 4, plan.num_bars))
    notes += [(begin, end - begin, low, 64), (begin, end - begin, low + 7, 58)]
  return np.array(notes, np.float64)


def _drum_part(tune, plan, clock, rng):
  variants = patterns.of(patterns.DRUMS[plan.drums], tune.metre)
  steps, notes = patterns.STEPS[tune.metre], []
  base = variants[int(rng.integers(len(variants)))]
  for bar in range(int(tune.upbeat > 0.5), plan.num_bars):
    for key, line in base.items():
      for step, sign in enumerate(line):
        if sign == '.' or (sign == '-' and rng.random() < 0.3):
          continue
        begin = clock(bar + step / steps)
        notes.append((begin, 0.1, key,
                      patterns.VELOCITY[sign] + rng.normal(0, 4)))
  return Part(patterns.DRUM_KITS[plan.drums],
              _humanise(np.array(notes), rng), bank=128)
