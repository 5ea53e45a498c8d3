"""Clips from folders and corpora: ids, facts, and what is refused."""

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.metrics import intervals


def _tone(hz=440.0, seconds=1.0, rate=16_000):
  return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate) * 0.5


def _write(path, audio, rate=16_000):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, audio, rate)


def test_what_cannot_be_used_is_listed_and_left_out(tmp_path):
  _write(tmp_path / 'a.wav', _tone())
  _write(tmp_path / 'sub/b.flac', _tone(220))
  _write(tmp_path / 'other_rate.wav', _tone(rate=8_000), 8_000)
  _write(tmp_path / 'silent.wav', np.zeros(16_000))
  (tmp_path / 'broken.wav').write_bytes(b'RIFF nothing')
  soundfile.write(tmp_path / 'nan.wav', np.full(100, np.nan, np.float32),
                  16_000, subtype='FLOAT')
  clips = clip_sets.from_folder(tmp_path)
  assert len(clips) == 6
  assert [clip.id for clip, _ in clips.each(16_000)] == ['a', 'sub/b']
  assert clips.counted() == dict(rate=1, silent=1, unreadable=1, nan=1)
  assert '8000 Hz, most of the folder 16000 Hz' in clips.refused['other_rate'][1]
  with pytest.raises(clip_sets.Refused, match='silent'):
    clips.read('silent', 16_000)


def test_captions_and_facts_come_from_the_csv(tmp_path):
  for name in ('a', 'b'):
    _write(tmp_path / f'{name}.wav', _tone())
  table = tmp_path / 'captions.csv'
  table.write_text('file,caption,track,tempo_bpm\na.wav,"a jig, fast",t,120\n')
  clips = clip_sets.from_folder(tmp_path, table)
  first = clips.clip('a')
  assert (first.caption, first.track, first.facts['tempo_bpm']) == (
      'a jig, fast', 't', '120')
  assert clips.clip('b').caption == '' and clips.clip('b').track == 'b'


@pytest.mark.parametrize('text, match', [
    ('name,caption\na,x\n', 'expected caption, and one of id'),
    ('id,caption\na,x\na,y\n', "1 ids more than once, such as 'a'"),
    ('id,caption\nz,x\n', 'none of the 1 ids'),
])
def test_captions_that_say_nothing(tmp_path, text, match):
  _write(tmp_path / 'a.wav', _tone())
  table = tmp_path / 'captions.csv'
  table.write_text(text)
  with pytest.raises(errors.UserError, match=match):
    clip_sets.from_folder(tmp_path, table)


def test_two_files_of_one_id(tmp_path):
  _write(tmp_path / 'a.wav', _tone())
  _write(tmp_path / 'a.flac', _tone())
  with pytest.raises(errors.UserError, match='have one id, a;'):
    clip_sets.from_folder(tmp_path)


def test_pairs_are_what_both_can_use(tmp_path):
  one = clip_sets.of_arrays('one', [
      clip_sets.Clip(n, n, lambda rate: None) for n in 'abc'],
      [_tone(), _tone(), np.zeros(10)], 16_000)
  other = clip_sets.of_arrays('other', [
      clip_sets.Clip(n, n, lambda rate: None) for n in 'cba'],
      [_tone()] * 3, 16_000)
  list(one.each(16_000))
  assert clip_sets.pairs(one, other) == ('a', 'b')
  assert len(one.read('a', 8_000)) == 8_000
  assert one.only('ca').ids == ('a',)


def test_intervals_draw_tracks_not_clips():
  rng = np.random.default_rng(0)
  level = rng.normal(size=40)  # of each track, 25 clips alike in each
  values, tracks = np.repeat(level, 25), np.repeat(np.arange(40), 25)
  low, high = intervals.of_mean(values, tracks)
  narrow = intervals.of_mean(values, np.arange(1000))
  # The standard error of 40 tracks, against that of a thousand clips.
  assert (high - low) == pytest.approx(
      2 * 1.96 * level.std() / np.sqrt(40), rel=0.15)
  assert (high - low) > 3.5 * (narrow[1] - narrow[0])
  same = intervals.of_statistic(lambda rows: values[rows].mean(), tracks,
                                draws=2_000)
  np.testing.assert_allclose(same, (low, high), atol=0.06)
