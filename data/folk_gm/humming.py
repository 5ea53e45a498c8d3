"""A hummed tune without any sample: a few harmonics with a singer's flaws.

Pitch glides between notes, misses them by some cents, drifts over seconds and
carries a vibrato that sets in late; breath noise follows the voice and the
singer inhales between phrases. NumPy and SciPy only.
"""

import numpy as np
from scipy import signal

_CONTROL_HZ = 200.0
_GLIDE_SECONDS = 0.07
_BREATH_SECONDS = 0.32
_PHRASE_SECONDS = (4.0, 8.0)


def drift_cents(count, rate_hz, rng, depth=30.0):
  """[count] cents: vibrato on a slow random walk, sampled at `rate_hz`."""
  time = np.arange(count) / rate_hz
  knots = max(2, int(time[-1] / 1.5) + 2) if count else 2
  walk = np.clip(np.cumsum(rng.normal(0, depth / 3, knots)), -depth, depth)
  slow = np.interp(time, np.linspace(0, max(time[-1], 1e-3), knots), walk)
  vibrato_hz = rng.uniform(4.6, 6.4)
  vibrato = rng.uniform(6, 26) * np.sin(
      2 * np.pi * vibrato_hz * time + rng.uniform(0, 6.28))
  return slow + vibrato + rng.uniform(-35, 35)


def sing(notes, seconds, sample_rate_hz, rng):
  """Hums a melody.

  Args:
    notes: [n, 4] start, length (seconds), MIDI pitch, velocity.
    seconds: length of the result.
    sample_rate_hz: its rate.
    rng: numpy Generator.

  Returns:
    [seconds * sample_rate_hz] float32.
  """
  notes = _leave_room_to_breathe(np.asarray(notes, np.float64), rng)
  frames = int(np.ceil(seconds * _CONTROL_HZ)) + 1
  pitch, level = _contours(notes, frames, rng)
  pitch = pitch + drift_cents(frames, _CONTROL_HZ, rng) / 100
  total = int(round(seconds * sample_rate_hz))
  at = np.arange(total) * (_CONTROL_HZ / sample_rate_hz)
  grid = np.arange(frames)
  hertz = 440.0 * 2**((np.interp(at, grid, pitch) - 69) / 12)
  loud = np.interp(at, grid, level)
  phase = 2 * np.pi * np.cumsum(hertz) / sample_rate_hz
  slope = rng.uniform(1.7, 3.2)
  tone = np.zeros(total)
  for h in range(1, 9):
    tone += np.sin(h * phase) * h**-slope * (hertz * h < sample_rate_hz * 0.45)
  noise = _breath_noise(total, sample_rate_hz, rng)
  airy = rng.uniform(0.02, 0.09)
  voice = loud * (tone + airy * noise)
  voice += 0.25 * airy * noise  # the room between the notes
  voice += rng.uniform(0.05, 0.16) * noise * _inhalations(
      notes, total, sample_rate_hz)
  return voice.astype(np.float32)


def _leave_room_to_breathe(notes, rng):
  """Shortens the last note of each phrase."""
  notes = notes.copy()
  next_breath = notes[0, 0] + rng.uniform(*_PHRASE_SECONDS)
  for i in range(len(notes) - 1):
    end = notes[i, 0] + notes[i, 1]
    if end > next_breath and notes[i, 1] > 0.3:
      free = min(_BREATH_SECONDS, notes[i, 1] * 0.5)
      notes[i, 1] = notes[i + 1, 0] - notes[i, 0] - free
      notes[i, 1] = max(notes[i, 1], 0.12)
      next_breath = end + rng.uniform(*_PHRASE_SECONDS)
  return notes


def _contours(notes, frames, rng):
  """([frames] MIDI pitch, [frames] loudness 0..1) at the control rate."""
  pitch = np.full(frames, notes[0, 2])
  level = np.zeros(frames)
  attack = rng.uniform(0.03, 0.07)
  legato = rng.uniform(0.3, 0.7)  # how far the voice falls between notes
  for i, (start, length, midi, velocity) in enumerate(notes):
    first = int(start * _CONTROL_HZ)
    last = max(first + 2, int((start + length) * _CONTROL_HZ))
    pitch[first:] = midi + rng.normal(0, 0.12)
    time = np.arange(min(last, frames) - first) / _CONTROL_HZ
    rise = np.minimum(1, time / attack)
    fall = np.minimum(1, (length - time) / 0.06)
    joined = i and start - notes[i - 1, 0] - notes[i - 1, 1] < 0.06
    floor = legato if joined else 0.0
    shape = np.clip(np.minimum(floor + (1 - floor) * rise, fall), 0, 1)
    level[first:first + len(time)] = shape * (velocity / 110)
  window = np.hanning(int(_GLIDE_SECONDS * _CONTROL_HZ) + 2)
  pitch = np.convolve(np.pad(pitch, len(window), mode='edge'),
                      window / window.sum(), mode='same')
  smooth = np.hanning(9) / np.hanning(9).sum()
  return pitch[len(window):-len(window)], np.convolve(level, smooth, 'same')


def _breath_noise(total, sample_rate_hz, rng):
  """[total] noise of unit RMS between 400 Hz and 4 kHz."""
  band = signal.butter(2, [400, 4000], 'bandpass', fs=sample_rate_hz,
                       output='sos')
  noise = signal.sosfilt(band, rng.standard_normal(total))
  return noise / max(np.sqrt(np.mean(noise**2)), 1e-9)


def _inhalations(notes, total, sample_rate_hz):
  """[total] envelope: one hump in every gap that is long enough."""
  envelope = np.zeros(total)
  ends = notes[:-1, 0] + notes[:-1, 1]
  for end, start in zip(ends, notes[1:, 0]):
    if start - end > 0.2:
      a = int((max(end, start - 0.4) + 0.03) * sample_rate_hz)
      b = min(total, int((start - 0.02) * sample_rate_hz))
      if b > a:
        envelope[a:b] = np.hanning(b - a)
  return envelope
