"""Which windows a stage draws where the audio is longer than its crop.

Semantic (paper): windows advance by half of their length, 15 s of 30, with the
other half as prefix. Coarse (ours): 10 s windows, the last 5 s of the previous
one as prefix. Fine (paper: AudioLM): independent 3 s windows; the last one is
aligned to the end and what it shares with the one before it is forced (ours).

40 s of semantic tokens come from two windows, the second of which keeps 15 s
and draws 10 s; 10 s of fine tokens from three windows and one that draws 1 s:

>>> for w in overlapping(40, window=30): print(w)
Window(index=0, start=0, stop=30, drawn_from=0)
Window(index=1, start=15, stop=40, drawn_from=30)
>>> for w in aligned(10, window=3): print(w)
Window(index=0, start=0, stop=3, drawn_from=0)
Window(index=1, start=3, stop=6, drawn_from=3)
Window(index=2, start=6, stop=9, drawn_from=6)
Window(index=3, start=7, stop=10, drawn_from=9)

All in seconds; every frame is drawn once:

>>> [w.stop - w.drawn_from for w in overlapping(23, window=10)]
[10, 5, 5, 3]

A story's change of prompt ends a window (ours: anywhere; paper: every 15 s):

>>> for w in overlapping(60, window=30, changes=(0, 20, 45)): print(w)
Window(index=0, start=0, stop=20, drawn_from=0)
Window(index=1, start=5, stop=35, drawn_from=20)
Window(index=2, start=20, stop=45, drawn_from=35)
Window(index=3, start=30, stop=60, drawn_from=45)

What is there already, 17 s of a recording for example, is a prefix only:

>>> overlapping(40, window=30, known=17)
[Window(index=0, start=2, stop=32, drawn_from=17), Window(index=1, start=17, \
stop=40, drawn_from=32)]
"""

import bisect
from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Window:
  """Seconds start..stop, of which drawn_from..stop are new."""

  index: int
  start: int
  stop: int
  drawn_from: int


@dataclasses.dataclass(frozen=True)
class Plan:
  """How the windows of a stage lie.

  Attributes:
    overlap: each goes on from the last part of the one before it; otherwise
      they stand side by side and can be drawn at once.
    changes: a window ends where the prompt changes.
  """

  overlap: bool = True
  changes: bool = False

  def windows(self, seconds: int, window: int, changes: Sequence[int] = (),
              known: int = 0) -> list[Window]:
    """The windows of `seconds`; arguments as of `overlapping`."""
    if not self.overlap:
      return aligned(seconds, window, known)
    return overlapping(
        seconds, window, changes if self.changes else (), known)

  def longest_prefix(self, window: int) -> int:
    """Most seconds of a window that may be there before it is drawn."""
    return window // 2 if self.overlap else window - 1


# What the stages of MusicLM do; only the first one is told a story's parts.
PLANS = {'semantic': Plan(changes=True), 'coarse': Plan(),
         'fine': Plan(overlap=False)}


def overlapping(seconds: int, window: int, changes: Sequence[int] = (),
                known: int = 0) -> list[Window]:
  """Windows that each keep up to half a window of what is before them.

  Args:
    seconds: of all the audio.
    window: seconds of one window.
    changes: seconds at which a window has to end.
    known: seconds that are there already.

  Returns:
    List of `Window`s; empty if nothing is left to draw.
  """
  prefix, result, at = window // 2, [], known
  ends = sorted({seconds, *(c for c in changes if c < seconds)})
  while at < seconds:
    start = max(0, at - prefix)
    # The first window may be all new; others advance by what their prefix
    # leaves free, also where an early change has cut the prefix short.
    reach = window if not at else at - prefix + window
    stop = min(reach, ends[bisect.bisect_right(ends, at)])
    result.append(Window(len(result), start, stop, at))
    at = stop
  return result


def aligned(seconds: int, window: int, known: int = 0) -> list[Window]:
  """Windows side by side; the last one is moved back to end at the end."""
  result = []
  for first in range(known, seconds, window):
    stop = min(first + window, seconds)
    result.append(Window(len(result), max(0, stop - window), stop, first))
  return result
