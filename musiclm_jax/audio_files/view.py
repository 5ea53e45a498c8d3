"""A file with some of its bytes exchanged, left out or added, read-only."""

from collections.abc import Iterable
import io
import os
from typing import Any

SNIFFED_BYTES = 16


class View(io.RawIOBase):
  """What soundfile reads in place of a file.

  >>> import pathlib, tempfile
  >>> folder = tempfile.TemporaryDirectory()
  >>> path = pathlib.Path(folder.name) / 'x'
  >>> _ = path.write_bytes(b'0123456789')
  >>> with View(path, [b'ab', (2, 5), (8, 10)]) as view:
  ...   view.read(), view.seek(4), view.read(2)
  (b'ab23489', 4, b'48')
  >>> folder.cleanup()
  """

  def __init__(self, path: str | os.PathLike,
               pieces: Iterable[bytes | tuple[int, int]]):
    """Opens the file.

    Args:
      path: of the file.
      pieces: bytes to insert, and (first, stop) of the file's own bytes, in
        order.
    """
    super().__init__()
    self._path = str(path)
    self._file = open(path, 'rb')
    self._pieces, self._size, self._position = [], 0, 0
    for piece in pieces:
      length = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
      self._pieces.append((self._size, length, piece))
      self._size += length
    self._current = 0  # the piece that was read last: most reads go on there

  def __repr__(self) -> str:  # which soundfile puts into its messages
    return repr(self._path)

  def close(self) -> None:
    self._file.close()
    super().close()

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def tell(self) -> int:
    return self._position

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position,
            io.SEEK_END: self._size}[whence]
    self._position = max(0, base + offset)
    return self._position

  def readinto(self, buffer: Any) -> int:
    out, done = memoryview(buffer).cast('B'), 0
    while done < len(out) and self._position < self._size:
      part = self._read(len(out) - done)
      if not part:  # the file has become shorter
        break
      out[done:done + len(part)] = part
      done += len(part)
      self._position += len(part)
    return done

  def _read(self, most):
    """Some of the bytes at the position, of one piece."""
    if self._position < self._pieces[self._current][0]:
      self._current = 0
    while True:
      first, length, piece = self._pieces[self._current]
      offset = self._position - first
      if offset < length:
        break
      self._current += 1
    most = min(most, length - offset)
    if isinstance(piece, bytes):
      return piece[offset:offset + most]
    self._file.seek(piece[0] + offset)
    return self._file.read(most)
