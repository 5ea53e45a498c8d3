"""The bytes of a sample while it is made, or a part of them.

A stream is a WAV file whose length is known before its samples are. A browser
plays what comes as it comes, with nothing but an <audio> element: no script, no
Media Source. Safari plays only what answers ranges, so they are: it asks for
the first two bytes, then for all; a part that is not made yet comes when it is.
"""

import asyncio
import re

_POLL_S = 0.05
_PIECE_BYTES = 1 << 16
_RANGE = re.compile(r'\s*bytes\s*=\s*([0-9]{0,18})-([0-9]{0,18})\s*', re.I)


def part(header, size):
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
  first, last = (int(text) if text else None for text in found.groups())
  if first is None:
    return max(0, size - last), size
  if last is not None and last < first:
    return None
  return min(first, size), size if last is None else min(last + 1, size)


async def follow(job, number, first, stop):
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
  there = lambda: job.sounds and job.sounds[number].heard.exists()
  while not job.over and not there():
    await asyncio.sleep(_POLL_S)
  if there():
    with open(job.sounds[number].heard, 'rb') as file:
      file.seek(first)
      while left:
        over = job.over  # before reading: what is written then is the last
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
