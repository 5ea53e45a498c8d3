"""Which file is which excerpt, and where in it the excerpt is."""

import pathlib

import pytest

from musiclm_jax.data import clips
from tests.helpers import downloads

_ID = '-_23456789a'


def _match(*names, start=30.0, ids=(_ID,)):
  return clips.match([pathlib.Path(name) for name in names],
                     {i: clips.Excerpt(start, 10.0) for i in ids})


@pytest.mark.parametrize('name, is_excerpt', [
    (f'{_ID}.wav', False), (f'Y{_ID}.wav', False),
    (f'a/Song [x] [{_ID}].opus', False),
    (f'{_ID}_30.wav', True), (f'{_ID}_30.000.flac', True),
    (f'{_ID}_30000_40000.flac', True), (f'{_ID}_30.000_40.000.wav', True),
    (f'[{_ID}]-[30-40].wav', True), (f'{_ID}-30-40.wav', True)])
def test_names(name, is_excerpt):
  place = _match(name).places[_ID]
  assert place.path.name == name.rpartition('/')[2]
  assert place.is_excerpt is is_excerpt


@pytest.mark.parametrize('name', ['other.wav', f'x{_ID}.wav', f'{_ID}_30_40_50.wav',
                                  f'{_ID} copy.wav'])
def test_names_of_nothing(name):
  found = _match(name)
  assert not found.places and found.others == 1


def test_ids_that_look_like_places():
  found = _match('abc_30.wav', 'abc_30_30.wav', 'abc.wav', ids=('abc', 'abc_30'))
  assert {i: s.path.name for i, s in found.places.items()} == {
      'abc': 'abc.wav', 'abc_30': 'abc_30_30.wav'}
  assert found.spare == 1


def test_another_place_of_the_video_is_not_taken():
  found = _match(f'{_ID}_50.wav')
  assert not found.places
  reject = found.item('train', _ID)
  assert reject.reason == 'another place' and f'{_ID}_50.wav' in reject.detail
  assert _match(f'{_ID}_50.wav', f'{_ID}.wav').places[_ID].path.name == (
      f'{_ID}.wav')


def _place(path, is_excerpt=False):
  return clips.Place(path, clips.Excerpt(12.0, 10.0), is_excerpt)


def test_excerpts_of_whole_recordings_are_cut(tmp_path):
  place = _place(downloads.write_video(tmp_path / 'a.flac', 12))
  assert place.span() == (12.0, 22.0)
  audio = place.read(24_000)
  assert len(audio) == 240_000
  assert downloads.peak_hz(audio[:24_000]) == pytest.approx(1000, abs=2)
  assert downloads.peak_hz(audio[-24_000:]) == pytest.approx(1000, abs=2)


def test_excerpts_are_taken_as_they_are(tmp_path):
  path = downloads.write_tone(tmp_path / 'a.wav', 10.9, 500)
  assert _place(path).span() == (0.0, 10.0)
  assert len(_place(path).read(24_000)) == 240_000
  path = downloads.write_tone(tmp_path / 'b.wav', 14, 500)
  assert _place(path).span() == (12.0, 22.0)
  assert _place(path, is_excerpt=True).span() == (0.0, 10.0)
  (tmp_path / 'c.wav').write_bytes(b'no sound')
  assert _place(tmp_path / 'c.wav').span() == (0.0, 10.0)
