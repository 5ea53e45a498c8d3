"""Notices a run that hangs, and names the host that the others wait for.

The hosts of a run move in step: where one is late, all stand still, and none of
the others can see why. So each leaves a note of its own beside the run,

  <model_dir>/hosts/<number>   {"host": ..., "step": ..., "doing": ...}

written anew every few seconds by a thread, and when the run ends. A host that is
stuck in its input says so; one that is frozen, or whose machine is gone, stops
writing.
"""

from collections.abc import Callable
import contextlib
import faulthandler
import json
import os
import pathlib
import threading
import time
from typing import Any

import jax

from musiclm_jax import files
from musiclm_jax.training import consensus

WAITING = 'waiting for data'
COMPUTING = 'computing'
EVALUATING = 'evaluating'
SAVING = 'saving'

EXIT_CODE = 3  # for what started it: this is worth another try
_NOTE_SECONDS = 5.0


class Watchdog:
  """A thread that barks; enter it, then call `beat` wherever a step moves on.

  Args:
    model_dir: of the run; all hosts see it.
    limit_seconds: without a beat for so long a run hangs; 0 never barks.
    say: called with the line that names the late host.
    tick_seconds: how often it looks.
    end: called after twice the limit, where it is one of several hosts.
  """

  def __init__(self, model_dir: str | pathlib.Path, limit_seconds: float,
               say: Callable[[str], Any], tick_seconds: float = 1.0,
               end: Callable[[], Any] = lambda: os._exit(EXIT_CODE)):
    self._directory = pathlib.Path(model_dir) / 'hosts'
    self._limit = limit_seconds
    self._say = say
    self._tick = tick_seconds
    self._end = end
    self._idle = None  # seconds since the last beat; None before the first
    self._note = None
    self._stop = threading.Event()
    self._thread = threading.Thread(
        target=self._watch, daemon=True, name='watchdog')

  def __enter__(self):
    if self._limit:
      self._thread.start()
    return self

  def __exit__(self, *unused):
    self._stop.set()
    if self._limit:
      self._thread.join(timeout=10)

  def beat(self, step: int, doing: str) -> None:
    """The loop has reached `doing`, of the step after `step`."""
    self._note = dict(host=consensus.host_name(), step=step, doing=doing)
    self._idle = 0.0

  def _watch(self):
    written, barked, before = -float('inf'), False, time.monotonic()
    while not self._stop.wait(self._tick):
      now = time.monotonic()
      if self._idle is None:
        before = now
        continue
      # A process that was stopped itself has not been waiting.
      self._idle += min(now - before, 2 * self._tick)
      before = now
      if now - written >= min(_NOTE_SECONDS, self._limit / 4):
        self._write()
        written = now
      if self._idle < self._limit:
        barked = False
      elif not barked:
        barked = True
        self._bark()
      elif self._idle >= 2 * self._limit and not consensus.is_alone():
        self._say(f'{consensus.host_name()} gives up waiting.')
        self._end()
    if self._note:
      self._write()

  def _write(self):
    path = self._directory / str(jax.process_index())
    with contextlib.suppress(OSError):  # a full disk is the loop's to report
      self._directory.mkdir(exist_ok=True)
      files.write_text(path, json.dumps(dict(self._note, idle=self._idle)))

  def _bark(self):
    self._write()
    self._say(f'no step for {self._idle:.0f} s: ' + late_hosts(
        self._directory, jax.process_count(), self._limit))
    with contextlib.suppress(OSError, ValueError):  # stderr may be no file
      faulthandler.dump_traceback(all_threads=True)


def late_hosts(directory: str | pathlib.Path, count: int,
               silent_seconds: float) -> str:
  """Which hosts the others wait for, as text.

  Args:
    directory: of the notes.
    count: how many hosts there are.
    silent_seconds: a note older than this is that of a dead host.
  """
  notes = []
  for path in (pathlib.Path(directory) / str(i) for i in range(count)):
    with contextlib.suppress(OSError, ValueError):
      note = json.loads(path.read_text(encoding='utf-8'))
      note['silent'] = time.time() - path.stat().st_mtime
      notes.append(note)
  if not notes:
    return 'no host left a note'
  silent = [n for n in notes if n['silent'] > silent_seconds]
  if silent:
    return 'late: ' + ', '.join(
        f'{n["host"]}, silent for {n["silent"]:.0f} s, last at step '
        f'{n["step"]} ({n["doing"]})' for n in silent)
  # Whoever computes waits for those who have not begun to.
  order = lambda n: (n['step'], n['doing'] == COMPUTING)
  last = min(map(order, notes))
  if last == max(map(order, notes)):
    return (f'all {len(notes)} host(s) are {notes[0]["doing"]} at step '
            f'{notes[0]["step"]}')
  return 'late: ' + ', '.join(
      f'{n["host"]}, {n["doing"]} at step {n["step"]} for '
      f'{n["idle"]:.0f} s' for n in notes if order(n) == last)
