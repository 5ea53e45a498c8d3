"""Files of sound as they come from the world: every format, and damaged."""

import io
import struct

import numpy as np
import soundfile

from tests.helpers import sources

_WAVS = ('PCM_U8', 'PCM_16', 'PCM_24', 'PCM_32', 'FLOAT', 'DOUBLE', 'ALAW', 'ULAW',
         'IMA_ADPCM')
# (suffix, format, subtype)
_FORMATS = [('wav', 'WAV', s) for s in _WAVS] + [
    ('wav', 'WAVEX', 'PCM_24'), ('rf64', 'RF64', 'PCM_16'), ('w64', 'W64', 'FLOAT'),
    ('flac', 'FLAC', 'PCM_16'), ('flac', 'FLAC', 'PCM_24'), ('ogg', 'OGG', 'VORBIS'),
    ('opus', 'OGG', 'OPUS'), ('mp3', 'MP3', 'MPEG_LAYER_III'),
    ('aiff', 'AIFF', 'PCM_16'), ('caf', 'CAF', 'PCM_16'), ('au', 'AU', 'PCM_16')]
_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 192_000)


def write(folder, count, seed=0, seconds=1.0):
  """Writes `count` files; returns {name: whether it is as it should be}."""
  folder.mkdir(parents=True, exist_ok=True)
  made = {}
  for number in range(count):
    rng = np.random.default_rng((seed, number))
    kind = _KINDS[number % len(_KINDS)]
    suffix, data = kind(rng, seconds)
    name = f'{number:04d}-{kind.__name__.strip("_")}.{suffix}'
    (folder / name).write_bytes(data)
    made[name] = kind in _SOUND
  return made


def _encoded(rng, seconds, form=None, rate=None, channels=None, sound=None):
  suffix, kind, subtype = form or _FORMATS[rng.integers(len(_FORMATS))]
  rate = rate or int(rng.choice(_RATES))
  if subtype == 'OPUS':
    rate = 48_000
  elif kind in ('MP3', 'OGG') or subtype == 'IMA_ADPCM':
    rate = min(rate, 48_000)
  if sound is None:
    sound = sources.tune(int(rng.integers(2**31)), seconds, rate)
    sound = np.stack([sound] * (channels or int(rng.integers(1, 3))), 1)
  out = io.BytesIO()
  soundfile.write(out, sound, rate, format=kind, subtype=subtype)
  return suffix, out.getvalue()


def _whole(rng, seconds):
  return _encoded(rng, seconds)


def _truncated(rng, seconds):
  suffix, data = _encoded(rng, seconds)
  return suffix, data[:int(len(data) * rng.random())]


def _flipped(rng, seconds):
  suffix, data = _encoded(rng, seconds)
  data = bytearray(data)
  for place in rng.integers(0, len(data), int(rng.integers(1, 40))):
    data[place] ^= 1 << int(rng.integers(8))
  return suffix, bytes(data)


def _head_flipped(rng, seconds):
  suffix, data = _encoded(rng, seconds)
  data = bytearray(data)
  for place in rng.integers(0, min(64, len(data)), 3):
    data[place] = int(rng.integers(256))
  return suffix, bytes(data)


def _named_otherwise(rng, seconds):
  return 'mp3', _encoded(rng, seconds, _FORMATS[int(rng.integers(9))])[1]


def _empty(unused_rng, unused_seconds):
  return 'wav', b''


def _header_alone(rng, seconds):
  return 'wav', _encoded(rng, seconds, _FORMATS[1])[1][:44]


def _noise(rng, unused_seconds):
  return str(rng.choice(['wav', 'mp3', 'flac', 'ogg', 'm4a'])), rng.bytes(4000)


def _text(unused_rng, unused_seconds):
  return 'mp3', b'<html>404 not found</html>' * 20


def _garbage_behind(rng, seconds):
  suffix, data = _encoded(rng, seconds)
  return suffix, data + rng.bytes(int(rng.integers(1, 5000)))


def _tagged(rng, seconds):
  """MP3 with an ID3 tag that holds a picture, in which frames seem to begin."""
  picture = b'\xff\xd8\xff\xe0' + rng.bytes(6000).replace(b'\0', b'\xff')
  content = b'\0image/jpeg\0\3\0' + picture
  frame = b'APIC' + struct.pack('>I', len(content)) + b'\0\0' + content
  size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
  return 'mp3', b'ID3\3\0\0' + size + frame + _encoded(
      rng, seconds, ('mp3', 'MP3', 'MPEG_LAYER_III'))[1]


def _not_numbers(rng, seconds):
  sound = sources.tune(int(rng.integers(2**31)), seconds)
  sound[rng.integers(0, len(sound), 5)] = rng.choice([np.nan, np.inf, -np.inf])
  return _encoded(rng, seconds, ('wav', 'WAV', 'FLOAT'), 24_000, sound=sound)


def _six_channels(rng, seconds):
  return _encoded(rng, seconds, ('wav', 'WAVEX', 'PCM_16'), channels=6)


def _wide(rng, seconds):
  return _encoded(rng, seconds, ('wav', 'WAV', 'PCM_24'), rate=192_000)


def _silent(rng, seconds):
  return _encoded(rng, seconds, sound=np.zeros(int(24_000 * seconds)), rate=24_000)


def _clipped(rng, seconds):
  sound = np.clip(30 * sources.tune(int(rng.integers(2**31)), seconds), -1, 1)
  return _encoded(rng, seconds, ('wav', 'WAV', 'PCM_16'), 24_000, sound=sound)


def _short(rng, unused_seconds):
  return _encoded(rng, 0.02, ('wav', 'WAV', 'PCM_16'), 24_000)


_SOUND = (_whole, _wide, _tagged, _garbage_behind)
_KINDS = (_whole, _truncated, _flipped, _tagged, _head_flipped, _whole, _empty,
          _garbage_behind, _named_otherwise, _wide, _noise, _not_numbers, _whole,
          _six_channels, _flipped, _silent, _clipped, _truncated, _text, _short,
          _header_alone, _whole)
