"""FLAC: an encoder that writes into a pipe cannot fill in the length.

  fLaC, metadata blocks (STREAMINFO first), frames. Every frame says where it
  begins, and ends with a checksum of its own.
"""

import re
from typing import BinaryIO

_MAGIC = b'fLaC'
_INFO_BYTES = 34
_PACKED = 18  # where rate, channels, bits and, in 36 bits, the length are
_LENGTH = (1 << 36) - 1
_JOINED = re.compile(rb'fLaC[\x00\x80]\x00\x00\x22')
_SYNC = re.compile(rb'\xff[\xf8\xf9]')
_TAIL_BYTES = 1 << 20  # no frame of two channels is longer
_BLOCK = 1 << 20
_BLOCK_SIZES = {1: 192, **{k: 576 << (k - 2) for k in range(2, 6)},
                **{k: 256 << (k - 8) for k in range(8, 16)}}


def known(start: bytes) -> bool:
  """Whether a file with these first bytes is one."""
  return start[:4] == _MAGIC


def pieces(file: BinaryIO, size: int) -> list[list] | None:
  """STREAMINFO with the true length, for each of the streams in a file.

  Args:
    file: opened.
    size: of the file in bytes.

  Returns:
    Lists of pieces of `view.View`, or None where the header is right or the
    frames do not tell.
  """
  found, edges = [], _beginnings(file, size) + [size]
  right = len(edges) == 2
  for first, stop in zip(edges[:-1], edges[1:]):
    stream = _stream(file, first, stop)
    if stream is None:
      return None
    packed, true, last = stream
    if not _short(packed, true):  # one that was cut stays what it is
      found.append([(first, stop)])
      continue
    right = False
    packed = (packed & ~_LENGTH | true & _LENGTH).to_bytes(8, 'big')
    found.append([(first, first + _PACKED), packed,
                  (first + _PACKED + len(packed), last)])
  return None if right else found


def _short(packed, true):
  """Whether the header counts fewer samples than there are, or none."""
  return packed & _LENGTH < true


def _beginnings(file, size):
  """The places at which a stream begins."""
  found, place = [], 0
  while place < size:
    file.seek(place)
    data = file.read(_BLOCK + 7)
    found += [place + m.start() for m in _JOINED.finditer(data)
              if m.start() < _BLOCK]
    place += _BLOCK
  return found


def _stream(file, first, stop):
  """(the header's word, samples up to the last whole frame, its end), or None.
  """
  file.seek(first)
  head = file.read(8 + _INFO_BYTES)
  if len(head) < 8 + _INFO_BYTES or not _JOINED.match(head):
    return None
  packed = int.from_bytes(head[_PACKED:_PACKED + 8], 'big')
  fixed = int.from_bytes(head[10:12], 'big')  # the largest block
  begin = max(first + 8 + _INFO_BYTES, stop - _TAIL_BYTES)
  file.seek(begin)
  tail = file.read(stop - begin)
  ends = [m.start() for m in _SYNC.finditer(tail)]
  after = len(tail)
  for place in reversed(ends):
    frame = _frame(tail, place, fixed)
    if frame is None:
      continue
    if _crc16(tail[place:after]) == 0:
      return packed, frame, begin + after
    after = place
  return None


def _frame(data, place, fixed):
  """The number of samples up to the end of a frame; None if there is none."""
  head = data[place:place + 16]
  if len(head) < 6:
    return None
  size_code, rate_code = head[2] >> 4, head[2] & 15
  if not size_code or rate_code == 15 or head[3] & 1:
    return None
  number, length = _number(head[4:11])
  if number is None:
    return None
  at = 4 + length
  if size_code in (6, 7):
    block = int.from_bytes(head[at:at + size_code - 5], 'big') + 1
    at += size_code - 5
  else:
    block = _BLOCK_SIZES[size_code]
  at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
  if at >= len(head) or _crc8(head[:at]) != head[at]:
    return None
  # By frames of one size, unless the second byte says that it is by samples.
  return (number if head[1] & 1 else number * fixed) + block


def _number(data):
  """(value, bytes) of a number written as UTF-8 writes characters, longer."""
  lead = data[0]
  if lead < 0x80:
    return lead, 1
  length = 8 - (lead ^ 0xff).bit_length()
  rest = data[1:length]
  if not 2 <= length <= 7 or any(byte >> 6 != 2 for byte in rest):
    return None, 0
  value = lead & ((1 << (7 - length)) - 1)
  for byte in rest:
    value = value << 6 | byte & 63
  return value, length


def _table(polynomial, bits):
  table = []
  for byte in range(256):
    value = byte << (bits - 8)
    for _ in range(8):
      value = value << 1 ^ (polynomial if value >> (bits - 1) else 0)
      value &= (1 << bits) - 1
    table.append(value)
  return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data):
  value = 0
  for byte in data:
    value = _CRC8[value ^ byte]
  return value


def _crc16(data):
  """Of data followed by its own checksum: 0."""
  value = 0
  for byte in data:
    value = (value << 8 & 0xff00) ^ _CRC16[value >> 8 ^ byte]
  return value
