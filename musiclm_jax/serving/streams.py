"""The bytes of a sample while it is made, or a part of them.

A stream is a WAV file whose length is known before its samples are. A browser's
<audio> element plays it as it comes, without any script. Range requests are
answered, because Safari plays nothing without: it asks for the first two bytes,
then for all. A part that is not made yet is sent when it is.
"""

import asyncio
from collections.abc import AsyncIterator
import re

from musiclm_jax.serving import jobs

_POLL_S = 0.05
_PIECE_BYTES = 1 << 16
_RANGE = re.compile(r'\s*bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*', re.I)


def part(header: str | None, size: int) -> tuple[int, int] | None:
  """What a Range header asks for of `size` bytes.

  >>> part('bytes=0-1', 100), part('bytes=44-', 100), part('bytes=-8', 100)
  ((0, 2), (44, 100), (92, 100))

  Args:
    header: the header, or None.
    size: at least 1.

  Returns:
    (first byte, the one after the last), empty where there is no such part, or
    None for all: no range, several, or one that is not understood.
  """
  found = _RANGE.fullmatch(header or '')
  if found is None or found.groups() == ('', ''):
    return None
  first, last = found.groups()
  if not first:  # so many bytes from the end
    return max(0, size - int(last)), size
  if last and int(last) < int(first):
    return None
  return min(int(first), size), min(int(last) + 1, size) if last else size


async def follow(job: jobs.Job, number: int, first: int,
                 stop: int) -> AsyncIterator[bytes]:
  """Yields bytes `first` to `stop` of a stream as they come.

  A player is told the length at the beginning, so if the job ends early there
  is silence up to it.

  Args:
    job: the jobs.Job.
    number: of the sample, from 0.
    first: byte.
    stop: the byte after the last one.
  """
  left = stop - first
  begun = lambda: job.sounds and job.sounds[number].heard.exists()
  while not job.over and not begun():
    await asyncio.sleep(_POLL_S)
  if begun():
    with open(job.sounds[number].heard, 'rb') as file:
      file.seek(first)
      while left:
        # Before reading: after a job is over nothing is written, so what is
        # read then is the end; the other way round it could be written between.
        over = job.over
        if data := file.read(min(left, _PIECE_BYTES)):
          left -= len(data)
          yield data
        elif over:
          break
        else:
          await asyncio.sleep(_POLL_S)
  while left:
    data = bytes(min(left, _PIECE_BYTES))
    left -= len(data)
    yield data
