"""All of a file is heard, whatever its header says of its length."""

import io
import struct

import numpy as np
import pytest
import soundfile

from musiclm_jax import audio
from musiclm_jax import audio_files
from musiclm_jax import audio_stream
from musiclm_jax.audio_files import flac
from musiclm_jax.audio_files import mp3

RATE = 24_000


def _tone(seconds, hertz=440.0, rate=RATE):
  time = np.arange(round(seconds * rate)) / rate
  return (0.4 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _bytes(sound, kind, rate=RATE, **options):
  out = io.BytesIO()
  out.name = f'x.{kind}'
  soundfile.write(out, sound, rate, format=kind.upper(), **options)
  return out.getvalue()


def _heard(path, seconds, hertz):
  """Checks that a file holds tones of `hertz`, one after the other."""
  with audio_stream.Source(path, RATE) as source:
    said = source.seconds
    sound = np.concatenate(list(source.blocks(RATE)))
  assert len(sound) == pytest.approx(seconds * RATE, abs=0.08 * RATE)
  assert said == pytest.approx(len(sound) / RATE, abs=1e-3)
  size = len(sound) // len(hertz)
  for number, expected in enumerate(hertz):
    part = sound[number * size:(number + 1) * size][size // 4:3 * size // 4]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
    assert np.argmax(spectrum) * RATE / len(part) == pytest.approx(
        expected, abs=3)


def _unlabelled(content):
  """MP3 frames without the first, which counts them."""
  first = mp3._header(content[:4])
  counted = content[first.info:first.info + 4] in (b'Xing', b'Info')
  return content[first.size:] if counted else content


def _changing():
  """MP3 frames of which the first are much longer than the others."""
  loud = np.random.default_rng(0).normal(size=RATE * 2).astype(np.float32)
  make = lambda sound, level: _unlabelled(_bytes(
      sound, 'mp3', subtype='MPEG_LAYER_III', bitrate_mode='CONSTANT',
      compression_level=level))
  return make(0.1 * loud, 0.0) + make(_tone(8), 0.99)


def test_frames_of_changing_length_without_a_count(tmp_path):
  path = tmp_path / 'a.mp3'
  path.write_bytes(_changing())
  assert soundfile.info(path).duration < 5  # what the decoder thinks
  assert len(audio.read(path, RATE)) / RATE == pytest.approx(10.1, abs=0.1)


@pytest.mark.parametrize('kind, tag', [
    ('mp3', b''), ('mp3', b'ID3\x04\0\0\0\0\x02\0' + bytes(256)),
    ('ogg', b''), ('flac', b'')])
def test_joined_files_are_heard_to_the_end(tmp_path, kind, tag):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(tag + _bytes(_tone(3), kind) + tag +
                   _bytes(_tone(3, 880), kind))
  _heard(path, 6, [440, 880])


@pytest.mark.parametrize('kind', ['mp3', 'ogg', 'flac'])
def test_joined_files_of_other_rates(tmp_path, kind):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(_bytes(_tone(3), kind) +
                   _bytes(_tone(3, 880, 48_000), kind, 48_000))
  _heard(path, 6, [440, 880])


@pytest.mark.parametrize('subtype', ['PCM_16', 'PCM_24'])
def test_flac_of_unknown_length(tmp_path, subtype):
  content = bytearray(_bytes(_tone(5), 'flac', subtype=subtype))
  content[21] &= 0xf0
  content[22:26] = bytes(4)
  path = tmp_path / 'a.flac'
  path.write_bytes(content)
  _heard(path, 5, [440])
  # The encoder was stopped within a frame: what is whole is heard.
  path.write_bytes(content[:-100])
  assert 4.5 < len(audio.read(path, RATE)) / RATE < 5
  # Both of them unknown.
  path.write_bytes(bytes(content) * 2)
  _heard(path, 10, [440, 440])


def test_checksums_of_flac():
  # The check values of CRC-8/SMBUS and CRC-16/UMTS, for '123456789'.
  assert flac._crc8(b'123456789') == 0xf4
  assert flac._crc16(b'123456789') == 0xfee8


@pytest.mark.parametrize('size, heard', [
    (0, 6.0), (2 * RATE, 6.0), (0xffffffff, 6.0),
    (2 * (6 * RATE - 1000), 6.0 - 1000 / RATE)])
def test_wav_of_a_recorder_that_stopped_at_once(tmp_path, size, heard):
  content = bytearray(_bytes(_tone(6), 'wav'))
  at = content.index(b'data') + 4
  content[at:at + 4] = struct.pack('<I', size)
  path = tmp_path / 'a.wav'
  path.write_bytes(content)
  # The last is a header that is right, with a little behind the sound.
  assert len(audio.read(path, RATE)) == round(heard * RATE)


def test_chunks_behind_the_sound_are_none(tmp_path):
  path = tmp_path / 'a.wav'
  more = b'LIST' + struct.pack('<I', 200_000) + bytes(200_000)
  path.write_bytes(_bytes(_tone(2), 'wav') + more)
  assert len(audio.read(path, RATE)) == 2 * RATE
  path.write_bytes(_bytes(_tone(0), 'wav') + more)
  with pytest.raises(audio_stream.Unusable) as error:
    audio.read(path, RATE)
  assert error.value.reason == 'empty'


def test_rf64_without_a_length(tmp_path):
  content = bytearray(_bytes(_tone(6), 'rf64'))
  at = content.index(b'ds64') + 16
  assert struct.unpack('<Q', content[at:at + 8]) == (2 * 6 * RATE,)
  content[at:at + 8] = bytes(8)
  path = tmp_path / 'a.wav'
  path.write_bytes(content)
  assert len(audio.read(path, RATE)) == 6 * RATE


@pytest.mark.parametrize('kind', ['wav', 'flac', 'ogg', 'mp3', 'aiff'])
def test_a_file_whose_header_is_right_is_decoded_as_it_is(tmp_path, kind):
  path = tmp_path / f'a.{kind}'
  path.write_bytes(_bytes(_tone(3), kind) + (b'TAG' + bytes(125)) * (
      kind == 'mp3'))
  assert audio_files.parts(path) == [str(path)]


@pytest.mark.parametrize('kind', ['wav', 'flac', 'ogg', 'mp3'])
def test_any_damage_is_met_with_a_line_or_sound(tmp_path, kind):
  path = tmp_path / f'a.{kind}'
  content = _bytes(_tone(1.5), kind) + _bytes(_tone(1), kind)
  rng = np.random.default_rng(1)
  for _ in range(40):
    spoilt = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(spoilt) if rng.random() < .5 else 64, 3)
    spoilt[places] = rng.integers(0, 256, 3)
    path.write_bytes(spoilt[:rng.integers(1, len(spoilt) + 1)].tobytes())
    try:
      audio.read(path, RATE)
    except audio_stream.Unusable:
      pass


@pytest.mark.parametrize('rate', [1, 1_000, 10_000_000])
def test_absurd_rates_are_refused(tmp_path, rate):
  path = tmp_path / 'a.wav'
  path.write_bytes(_bytes(_tone(1), 'wav', rate))
  with pytest.raises(audio_stream.Unusable, match=f'{rate} samples a second'):
    audio.read(path, RATE)
