"""The sound: right pitches, levels, parts, no clipping."""

import dataclasses

import numpy as np
import pytest

from musiclm_jax.data.folk_gm import arrange
from musiclm_jax.data.folk_gm import corpus as corpus_lib
from musiclm_jax.data.folk_gm import humming
from musiclm_jax.data.folk_gm import instruments
from musiclm_jax.data.folk_gm import render
from musiclm_jax.data.folk_gm import score as score_lib

pytest.importorskip('tinysoundfont')
pytest.importorskip('pretty_midi')

RATE = 24000


def _note(program, pitch, seconds=1.5):
  part = score_lib.Part(program, np.array([[0.0, seconds, pitch, 90]]))
  return render.render_part(part, seconds)


def _cents_off(audio, pitch):
  """Cents between the harmonics of `audio` and those of a MIDI pitch."""
  audio = audio[RATE // 5:RATE * 6 // 5]
  count = 1 << 18
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), count))
  hertz = 440 * 2**((pitch - 69) / 12)
  cents = np.arange(-60, 61)
  salience = []
  for c in cents:
    tones = hertz * 2**(c / 1200) * np.arange(1, 7)
    bins = np.round(tones[tones < 11500] * count / RATE).astype(int)
    salience.append(spectrum[bins].sum())
  return cents[int(np.argmax(salience))]


@pytest.mark.parametrize('program', [0, 24, 40, 71])
def test_a4_is_440_hz(program):
  audio = _note(program, 69)[RATE // 5:RATE * 6 // 5]
  spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 19))
  low, high = (int(f * (1 << 19) / RATE) for f in (400, 480))
  peak = (low + np.argmax(spectrum[low:high])) * RATE / (1 << 19)
  assert peak == pytest.approx(440.0, abs=1.5)


@pytest.mark.parametrize('key', sorted(instruments.LEADS))
def test_every_lead_is_audible_and_in_tune_over_its_range(key):
  row = instruments.LEADS[key]
  limit = 30 if key in ('choir', 'glockenspiel') else 15
  for pitch in (row.low, (row.low + row.high) // 2, row.high):
    audio = _note(row.program, pitch)
    assert np.max(np.abs(audio)) > 0.003, pitch
    assert abs(_cents_off(audio, pitch)) <= limit, pitch


def test_accompaniment_is_in_tune():
  for row in [*instruments.CHORDS.values(), *instruments.BASSES.values()]:
    pitch = (row.low + row.high) // 2
    assert abs(_cents_off(_note(row.program, pitch), pitch)) <= 15, row.key


def test_there_are_enough_instruments():
  assert len({r.program for r in instruments.LEADS.values()}) >= 16
  assert len({r.family for r in instruments.LEADS.values()}) >= 6


def test_the_hum_follows_its_notes():
  rng = np.random.default_rng(3)
  pitches = [57, 60, 64, 62]
  notes = np.array([[i * 0.8, 0.75, p, 90] for i, p in enumerate(pitches)])
  audio = humming.sing(notes, 3.5, RATE, rng)
  assert audio.shape == (84000,) and np.all(np.isfinite(audio))
  for i, pitch in enumerate(pitches):
    part = audio[int((i * 0.8 + 0.25) * RATE):int((i * 0.8 + 0.65) * RATE)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 17))
    hertz = np.argmax(spectrum[:6000]) * RATE / (1 << 17)
    assert abs(12 * np.log2(hertz / 440) + 69 - pitch) < 1.3
  assert np.array_equal(
      audio, humming.sing(notes, 3.5, RATE, np.random.default_rng(3)))


@pytest.fixture(scope='module')
def jobs(tunes):
  return corpus_lib.plan_tracks(tunes[::7], 1.0, seed=1)


def _render(job):
  score = score_lib.write(job.tune, job.plan, np.random.default_rng(1))
  return score, *render.render(score, job.plan, np.random.default_rng(2))


def test_all_parts_of_a_band_sound_and_the_melody_leads(jobs):
  job = next(j for j in jobs if j.plan.texture == 'band')
  _, mix, stems = _render(job)
  assert {'melody', 'chords', 'bass', 'drums'} <= set(stems)
  level = {k: 10 * np.log10(np.mean(v**2)) for k, v in stems.items()}
  for name, value in level.items():
    if name != 'melody':
      assert level['melody'] - 12 < value < level['melody'] - 2
      # From the first seconds to the last.
      thirds = np.array_split(stems[name][:-RATE * 2], 3)
      assert min(np.mean(t**2) for t in thirds) > 0.05 * np.mean(
          stems[name]**2)
  assert np.max(np.abs(mix)) <= 0.951


def test_levels_follow_the_dynamics_and_never_clip(jobs):
  job = next(j for j in jobs if j.plan.lead in (
      'xylophone', 'glockenspiel', 'dulcimer', 'marimba'))
  for name, low, high in (('soft', -28, -22), ('loud', -21, -14)):
    plan = dataclasses.replace(
        job.plan, dynamics=name, rms_db=arrange.LOUDNESS[name])
    _, mix, _ = _render(dataclasses.replace(job, plan=plan))
    assert low < 10 * np.log10(np.mean(mix**2)) < high
    assert np.max(np.abs(mix)) <= 0.951


def test_the_melody_in_the_metadata_is_what_sounds(jobs):
  job = next(j for j in jobs if j.plan.lead in ('flute', 'recorder') and
             not j.plan.ornament and j.plan.shift != 0)
  score, _, stems = _render(job)
  checked = 0
  for start, length, pitch in score.tune_notes:
    if length > 0.3 and start < 25 and checked < 12:
      part = stems['melody'][int((start + 0.06) * RATE):
                             int((start + length * 0.85) * RATE)]
      spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 17))
      hertz = 440 * 2**((pitch - 69) / 12)
      near = lambda f: spectrum[int(f * (1 << 17) / RATE) - 20:][:41].max()
      assert near(hertz) > 3 * near(hertz * 2**(0.5 / 6))
      assert near(hertz) > 3 * near(hertz * 2**(-0.5 / 6))
      checked += 1
  assert checked >= 5


def test_tracks_are_long_enough_for_a_semantic_crop(jobs):
  seconds = np.array([j.plan.seconds for j in jobs])
  assert seconds.min() >= 31.0 and seconds.max() < 90.0


def test_the_end_of_a_round_and_the_next_upbeat_share_a_bar(tunes):
  tune = next(t for t in tunes if t.period == t.num_bars - 1 and
              t.upbeat > 0 and t.num_bars == 17 and t.rhythm == 'jig')
  job = corpus_lib.plan_tracks([tune], 0.001, seed=0)[0]
  notes = score_lib.played_melody(tune, job.plan)
  gaps = notes[1:, 0] - notes[:-1, 0] - notes[:-1, 1]
  inside = tune.notes[1:, 0] - tune.notes[:-1, 0] - tune.notes[:-1, 1]
  assert job.plan.num_bars > tune.num_bars  # it is repeated
  # No bar of silence between the rounds; notes do not overlap either.
  assert gaps.max() < max(inside.max(), 0) + 0.5 and gaps.min() > -1e-9
