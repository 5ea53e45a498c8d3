"""The line that says how far a command is."""

import io

from musiclm_jax import progress


class Clock:

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):

  def isatty(self):
    return True


def shown(stream, events, quiet_seconds=0.0):
  """What `events`, (seconds, what, done, total), leave on the stream."""
  clock = Clock()
  with progress.Progress(quiet_seconds, stream, clock) as made:
    for at, *event in events:
      clock.now = 100.0 + at
      made.show(*event)
  return stream.getvalue()


def test_a_file_gets_a_line_every_ten_seconds_and_at_the_end():
  events = [(t, 'fine', t, 30) for t in range(31)]
  assert shown(io.StringIO(), events) == (
      'fine       10/30 s  ETA 0:20\n'
      'fine       20/30 s  ETA 0:10\n'
      'fine       30/30 s  0:30\n')


def test_a_terminal_gets_one_line_that_is_redrawn():
  events = [(0, 'fine', 0, 4), (1, 'fine', 2, 4), (1.1, 'fine', 3, 4),
            (2, 'fine', 4, 4), (2, 'audio', 1, 1)]
  assert shown(Terminal(), events) == (
      '\r\x1b[Kfine       0/4 s'
      '\r\x1b[Kfine       2/4 s'
      '\r\x1b[Kfine       4/4 s  0:02\n'
      '\r\x1b[Kaudio      1/1 s  0:00\n')


def test_what_is_broken_off_ends_its_line():
  assert shown(Terminal(), [(0, 'fine', 0, 4)]).endswith('0/4 s\n')


def test_short_work_is_silent():
  events = [(0, 'encode', 0, 9), (4, 'encode', 9, 9)]
  assert not shown(io.StringIO(), events, quiet_seconds=5.0)
  late = [(0, 'encode', 0, 9), (6, 'encode', 9, 9)]
  assert shown(io.StringIO(), late, 5.0) == 'encode     9/9 s  0:06\n'


def test_compilation_does_not_count_for_the_rate():
  """The first second took 60 s, the others 1 s each."""
  events = [(0, 'fine', 0, 20), (60, 'fine', 1, 20), (65, 'fine', 6, 20),
            (71, 'fine', 12, 20)]
  assert shown(io.StringIO(), events).endswith('12/20 s  ETA 0:08\n')


def test_seldom_speaks_every_ten_seconds():
  now, lines = [0.0], []
  say = progress.seldom(lines.append, clock=lambda: now[0])
  for second in range(25):
    now[0] = second
    say(f'{second} of 25')
  assert lines == ['10 of 25', '20 of 25']
