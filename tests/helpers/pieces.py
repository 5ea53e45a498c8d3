"""Pieces of work as workers see them: functions of a module, for pickling."""

import errno
import os
import pathlib
import signal
import time


def double(piece):
  return 2 * piece


def noted(piece):
  """Leaves a file each time that it is called."""
  folder, number = piece
  made = pathlib.Path(folder) / f'{number}-{time.monotonic_ns()}'
  made.touch()
  return number


def odd_ones_fail(piece):
  if piece % 2:
    raise ValueError(f'{piece} is odd')
  return piece


def disk_is_full(unused_piece):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'x')


def dies_once(piece):
  """Ends its process the first time that it is called with the piece."""
  mark = pathlib.Path(piece)
  if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
  return mark.name


def dies_always(piece):
  if piece == 'bad':
    os.kill(os.getpid(), signal.SIGKILL)
  return piece
