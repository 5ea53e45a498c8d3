"""How far a command is: a line on stderr for each thing that it does.

On a terminal the line is redrawn, elsewhere one is written every ten seconds
and when a thing is done:

  semantic   30/30 s  0:04
  coarse     12/30 s  ETA 0:09

Written by hand because tqdm and rich redraw: into a file or a pipe, which long
trainings are mostly sent to, they write one ever longer line, or nothing. Here
logs get whole lines, seldom, and short work is silent.
"""

from collections.abc import Callable
import contextlib
import sys
import time
from typing import TextIO

_QUIET_SECONDS = 5.0  # work that is done sooner shows nothing
_REDRAW_SECONDS, _LINE_SECONDS = 0.5, 10.0


class Line:
  """A line that is redrawn on a terminal; elsewhere, lines one by one.

  Attributes:
    every_seconds: how often to draw it.
    redrawn: whether it is a terminal's.
  """

  def __init__(self, stream: TextIO | None = None):
    self._stream = stream or sys.stderr
    self.redrawn = self._stream.isatty()
    self.every_seconds = _REDRAW_SECONDS if self.redrawn else _LINE_SECONDS
    self._open = False

  def draw(self, text: str) -> None:
    """Puts `text` in place of what was drawn before."""
    self._write(f'\r\x1b[K{text}' if self.redrawn else f'{text}\n')
    self._open = self.redrawn

  def end(self) -> None:
    """What comes next begins below."""
    if self._open:
      self._write('\n')
      self._open = False

  def say(self, text: str) -> None:
    """A line of its own, at once."""
    self.end()
    self._write(f'{text}\n')

  def _write(self, text):
    self._stream.write(text)
    self._stream.flush()


def seldom(
    say: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
  """A function of a line of progress that speaks every ten seconds only.

  Args:
    say: what gets the lines; None prints them on stderr.
    clock: seconds, for tests.
  """
  say = say or (lambda line: print(line, file=sys.stderr, flush=True))
  last = clock()

  def line(text):
    nonlocal last
    if clock() - last >= _LINE_SECONDS:
      last = clock()
      say(text)

  return line


class Progress(contextlib.AbstractContextManager):
  """Shows how far things are that come one after the other."""

  def __init__(
      self, quiet_seconds: float | None = None, stream: TextIO | None = None,
      clock: Callable[[], float] = time.monotonic):
    """A progress that is silent at first.

    Args:
      quiet_seconds: work that is done sooner shows nothing; default 5.
      stream: where to write; stderr by default.
      clock: function giving seconds.
    """
    self._bar = Line(stream)
    self._clock = clock
    quiet = _QUIET_SECONDS if quiet_seconds is None else quiet_seconds
    self._speak = clock() + quiet
    self._next = self._speak
    self._what = None

  def __exit__(self, *unused_error):
    self._bar.end()

  def show(
      self, what: str, done: float, total: float, unit: str = ' s') -> None:
    """`done` of `total` of `what` are done.

    The rate that the ETA is taken from begins with the first part that is done,
    so that what is compiled before it does not count.
    """
    now = self._clock()
    if what != self._what:
      self._bar.end()
      self._what, self._begun, self._mark = what, now, None
      wait = 0.0 if self._bar.redrawn else self._bar.every_seconds
      self._next = max(self._speak, now + wait)
    if done and self._mark is None:
      self._mark = now, done
    finished = done >= total
    if now < self._speak or (now < self._next and not finished):
      return
    self._next = now + self._bar.every_seconds
    self._bar.draw(f'{what:<10} {done:.0f}/{total:.0f}{unit}'
                   f'{self._time(now, done, total)}')
    if finished:
      self._bar.end()

  def _time(self, now, done, total):
    """What is left, or in the end what it took."""
    if done >= total:
      return f'  {_shown(now - self._begun)}'
    since, first = self._mark or (now, 0)
    if now <= since or done <= first:
      return ''
    return f'  ETA {_shown((now - since) * (total - done) / (done - first))}'


def _shown(seconds):
  seconds = round(seconds)
  return f'{seconds // 60}:{seconds % 60:02d}'
