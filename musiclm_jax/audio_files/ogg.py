"""OGG: streams may follow each other; the decoder takes the first alone.

  pages: OggS, version, flags, position, stream, number, checksum, lengths.
"""

from typing import BinaryIO

_HEAD_BYTES = 27
_BEGINS = 2  # of the flags


def known(start: bytes) -> bool:
  """Whether a file with these first bytes is one."""
  return start[:4] == b'OggS'


def pieces(file: BinaryIO, size: int) -> list[list] | None:
  """Each of the streams that follow each other.

  Args:
    file: opened.
    size: of the file in bytes.

  Returns:
    Lists of pieces of `view.View`, or None for one stream.
  """
  edges, place, begins = [0], 0, True
  while place + _HEAD_BYTES <= size:
    file.seek(place)
    head = file.read(_HEAD_BYTES)
    if head[:4] != b'OggS':
      break
    begun, begins = begins, bool(head[5] & _BEGINS)
    if begins and not begun:
      edges.append(place)
    place += _HEAD_BYTES + head[26] + sum(file.read(head[26]))
  if len(edges) == 1:
    return None
  return [[edge] for edge in zip(edges, edges[1:] + [size])]
