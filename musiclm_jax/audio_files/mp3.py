"""MP3: only the frames themselves tell how many there are.

A frame in front of the sound may hold the number (Xing, Info or VBRI). Without
one the decoder guesses from the first frames and the size of the file, far off
where the bit rate changes; in joined files it counts the first alone.
"""

import dataclasses
import re
from typing import BinaryIO

_SYNC = re.compile(rb'\xff[\xe2-\xff]')
_SEARCHED = 1 << 16
_IN_A_ROW = 4  # frames; fewer may look like frames by chance, in a picture
_RATES = (44_100, 48_000, 32_000)
# kbit/s by index, of layers I, II and III of MPEG-1, then of MPEG-2 and 2.5.
_KBPS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBPS[2, 3] = _KBPS[2, 2]
_COUNTED = 1  # of the flags of a Xing header: the number of frames is there


@dataclasses.dataclass(frozen=True)
class _Header:
  """What the four bytes in front of a frame say.

  Attributes:
    kind: (version, layer, rate in Hz, channels); joined files may differ.
    size: of the frame in bytes.
    info: where a Xing header would be, from the frame's beginning.
  """

  kind: tuple
  size: int
  info: int


def known(start: bytes) -> bool:
  """Whether a file with these first bytes may be one."""
  return start[:3] == b'ID3' or _header(start[:4]) is not None


def pieces(file: BinaryIO, size: int) -> list[list] | None:
  """The frames behind a count of them, for each kind of frame in a file.

  Args:
    file: opened.
    size: of the file in bytes.

  Returns:
    Lists of pieces of `view.View`, or None where the decoder counts right.
  """
  runs = _runs(file, size)
  if not runs or any(kind[1] != 3 for kind, _, _ in runs):
    return None
  found = [_counted(file, *run) for run in runs]
  if len(found) == 1 and found[0] is None:
    return None
  return [own or spans for own, (_, _, spans) in zip(found, runs)]


def _header(data):
  """A `_Header`, or None."""
  if len(data) < 4 or data[0] != 0xff or data[1] < 0xe0:
    return None
  version = {0: 2.5, 2: 2, 3: 1}.get(data[1] >> 3 & 3)
  layer = 4 - (data[1] >> 1 & 3)
  kbps, rate = data[2] >> 4, data[2] >> 2 & 3
  if version is None or layer == 4 or kbps in (0, 15) or rate == 3 or (
      data[3] & 3 == 2):
    return None
  rate = int(_RATES[rate] / {1: 1, 2: 2, 2.5: 4}[version])
  bits = 1000 * _KBPS[min(2, int(version)), layer][kbps - 1]
  padding, mono = data[2] >> 1 & 1, data[3] >> 6 == 3
  if layer == 1:
    size = (12 * bits // rate + padding) * 4
  elif layer == 3 and version != 1:
    size = 72 * bits // rate + padding
  else:
    size = 144 * bits // rate + padding
  info = 4 + ((17 if mono else 32) if version == 1 else (9 if mono else 17))
  return _Header((version, layer, rate, 1 if mono else 2), size, info)


def _read(file, place, count):
  file.seek(place)
  return file.read(count)


def _runs(file, size):
  """[(kind, number of frames, [(first, stop) of frames without a gap])]."""
  runs, place = [], 0
  while place + 4 <= size:
    data = _read(file, place, 10)
    header = _header(data)
    if header is None or not runs or header.kind != runs[-1][0] or (
        place != runs[-1][2][-1][1]):
      place = _skip_tag(data, place) or _next(file, place, size)
      if place is None:
        break
      header = _header(_read(file, place, 4))
      if header is None:  # a tag was skipped
        continue
      if not runs or runs[-1][0] != header.kind:
        runs.append([header.kind, 0, []])
      runs[-1][2].append((place, place))
    stop = place + header.size
    if stop > size:  # cut: the decoder takes what is there
      break
    runs[-1][1] += 1
    runs[-1][2][-1] = (runs[-1][2][-1][0], stop)
    place = stop
  return [run for run in runs if run[1]]


def _skip_tag(data, place):
  """Where an ID3 tag at `place` ends, or None."""
  if data[:3] != b'ID3' or len(data) < 10:
    return None
  length = 0
  for byte in data[6:10]:
    length = length << 7 | byte & 127
  return place + 10 + length + (10 if data[5] & 16 else 0)


def _next(file, place, size):
  """The first place from here on where frames follow each other."""
  while place + 4 <= size:
    data = _read(file, place, _SEARCHED)
    for match in _SYNC.finditer(data):
      if _in_a_row(file, place + match.start(), size):
        return place + match.start()
    place += max(1, len(data) - 3)
  return None


def _in_a_row(file, place, size):
  """Whether frames of one kind follow each other, or up to the end."""
  kind = None
  for _ in range(_IN_A_ROW):
    header = _header(_read(file, place, 4))
    if header is None or kind not in (None, header.kind):
      return False
    kind = header.kind
    place += header.size
    if place == size:
      break
  return True


def _counted(file, kind, count, spans):
  """The pieces of a run with its count in front; None where it is right."""
  first, stop = spans[0]
  head = _read(file, first, 64)
  header = _header(head)
  assert header is not None  # `_runs` has read it there
  place = None
  if head[header.info:header.info + 4] in (b'Xing', b'Info'):
    if head[header.info + 7] & _COUNTED:
      place = header.info + 8
  elif head[36:40] == b'VBRI':
    place = 50
  if place is None:
    return [_count_frame(head, kind, count)] + spans
  said = int.from_bytes(head[place:place + 4], 'big')
  if said >= count - 1 and len(spans) == 1:
    return None
  place += first
  return [(first, place), (count - 1).to_bytes(4, 'big'),
          (place + 4, stop)] + spans[1:]


def _count_frame(head, kind, count):
  """A frame that is no sound and says how many frames there are."""
  plain = bytes((0xff, head[1] | 1, 0x90 | head[2] & 0x0c, head[3]))
  header = _header(plain)
  assert header is not None  # it was made of one
  told = b'Xing' + _COUNTED.to_bytes(4, 'big') + count.to_bytes(4, 'big')
  frame = plain + bytes(header.info - 4) + told
  return frame + bytes(header.size - len(frame))
