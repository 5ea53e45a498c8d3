"""WAV: a recorder that stopped at once has not filled in the length.

  RIFF size WAVE, then chunks: name, size, content. The sound is in `data`.
"""

import struct
from typing import BinaryIO

_HEAD = struct.Struct('<4sI')
_RIFF_BYTES = 12
_OPEN = 0xffffffff  # the size of a chunk of which nobody knows the end
_MOST = _OPEN - 1
_LEAST_S = 1.0  # what is behind the sound and shorter than this is no sound


def known(start: bytes) -> bool:
  """Whether a file with these first bytes is one."""
  return start[:4] in (b'RIFF', b'RF64') and start[8:12] == b'WAVE'


def pieces(file: BinaryIO, size: int) -> list[list] | None:
  """A header with the true length of the data chunk, and the rest.

  Args:
    file: opened; the sound reaches to its end where the header says less, and
      what comes behind are no chunks.
    size: of the file in bytes.

  Returns:
    One list of pieces of `view.View` in a list; None where the header is right.
  """
  place, byte_rate = _RIFF_BYTES, 0
  wide = None  # where RF64 keeps the size of the data
  while place + _HEAD.size <= size:
    name, length = _chunk(file, place)
    first = place + _HEAD.size
    if name == b'fmt ':
      file.seek(first + 8)
      byte_rate = int.from_bytes(file.read(4), 'little')
    elif name == b'ds64':
      wide = first + 8
    elif name == b'data':
      return _data(file, size, first, length, wide, byte_rate)
    place = first + length + length % 2
  return None


def _data(file, size, first, length, wide, byte_rate):
  """The pieces for a data chunk whose content begins at `first`."""
  if wide is not None and length == _OPEN:
    file.seek(wide)
    length = int.from_bytes(file.read(8), 'little')
  elif length == _OPEN:
    return None  # to the end, and so the decoder takes it
  stop = first + length
  left = size - stop
  if left <= 0 or _chunks(file, stop + length % 2, size):
    return None
  if length and left < max(1.0, _LEAST_S * byte_rate):
    return None
  true = size - first
  if wide is not None:
    return [[(0, wide), true.to_bytes(8, 'little'), (wide + 8, size)]]
  true = min(true, _MOST).to_bytes(4, 'little')
  return [[(0, 4), min(size - 8, _MOST).to_bytes(4, 'little'),
           (8, first - 4), true, (first, size)]]


def _chunk(file, place):
  file.seek(place)
  return _HEAD.unpack(file.read(_HEAD.size))


def _chunks(file, place, size):
  """Whether nothing but chunks follows, or less than one."""
  while place + _HEAD.size <= size:
    name, length = _chunk(file, place)
    if not all(32 <= byte < 127 for byte in name):
      return False
    place += _HEAD.size + length + length % 2
  # The last one may be cut, or padded by a byte or not, so its end is not asked
  # for: all names were those of chunks.
  return True
