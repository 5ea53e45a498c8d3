"""The fingerprint knows a recording again, and takes no other for it."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from musiclm_jax.data.audio_folder import prints
from tests.helpers import sources


def _print(audio, block=30_011):
  printer = prints.Printer()
  for first in range(0, len(audio), block):
    printer.add(audio[first:first + block].astype(np.float32))
  return printer.finish()


def _coded(audio, kind):
  out = io.BytesIO()
  soundfile.write(out, audio, 24_000, format=kind)
  out.seek(0)
  return soundfile.read(out, dtype='float32')[0]


_CHANGES = dict(
    gain=lambda x: 0.1 * x,
    mp3=lambda x: _coded(x, 'MP3'),
    ogg=lambda x: _coded(x, 'OGG'),
    start=lambda x: x[31_333:],
    rate=lambda x: soxr.resample(soxr.resample(x, 24_000, 16_000), 16_000, 24_000),
    all=lambda x: _coded(0.4 * x[12_345:], 'MP3'),
    part=lambda x: x[90_000:250_000])


@pytest.fixture(name='tunes', scope='module')
def _tunes():
  return [sources.tune(seed, 12) for seed in range(5)]


@pytest.mark.parametrize('change', _CHANGES)
def test_a_copy_is_known(tunes, change):
  known = [_print(tune) for tune in tunes]
  for number in (1, 3):
    found = prints.alike([*known, _print(_CHANGES[change](tunes[number]))])
    assert [(i, j) for i, j, _ in found] == [(number, 5)]


def test_other_music_is_other(tunes):
  assert prints.alike([_print(tune) for tune in tunes]) == []


def test_steady_tones_are_not_compared():
  tones = [np.sin(np.arange(240_000) / period).astype(np.float32)
           for period in (10, 10.01, 10.02)]
  assert prints.alike([_print(tone) for tone in tones]) == []


def test_silence_and_next_to_nothing():
  for audio in (np.zeros(240_000), np.ones(10), np.zeros(0)):
    assert prints.alike([_print(audio.astype(np.float32))] * 2) == []
  assert prints.alike([]) == []


def test_it_is_as_small_for_any_length_and_any_blocks(tunes):
  short, long = _print(tunes[0]), _print(np.concatenate(tunes * 2))
  assert len(short) <= len(long) == prints.MOST
  np.testing.assert_array_equal(short, _print(tunes[0], block=480_000))


def test_one_number_that_all_have_tells_nothing():
  # Every recording shares all numbers with every other: too many to be copies.
  many = [np.stack([np.arange(100), np.arange(100)], 1).astype(np.uint32)] * 70
  assert prints.alike(many) == []
  assert len(prints.alike(many[:10])) == 45
