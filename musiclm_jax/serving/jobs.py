"""Requests on their way: a bounded queue, and results for a while.

  submit -> queued -> running -> done | failed | cancelled -> removed

Who cancels is free at once, but the worker may be deep in a compilation, which
nothing can interrupt: the job is over, its files stay until the worker has let
go of it, and `letting_go` tells others what they wait for.

Threads and the event loop read jobs as they are; only `Jobs` changes their
state, under its lock.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import math
import pathlib
import secrets
import shutil
import threading
import time
from typing import TYPE_CHECKING

from musiclm_jax import errors
from musiclm_jax.decoding import choices
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import sound as sound_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

if TYPE_CHECKING:  # it needs pydantic, and the queue does not
  from musiclm_jax.serving import asking

QUEUED, RUNNING, DONE, FAILED, CANCELLED = STATES = (
    'queued', 'running', 'done', 'failed', 'cancelled')
# What a stage has of all the work (ours, measured roughly on the demo bundle).
_SHARES = dict(semantic=0.2, coarse=0.4, fine=0.35, audio=0.05)
_FIRST_GUESS_S = 10.0  # that a request takes, before one was served


class Busy(errors.UserError):
  """No place in the queue; `retry_after_s` says when to come again."""

  def __init__(self, message: str, retry_after_s: int):
    super().__init__(message)
    self.retry_after_s = retry_after_s


class Advance:
  """How far one request is: from reports of stages to one share that grows.

  Attributes:
    stage: the last one that reported.
    share: of all the work, 0..1.
    seconds: of audio that can be heard.
  """

  def __init__(self, rounds: int = 1):
    """`rounds`: times that the stages run, MAX_ROWS samples at a time."""
    self.stage, self.share, self.seconds = '', 0.0, 0
    self._rounds, self._ended = rounds, 0
    self._stages = dict(audio=0.0)  # {stage: share of it that is done}

  def report(self, stage: str, done: int, total: int) -> None:
    """Takes a report of `systems.musiclm.model.Model.make`.

    Args:
      stage: that reports; those without a share of the work are only named.
      done: steps of it; of the stage 'audio', seconds.
      total: steps that it will take.
    """
    self.stage = stage
    if stage not in _SHARES:
      return
    if stage == 'audio':
      self.seconds = done
    self._stages[stage] = done / max(1, total)
    weight = sum(_SHARES[s] for s in self._stages)
    now = sum(_SHARES[s] * part for s, part in self._stages.items()) / weight
    self.share = max(self.share, min(1.0, (self._ended + now) / self._rounds))
    if stage == 'audio' and done >= total:
      self._ended += 1
      self._stages = dict(audio=0.0)


@dataclasses.dataclass(frozen=True)
class Made:
  """A finished sample: `file`, its `picture`, and the seconds of it."""

  file: pathlib.Path
  picture: pathlib.Path
  seconds: float
  similarity: float | None = None


@dataclasses.dataclass
class Job:
  """One request.

  Attributes:
    id: unguessable, so that it serves as the key to what was made.
    folder: of its files.
    wanted: asking.Wanted; None once it has ended, recordings are large.
    settings: its settings.Settings.
    title: what was asked for, in a line.
    seconds: of audio.
    format: of the files.
    state: of STATES.
    error: the line that says why it failed.
    late: whether that is the time limit.
    advance: an Advance.
    sounds: sound.Sounds while and after it is made, in order of samples.
    made: Mades when it is done, the best first if the best were wanted.
    times: {state: seconds of the clock at which it came}.
    cancelled: set when it should end.
  """

  id: str
  folder: pathlib.Path
  wanted: asking.Wanted | None
  settings: settings_lib.Settings
  title: str
  seconds: float
  format: str
  state: str = QUEUED
  error: str = ''
  late: bool = False
  advance: Advance = dataclasses.field(default_factory=Advance)
  sounds: tuple[sound_lib.Sound, ...] = ()
  made: tuple[Made, ...] = ()
  times: dict[str, float] = dataclasses.field(default_factory=dict)
  cancelled: threading.Event = dataclasses.field(
      default_factory=threading.Event)

  @property
  def over(self) -> bool:
    """Whether nothing more will come of it."""
    return self.state in (DONE, FAILED, CANCELLED)


class Jobs:
  """All that wait, the one that runs, and those that are over.

  Attributes:
    clock: function giving seconds.
    stopped: whether nothing more is taken.
  """

  def __init__(self, folder: pathlib.Path, limits: limits_lib.Limits,
               clock: Callable[[], float] = time.monotonic):
    """An empty queue.

    Args:
      folder: that exists; a job's files go into one of their own below it.
      limits: the limits.Limits.
      clock: function giving seconds.
    """
    self._folder, self._limits = folder, limits
    self.clock = clock
    self._change = threading.Condition()
    self._jobs: dict[str, Job] = {}  # by id, oldest first
    self._waiting: collections.deque[Job] = collections.deque()
    self._sizes: dict[str, int] = {}  # by id: bytes of a job that is over
    self._worked: Job | None = None  # the one that the worker holds
    self._usual_s = _FIRST_GUESS_S
    self.stopped = False

  def check_place(self) -> None:
    """Busy unless a job could be submitted now."""
    with self._change:
      if self.stopped:
        raise Busy('the server is stopping; try again later.', 30)
      if len(self._waiting) >= self._limits.queue:
        raise Busy(
            f'busy: {len(self._waiting)} requests are waiting already; try '
            f'again later.', max(1, math.ceil(self._usual_s)))

  def submit(self, wanted: asking.Wanted) -> Job:
    """The new `Job`; Busy where there is no place for it."""
    with self._change:
      self.check_place()
      identity = secrets.token_urlsafe(12)
      rounds = -(-wanted.settings.drawn // choices.MAX_ROWS)
      job = Job(identity, self._folder / identity, wanted, wanted.settings,
                wanted.steering.title, wanted.seconds, wanted.format,
                advance=Advance(rounds), times={QUEUED: self.clock()})
      job.folder.mkdir()
      self._jobs[identity] = job
      self._waiting.append(job)
      self._change.notify_all()
      return job

  def get(self, identity: str) -> Job | None:
    """The Job, or None."""
    return self._jobs.get(identity)

  def position(self, job: Job) -> int:
    """How many are before a job: 0 for the one that runs."""
    with self._change:
      running = self._worked is not None and not self._worked.over
      return (self._waiting.index(job) + running if job in self._waiting
              else 0)

  @property
  def letting_go(self) -> Job | None:
    """The cancelled Job that the worker still holds, or None."""
    worked = self._worked
    return worked if worked is not None and worked.over else None

  def counts(self) -> dict[str, int]:
    """{'waiting', 'running', 'held'}: how many there are."""
    with self._change:
      over = sum(job.over for job in self._jobs.values())
      return dict(waiting=len(self._waiting), held=over,
                  running=len(self._jobs) - over - len(self._waiting))

  def cancel(self, identity: str) -> bool:
    """Ends a job that is not over, at once; whether there was one."""
    with self._change:
      job = self._jobs.get(identity)
      if job is None or job.over:
        return False
      job.cancelled.set()
      if job in self._waiting:
        self._waiting.remove(job)
      self._end(job, CANCELLED, '')
      return True

  def next(self, wait: bool = True) -> Job | None:
    """The next job, marked as running.

    Args:
      wait: until there is one; else None where there is none.

    Returns:
      A `Job`, or None when it is time to go.
    """
    with self._change:
      if wait:
        self._change.wait_for(lambda: self._waiting or self.stopped)
      if self.stopped or not self._waiting:
        return None
      job = self._worked = self._waiting.popleft()
      job.state = RUNNING
      job.times[RUNNING] = self.clock()
      return job

  def end(self, job: Job, state: str, error: str = '',
          made: Iterable[Made] = ()) -> None:
    """The worker lets a job go; what comes of a cancelled one is dropped."""
    with self._change:
      self._worked = None
      if not job.over:
        job.made = tuple(made)
        self._end(job, state, error)
        if state == DONE:
          took = job.times[DONE] - job.times[RUNNING]
          self._usual_s = 0.7 * self._usual_s + 0.3 * took
      removed = job.id not in self._jobs
    if removed:
      shutil.rmtree(job.folder, ignore_errors=True)
    self.tidy()

  def _end(self, job: Job, state: str, error: str) -> None:
    job.error, job.times[state] = error, self.clock()
    job.wanted = None
    # Last, because others read without the lock: who sees that a job is over
    # must find the rest of it as it will stay.
    job.state = state
    self._change.notify_all()

  def remove(self, identity: str) -> None:
    """Forgets a job that is over, and its files."""
    with self._change:
      job = self._jobs.get(identity)
      if job is None or not job.over:
        return
      del self._jobs[identity]
      self._sizes.pop(identity, None)
      if job is self._worked:  # it still writes files; `end` removes them
        return
    shutil.rmtree(job.folder, ignore_errors=True)

  def drop(self, identity: str) -> None:
    """Cancels a job that is not over, and forgets it."""
    with self._change:
      self.cancel(identity)
      self.remove(identity)

  def tidy(self) -> None:
    """Removes results that are too many, too large together or too old."""
    with self._change:
      over = [job for job in self._jobs.values() if job.over]
      for job in over:
        if job.id not in self._sizes:
          self._sizes[job.id] = _size(job.folder)
      # The last one stays: somebody is about to fetch it.
      for job in self._limits.surplus(
          [(job.times[job.state], self._sizes[job.id], job) for job in over],
          self.clock(), most=self._limits.keep, spared=1):
        self.remove(job.id)

  def stop(self) -> None:
    """Cancels everything; nothing more is taken."""
    with self._change:
      self.stopped = True
      identities = list(self._jobs)
      self._change.notify_all()
    for identity in identities:
      self.cancel(identity)


def _size(folder: pathlib.Path) -> int:
  return sum(file.stat().st_size for file in folder.glob('*'))
