"""The one thread that owns the model: it loads, warms up and serves the queue.

Generation reports after every second that a stage has drawn; what the report
raises ends the work, and that is how cancelling and the time limit act. A
program that is being compiled cannot be stopped: who cancels does not wait for
it, the next request does.

A request that comes while it warms up is served before the next program is
compiled. What is still missing for that request is compiled then; the rest of
the warm-up goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import threading
import traceback
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from musiclm_jax import errors
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import programs as programs_lib
from musiclm_jax.serving import sound as sound_lib
from musiclm_jax.serving import warm as warm_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering as steering_lib

if TYPE_CHECKING:  # it imports jax, which takes seconds
  from musiclm_jax.systems.musiclm import model as model_lib

STARTING, READY, BROKEN, GONE = 'starting', 'ready', 'failed', 'stopped'
_LOADING = 'the server is starting: the model is loaded'
_COMPILING = ('the server is starting: one of the programs that any request '
              'needs is compiled')
_PRACTICE = 'a slow waltz on accordion'


class _Cancelled(Exception):
  """Somebody cancelled the request."""


class _TimeIsUp(Exception):
  """The request has had its time."""


class _SomebodyWaits(Exception):
  """A request has come, and it comes before practice."""


class Worker:
  """Serves jobs one after the other.

  Attributes:
    state: STARTING until any first request can be served without compiling,
      then READY; BROKEN if it could not be loaded, GONE after `stop`.
    starts: what it does while it is STARTING and serves nobody, or None.
    warming: whether more is compiled ahead while nobody waits.
    programs: the programs.Programs.
    error: the exception that broke it.
  """

  def __init__(self, jobs: jobs_lib.Jobs, limits: limits_lib.Limits,
               load: Callable[[], model_lib.Model], warm: str = 'all',
               say: Callable[[str], Any] = print,
               picture: Callable[[np.ndarray], bytes] | None = None):
    """A worker that has not begun.

    Args:
      jobs: the jobs.Jobs.
      limits: the limits.Limits.
      load: function giving the model; called in the thread.
      warm: of limits.WARM.
      say: function that takes a line for whoever runs the server.
      picture: function from [N] float32 to a PNG; its spectrogram by default.
    """
    self.state = STARTING
    self.error: Exception | None = None
    self.starts: str | None = _LOADING
    self.warming, self.programs = warm == 'all', programs_lib.Programs()
    self._jobs, self._limits = jobs, limits
    self._load, self._warm, self._say = load, warm, say
    self._picture = picture or spectrogram
    self._thread = threading.Thread(
        target=self._run, name='worker', daemon=True)

  def start(self) -> None:
    """Begins to load the model."""
    self._thread.start()

  def wait(self) -> None:
    """Until the thread has ended."""
    self._thread.join()

  def stop(self, wait_s: float = 30.0) -> bool:
    """Cancels everything; whether the thread has ended in time."""
    self._jobs.stop()
    if self._thread.ident is not None:
      self._thread.join(wait_s)
    return not self._thread.is_alive()

  def _run(self) -> None:
    """What the thread does, from loading to the end."""
    try:
      model = self._load()
      make = functools.partial(self._practise, model)
      if self._warm != 'none':
        self.starts = _COMPILING
        for _ in warm_lib.first(model, make):
          self._unless_stopped()
          self._serve_waiting(model)
          self.starts = _COMPILING
      self.starts = None
    except _Cancelled:
      self.state = GONE
      return
    except Exception as error:  # pylint: disable=broad-exception-caught
      self.error, self.state = error, BROKEN
      self._jobs.stop()
      return
    self.state = READY
    self._say('ready')
    ahead = warm_lib.others(model, make, self._limits.max_samples)
    while not self._jobs.stopped:
      job = self._jobs.next(wait=not self.warming)
      if job is not None:
        self._serve(model, job)
      elif self.warming:
        self.warming = self._goes_on(ahead)
    self.state = GONE

  def _goes_on(self, ahead: Iterator[None]) -> bool:
    """Takes a step of warming up; whether there may be another one."""
    try:
      next(ahead)
      return True
    except StopIteration:
      self._say('warm')
    except _Cancelled:
      pass
    except Exception:  # pylint: disable=broad-exception-caught
      self._say(f'the rest of the warm-up failed:\n{traceback.format_exc()}')
    return False

  def _serve_waiting(self, model: model_lib.Model) -> None:
    """Serves those who wait, until nobody does."""
    while (job := self._jobs.next(wait=False)) is not None:
      self.starts = None
      self._serve(model, job)

  def _practise(self, model: model_lib.Model, samples: int = 1,
                seconds: int = 1, **steering: Any) -> None:
    """Makes a clip and drops it, so that its programs are compiled."""
    settings = settings_lib.make(
        defaults=model.bundle.defaults, seconds=seconds, samples=samples)
    prompt = None if 'story' in steering else _PRACTICE
    wanted = steering_lib.read(
        settings, model.sample_rate_hz, prompt, **steering)
    while True:
      try:
        result = model.make(
            wanted, settings, soon=True, progress=self._unless_wanted)
        break
      except _SomebodyWaits:  # the next try finds what is compiled already
        self._serve_waiting(model)
    self._picture(result.takes[0].sound.read())

  def _unless_wanted(self, *unused_report: Any) -> None:
    self._unless_stopped()
    if self._jobs.counts()['waiting']:
      raise _SomebodyWaits

  def _unless_stopped(self) -> None:
    if self._jobs.stopped:
      raise _Cancelled

  def _serve(self, model: model_lib.Model, job: jobs_lib.Job) -> None:
    """Makes one job, whatever happens."""
    try:
      made = self._make(model, job)
    except _Cancelled:
      self._jobs.end(job, jobs_lib.CANCELLED)
    except _TimeIsUp:
      job.late = True
      self._jobs.end(job, jobs_lib.FAILED, (
          f'the request took longer than {self._limits.time_limit_s:g} s, the '
          f'limit of this server; ask for less.'))
    except errors.UserError as error:
      self._jobs.end(job, jobs_lib.FAILED, ' '.join(str(error).split()))
    except Exception as error:  # pylint: disable=broad-exception-caught
      self._say(f'job {job.id} failed:\n{traceback.format_exc()}')
      self._jobs.end(job, jobs_lib.FAILED, (
          f'a fault of the server ({type(error).__name__}), told in its log.'))
    else:
      self._jobs.end(job, jobs_lib.DONE, made=made)

  def _make(self, model: model_lib.Model,
            job: jobs_lib.Job) -> list[jobs_lib.Made]:
    """The `Made`s of a job."""
    # The time limit is one of work. Compiling is left out of it, because what
    # is compiled serves all later requests and could not be stopped anyway.
    spent = lambda: self._jobs.clock() - self.programs.seconds
    deadline = spent() + self._limits.time_limit_s
    wanted = job.wanted
    if wanted is None:  # it has been cancelled just now
      raise _Cancelled

    def report(stage: str, done: int, total: int) -> None:
      if job.cancelled.is_set():
        raise _Cancelled
      if spent() > deadline:
        raise _TimeIsUp
      job.advance.report(stage, done, total)

    report('', 0, 1)  # raises where it is cancelled already
    num_samples = round(job.seconds * model.sample_rate_hz)
    with contextlib.ExitStack() as stack:
      sounds = [
          stack.enter_context(sound_lib.Sound(
              job.folder, number, f'.{job.format}', num_samples,
              model.sample_rate_hz))
          for number in range(job.settings.drawn)]
      job.sounds = tuple(sounds)
      result = model.make(wanted.steering, job.settings, sounds=sounds,
                          progress=report, soon=True)
      made = []
      for rank, take in enumerate(result.takes):
        file = job.folder / f'{rank + 1}.{job.format}'
        take.sound.finish(file, model.tags(result, take))
        picture = file.with_suffix('.png')
        picture.write_bytes(self._picture(take.sound.read()))
        made.append(jobs_lib.Made(file, picture, job.seconds, take.similarity))
      return made


def spectrogram(audio: np.ndarray) -> bytes:
  """[N] float32 -> the bytes of a PNG."""
  from musiclm_jax.evaluation import generated  # pylint: disable=g-import-not-at-top
  return generated.png(generated.spectrogram(audio))
