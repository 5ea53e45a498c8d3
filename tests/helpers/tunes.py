"""Small melody corpora: random tunes, played by tones of several timbres."""

import numpy as np

from musiclm_jax import records

RATE = 24_000
TIMBRES = ((1.0,), (1.0, 0.5, 0.3, 0.2), (1.0, 0.0, 0.5, 0.0, 0.3))


def play(notes, harmonics=(1.0,), seconds=None):
  """[N] float32 of notes [start s, length s, MIDI pitch]."""
  seconds = seconds or notes[-1][0] + notes[-1][1]
  audio = np.zeros(int(seconds * RATE), np.float32)
  for start, length, pitch in notes:
    time = np.arange(int(length * RATE)) / RATE
    hz = 440.0 * 2.0**((pitch - 69) / 12)
    tone = sum(a * np.sin(2 * np.pi * hz * (k + 1) * time)
               for k, a in enumerate(harmonics)) * np.exp(-2 * time)
    first = int(start * RATE)
    part = audio[first:first + len(tone)]
    part += tone[:len(part)]
  return 0.3 * audio / np.abs(audio).max()


def tune(seed, count=48):
  """[count] (beats, scale pitch) of a random tune in C."""
  rng = np.random.default_rng([7, seed])
  scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])
  return [(rng.choice([0.5, 1.0]), int(60 + rng.choice(scale)))
          for _ in range(count)]


def version(melody, beat_seconds, shift, lead_in=0.0):
  """[[start, length, pitch], ...] of a tune at a tempo, in a key."""
  notes, now = [], lead_in
  for beats, pitch in melody:
    length = beats * beat_seconds
    notes.append([round(now, 3), round(length, 3), pitch + shift])
    now += length
  return notes


def write(directory, train=4, test=3):
  """Each tune in two versions: timbre, key and tempo differ."""
  with records.Writer(directory, 'tunes', RATE, licence='CC0') as out:
    number = 0
    for split, count in (('train', train), ('validation', 2), ('test', test)):
      for _ in range(count):
        melody = tune(number)
        for v, (beat, shift) in enumerate(((0.4, 0), (0.5, 5))):
          notes = version(melody, beat, shift, 0.1 * v)
          out.add(split, f't{number}.v{v}', play(notes, TIMBRES[v]),
                  tune=f't{number}', cluster=f'c{number}', melody=notes,
                  key=f'{"CF"[v]} major', program=v,
                  instrument=f'instrument {v}',
                  arrangement='hummed' if v and number % 3 == 2
                  else 'arrangement')
        number += 1
  return records.Corpus(directory)
