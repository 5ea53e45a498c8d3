"""TFRecord files and the tf.train.Examples in them, without TensorFlow.

  a file     length  its checksum   payload   its checksum,   over and over
             uint64  uint32         [length]  uint32          (little-endian)
  a payload  Example { features: { feature: map<name, bytes_list> } }

The checksums are CRC-32C, masked so that one over data with checksums in it is
no weak one. Of protocol buffers only what such an Example needs is here: fields
that are made of bytes. Other fields, such as lists of numbers, are passed over.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import os
import struct
from typing import Any
from typing import BinaryIO

import google_crc32c

from musiclm_jax import errors

HEAD_BYTES, FOOT_BYTES = 12, 4
# Field 1, of bytes: Example.features, Features.feature, an entry's name,
# Feature.bytes_list and BytesList.value. Field 2: an entry's value.
_FIRST, _SECOND = 1 << 3 | 2, 2 << 3 | 2
_MASK = 0xa282ead8


class Damaged(errors.UserError):
  """A file that is no such file, or not all of one."""


def masked_crc(data: bytes | memoryview) -> int:
  """The checksum of `data` as these files hold it."""
  crc = google_crc32c.value(bytes(data))
  return (((crc >> 15) | (crc << 17)) + _MASK) & 0xffffffff


def append(file: BinaryIO, payload: bytes) -> int:
  """Writes a record at the end of a file; returns where its payload begins."""
  begin = file.tell() + HEAD_BYTES
  length = struct.pack('<Q', len(payload))
  file.write(length + struct.pack('<I', masked_crc(length)))
  file.write(payload)
  file.write(struct.pack('<I', masked_crc(payload)))
  return begin


def spans(data: memoryview, path: str | os.PathLike, remedy: str,
          check: bool = False) -> Iterator[tuple[int, int]]:
  """(first, stop) of each payload in a file.

  Args:
    data: the file, as a memory map.
    path: of the file, for messages.
    remedy: what to do where it is damaged.
    check: whether to read the payloads and compare their checksums, too.

  Raises:
    Damaged: the file ends within a record, or a checksum is another.
  """
  place, number = 0, 0
  while place < len(data):
    number += 1
    first = place + HEAD_BYTES
    if first > len(data):
      raise _cut(path, number, remedy)
    (length,) = struct.unpack('<Q', data[place:place + 8])
    if _crc_at(data, place + 8) != masked_crc(data[place:place + 8]):
      raise Damaged(f'{path} is damaged (the head of record {number} has '
                    f'another checksum); {remedy}.')
    stop = first + length
    place = stop + FOOT_BYTES
    if place > len(data):
      raise _cut(path, number, remedy)
    if check and not is_whole(data, first, stop):
      raise Damaged(f'{path} is damaged (record {number} has another '
                    f'checksum); {remedy}.')
    yield first, stop


def is_whole(data: memoryview, first: int, stop: int) -> bool:
  """Whether a payload of `spans` has the checksum that stands behind it."""
  return _crc_at(data, stop) == masked_crc(data[first:stop])


def example(values: Mapping[str, Sequence[bytes]]) -> bytes:
  """A tf.train.Example of lists of bytes, in the order of `values`.

  >>> example(dict(a=[b'x', b'']))
  b'\\n\\x0e\\n\\x0c\\n\\x01a\\x12\\x07\\n\\x05\\n\\x01x\\n\\x00'
  """
  entries = []
  for name, listed in values.items():
    bytes_list = b''.join(_field(_FIRST, value) for value in listed)
    entries.append(_field(_FIRST, _field(_FIRST, name.encode()) + _field(
        _SECOND, _field(_FIRST, bytes_list))))
  return _field(_FIRST, b''.join(entries))


def parse(payload: memoryview) -> dict[str, list[tuple[int, int]]]:
  """{name: (first, stop) of each of its values in `payload`} of an Example.

  The values themselves are not read, so that one may be as long as it likes.

  Raises:
    ValueError: `payload` is no Example.
  """
  found = {}
  try:
    for tag, first, stop in _fields(payload, 0, len(payload)):
      if tag == _FIRST:
        for _, begin, end in _fields(payload, first, stop):
          _entry(payload, begin, end, found)
  except (IndexError, UnicodeDecodeError) as error:
    raise ValueError('no tf.train.Example') from error
  return found


def _entry(payload, begin, end, found):
  """Adds the name and values of one feature."""
  name, values = '', []
  for tag, first, stop in _fields(payload, begin, end):
    if tag == _FIRST:
      name = bytes(payload[first:stop]).decode()
    elif tag == _SECOND:
      for kind, start, last in _fields(payload, first, stop):
        if kind == _FIRST:
          values += [(a, b) for _, a, b in _fields(payload, start, last)]
  found[name] = values


def _fields(data, place, stop):
  """(tag, first, stop) of the fields of bytes in a message; others go by."""
  while place < stop:
    tag, place = _varint(data, place)
    kind = tag & 7
    if kind == 2:
      length, place = _varint(data, place)
      if place + length > stop:
        raise ValueError('a field is longer than what it stands in')
      yield tag, place, place + length
      place += length
    elif kind == 0:
      _, place = _varint(data, place)
    elif kind in (1, 5):
      place += 8 if kind == 1 else 4
    else:
      raise ValueError('no such kind of field')


def _varint(data, place):
  """(value, where it ends) of a number of seven bits a byte."""
  value, shift = 0, 0
  while True:
    byte = data[place]
    value |= (byte & 127) << shift
    place += 1
    shift += 7
    if byte < 128:
      return value, place
    if shift > 63:
      raise ValueError('no number')


def _field(tag, content):
  length, size = bytearray(), len(content)
  while size > 127:
    length.append(size & 127 | 128)
    size >>= 7
  length.append(size)
  return bytes([tag]) + bytes(length) + content


def _crc_at(data, place):
  return struct.unpack('<I', data[place:place + 4])[0]


def _cut(path, number, remedy) -> Any:
  return Damaged(f'{path} is cut within record {number}; {remedy}.')
