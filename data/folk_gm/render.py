"""From a score to 24 kHz mono sound: each part alone, then a mix by level.

Parts are rendered separately by tinysoundfont with the General MIDI soundfont
inside pretty_midi (only its file is used) and brought to levels relative to
the melody, so that the melody is always the loudest pitched part.
"""

import functools

import numpy as np
from scipy import ndimage
from scipy import signal

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.data.folk_gm import humming
from musiclm_jax.data.folk_gm import soundfont

SAMPLE_RATE_HZ = specs.AudioSpec().sample_rate_hz
_TAIL_SECONDS = 1.2
_PEAK = 0.95
_BEND_SECONDS = 0.025
# dB of each part's RMS under the melody's.
_LEVELS = dict(second=-4.5, chords=-8.0, bass=-8.0, drums=-7.0)
_DRONE_DB = -11.0
# room -> (seconds to -60 dB, level of the reverberation in dB)
_ROOMS = dict(room=(0.5, -13.0), hall=(1.9, -8.0))


def new_synth():
  """A tinysoundfont synthesizer at 24 kHz and the soundfont's id in it."""
  try:
    import tinysoundfont  # pylint: disable=g-import-not-at-top
  except ImportError as error:
    raise errors.UserError(
        'folk_gm renders with tinysoundfont, which is not installed; '
        '`pip install --no-deps tinysoundfont`.') from error
  synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE_HZ)
  return synth, synth.sfload(soundfont.load())


def render_part(part, seconds, bends=None):
  """Plays one part.

  Args:
    part: an score.Part whose program is not None.
    seconds: length of the result.
    bends: [m, 2] (second, cents) pitch bends, or None.

  Returns:
    [N] float32, at whatever level the soundfont gives.
  """
  total = int(round(seconds * SAMPLE_RATE_HZ))
  # A new synthesizer: a used one keeps state, and a track must not depend on
  # the tracks that its process has rendered before.
  synth, font = new_synth()
  synth.program_select(0, font, part.bank, part.program, part.bank == 128)
  events = _note_events(part.notes)
  if bends is not None:
    synth.pitchbend_range(0, 2.0)
    events += [(int(t * SAMPLE_RATE_HZ), 1, int(c / 200 * 8192), 0)
               for t, c in bends]
  events.sort(key=lambda e: e[:3])
  out, now = [], 0
  for when, kind, value, velocity in events:
    when = min(when, total)
    if when > now:
      out.append(_generate(synth, when - now))
      now = when
    if kind == 0:
      synth.noteoff(0, value)
    elif kind == 1:
      synth.pitchbend(0, int(np.clip(8192 + value, 0, 16383)))
    else:
      synth.noteon(0, value, velocity)
  if now < total:
    out.append(_generate(synth, total - now))
  audio = np.concatenate(out) if out else np.zeros(total, np.float32)
  # Some samples carry an offset, which is no part of any tone.
  return signal.sosfilt(_high_pass(), audio).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _high_pass():
  return signal.butter(2, 20.0, 'highpass', fs=SAMPLE_RATE_HZ, output='sos')


def _note_events(notes):
  """[(sample, 0 off | 2 on, pitch, velocity)]; no pitch overlaps itself."""
  notes = np.asarray(notes)
  order = np.argsort(notes[:, 0], kind='stable')
  starts = np.round(notes[order, 0] * SAMPLE_RATE_HZ).astype(int)
  ends = np.round(notes[order, :2].sum(axis=1) * SAMPLE_RATE_HZ).astype(int)
  pitches = np.clip(np.round(notes[order, 2]), 0, 127).astype(int)
  velocities = np.clip(np.round(notes[order, 3]), 1, 127).astype(int)
  following, events = {}, []
  for i in range(len(order) - 1, -1, -1):
    pitch = int(pitches[i])
    end = min(int(ends[i]), following.get(pitch, 1 << 60))
    following[pitch] = int(starts[i])
    if end > starts[i]:
      events.append((int(starts[i]), 2, pitch, int(velocities[i])))
      events.append((end, 0, pitch, 0))
  return events


def _generate(synth, samples):
  """[samples] float32, the mean of left and right."""
  stereo = np.frombuffer(synth.generate(samples), np.float32)
  return 0.5 * (stereo[0::2] + stereo[1::2])  # mean(axis=1) takes 5 x longer


def render(score, plan, rng):
  """Renders and mixes a score.

  Args:
    score: a score.Score.
    plan: its arrange.Plan.
    rng: numpy Generator for levels, drift and breath.

  Returns:
    ([N] float32 mix, peak at most 0.95; {part name: [N] float32 before the
    mix}).
  """
  seconds = score.seconds + _TAIL_SECONDS
  stems = dict(melody=_melody(score, plan, seconds, rng))
  for name, part in score.backing.items():
    stems[name] = render_part(part, seconds)
  if score.drums is not None:
    stems['drums'] = render_part(score.drums, seconds)
  mix = np.zeros_like(stems['melody'])
  for name, stem in stems.items():
    level = _LEVELS.get(name, 0.0)
    if name == 'chords' and plan.chord_style == 'drone':
      level = _DRONE_DB
    if name != 'melody':
      level += rng.uniform(-1.5, 1.5)
    stems[name] = stem * (10**(level / 20) / max(_rms(stem), 1e-6))
    mix += stems[name]
  if plan.room in _ROOMS:
    mix = _reverberate(mix, *_ROOMS[plan.room])
  mix *= 10**(plan.rms_db / 20) / max(_rms(mix), 1e-6)
  mix = _limit(mix)
  fade = int(0.05 * SAMPLE_RATE_HZ)
  mix[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
  return mix.astype(np.float32), stems


def _melody(score, plan, seconds, rng):
  if score.melody.program is None:
    return humming.sing(score.melody.notes, seconds, SAMPLE_RATE_HZ, rng)
  if plan.kind != 'hummed':
    return render_part(score.melody, seconds)
  times = np.arange(0, seconds, _BEND_SECONDS)
  cents = humming.drift_cents(len(times), 1 / _BEND_SECONDS, rng)
  return render_part(score.melody, seconds, np.stack([times, cents], axis=1))


def _limit(audio):
  """Turns down what would exceed the peak, 5 ms around it, and nothing else.

  Struck instruments have peaks 25 dB above their mean; scaling the whole track
  by them would make every loud xylophone a quiet one.
  """
  window = int(0.005 * SAMPLE_RATE_HZ)
  # The mean over a window of minima over that window is at most any of them.
  gain = np.minimum(1.0, _PEAK / np.maximum(np.abs(audio), 1e-6))
  gain = ndimage.minimum_filter1d(gain, 2 * window + 1)
  gain = ndimage.uniform_filter1d(gain, 2 * window + 1)
  return np.clip(audio * gain, -_PEAK, _PEAK)


def _rms(audio):
  return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


@functools.lru_cache(maxsize=4)
def _impulse(seconds):
  """[N] float32 decaying noise of unit energy: a room, the same for all."""
  count = int(seconds * SAMPLE_RATE_HZ)
  noise = np.random.default_rng(7).standard_normal(count)
  time = np.arange(count) / count
  tail = noise * 10**(-3 * time)
  # High tones die first; no sound before the first reflection.
  tail = signal.lfilter([0.35], [1, -0.65], tail)
  tail[:int(0.012 * SAMPLE_RATE_HZ)] = 0
  return (tail / np.sqrt(np.sum(tail**2))).astype(np.float32)


def _reverberate(audio, seconds, level_db):
  wet = signal.oaconvolve(audio, _impulse(seconds))[:len(audio)]
  wet = wet.astype(np.float32)
  return audio + wet * 10**(level_db / 20) * _rms(audio) / max(_rms(wet), 1e-6)
