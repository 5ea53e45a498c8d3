"""One line of progress: step, rate, time left, loss."""

import collections
import datetime
import time

from musiclm_jax import progress as progress_lib

_WINDOW_SECONDS = 60.0


class Progress:
  """Writes to stderr: a line that is redrawn on a terminal, else one each 10 s.

  Args:
    num_steps: where the run ends.
    seconds_left: function giving the wall-clock time still allowed (may be
      infinite); the ETA never exceeds it.
    stream: where to write.
    every_seconds: the least time between two lines; None picks by the stream.
  """

  def __init__(self, num_steps, seconds_left, stream=None, every_seconds=None):
    self._num_steps = num_steps
    self._seconds_left = seconds_left
    self._line = progress_lib.Line(stream)
    self._every = (
        self._line.every_seconds if every_seconds is None else every_seconds)
    self._last = -float('inf')
    self._marks = collections.deque()

  def say(self, text):
    """A line of its own, at once."""
    self._line.say(text)

  def mark(self, step):
    """Counts a finished step into the rate; call it for every step."""
    now = time.monotonic()
    self._marks.append((now, step))
    while now - self._marks[0][0] > _WINDOW_SECONDS and len(self._marks) > 2:
      self._marks.popleft()

  def restart(self):
    """Forgets the rate: the steps go on from an earlier one."""
    self._marks.clear()

  def due(self):
    return time.monotonic() - self._last >= self._every

  def rate(self):
    """Steps a second over the last minute; 0 before two steps are done."""
    if len(self._marks) < 2:
      return 0.0
    (t0, s0), (t1, s1) = self._marks[0], self._marks[-1]
    return (s1 - s0) / max(t1 - t0, 1e-9)

  def show(self, step, metrics):
    """Draws the line for `step`."""
    self._last = time.monotonic()
    rate = self.rate()
    share = 100.0 * step / max(1, self._num_steps)
    parts = [f'step {step}/{self._num_steps} ({share:.0f} %)', _rate(rate)]
    if rate:
      left = min((self._num_steps - step) / rate,
                 max(0.0, self._seconds_left()))
      parts.append(f'ETA {datetime.timedelta(seconds=round(left))}')
    if 'loss' in metrics:
      parts.append(f'loss {metrics["loss"]:.4g}')
    self._line.draw('  '.join(parts))


def _rate(rate):
  if not rate:
    return '- steps/s'
  return f'{rate:.2f} steps/s' if rate >= 0.5 else f'{1 / rate:.1f} s/step'
