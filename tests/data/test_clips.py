"""Which file is which excerpt, and where in it the excerpt is."""

import pathlib

import pytest

from musiclm_jax import audio_stream
from musiclm_jax.data import clips
from musiclm_jax.data import sounds
from tests.helpers import downloads

_ID = '-_23456789a'


def _match(*names, start=30.0, ids=(_ID,)):
  return clips.match([pathlib.Path(name) for name in names],
                     {i: clips.Excerpt(start, 10.0) for i in ids})


@pytest.mark.parametrize('name, is_excerpt', [
    (f'{_ID}.wav', None), (f'Y{_ID}.wav', None), (f'a/Song [x] [{_ID}].opus', None),
    (f'{_ID}_30.wav', True), (f'{_ID}_30.000.flac', True),
    (f'{_ID}_30000_40000.flac', True), (f'{_ID}_30.000_40.000.wav', True),
    (f'[{_ID}]-[30-40].wav', True), (f'{_ID}-30-40.wav', True)])
def test_names(name, is_excerpt):
  sound = _match(name).sounds[_ID]
  assert sound.path.name == name.rpartition('/')[2]
  assert sound.is_excerpt is is_excerpt
  assert (sound.start_seconds, sound.seconds) == (30.0, 10.0)


@pytest.mark.parametrize('name', ['other.wav', f'x{_ID}.wav', f'{_ID}_30_40_50.wav',
                                  f'{_ID} copy.wav'])
def test_names_of_nothing(name):
  found = _match(name)
  assert not found.sounds and found.others == 1


def test_ids_that_look_like_places():
  found = _match('abc_30.wav', 'abc_30_30.wav', 'abc.wav', ids=('abc', 'abc_30'))
  assert {i: s.path.name for i, s in found.sounds.items()} == {
      'abc': 'abc.wav', 'abc_30': 'abc_30_30.wav'}
  assert found.spare == 1


def test_another_place_of_the_video_is_not_taken():
  found = _match(f'{_ID}_50.wav')
  assert not found.sounds
  reject = found.reject('train', _ID)
  assert reject.reason == 'another place' and f'{_ID}_50.wav' in reject.detail
  assert _match(f'{_ID}_50.wav', f'{_ID}.wav').sounds[_ID].path.name == f'{_ID}.wav'


def test_excerpts_of_whole_recordings_are_cut(tmp_path):
  path = downloads.write_video(tmp_path / 'a.flac', 12)
  audio = sounds.Sound(path, start_seconds=12, seconds=10).read()
  assert len(audio) == 240_000
  assert downloads.peak_hz(audio[:24_000]) == pytest.approx(1000, abs=2)
  assert downloads.peak_hz(audio[-24_000:]) == pytest.approx(1000, abs=2)


def test_excerpts_are_taken_as_they_are(tmp_path):
  path = downloads.write_tone(tmp_path / 'a.wav', 10.9, 500)
  audio = sounds.Sound(path, start_seconds=12, seconds=10).read()
  assert len(audio) == 240_000
  path = downloads.write_tone(tmp_path / 'b.wav', 14, 500)
  assert len(sounds.Sound(path, start_seconds=12, seconds=10,
                          is_excerpt=True).read()) == 240_000


def test_recordings_that_end_before_their_excerpt(tmp_path):
  path = downloads.write_tone(tmp_path / 'a.wav', 20)
  with pytest.raises(audio_stream.Unusable, match='ends before 25 s') as caught:
    sounds.Sound(path, start_seconds=25, seconds=10).read()
  assert caught.value.reason == 'cut off'


def test_long_tracks_become_pieces(tmp_path, monkeypatch):
  monkeypatch.setattr(sounds, 'MAX_SECONDS', 2.0)
  path = downloads.write_tone(tmp_path / 'a.wav', 5, rate=24_000)
  pieces = sounds.decode(sounds.Track('train', 'a', sounds.Sound(path)), 1.0)
  assert [piece.id for piece in pieces] == ['a#000', 'a#001', 'a#002']
  assert [piece.start_seconds for piece in pieces] == [0.0, 1.667, 3.333]
  assert sum(len(piece.audio) for piece in pieces) == 120_000
