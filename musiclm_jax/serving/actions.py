"""What the page does, without the page: from values to HTML.

Each step of an action is a mapping of what changes: status, players, pictures,
history (HTML), job (id), held (ids of what this browser asked for), busy.
"""

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Mapping
import os
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.serving import asking
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import markup
from musiclm_jax.serving import service as service_lib
from musiclm_jax.systems.musiclm import steering as steering_lib

Step = dict[str, Any]
_POLL_S = 0.25
_MAX_HELD = 20  # that a browser is shown


class Actions:
  """The page's actions on a service."""

  def __init__(self, service: service_lib.Service, folder: pathlib.Path):
    """Actions.

    Args:
      service: the service.Service.
      folder: where files must be that the page says were sent.
    """
    self._service, self._jobs = service, service.jobs
    self._folder = folder.resolve()

  async def generate(self, values: Mapping[str, Any],
                     held: Any) -> AsyncIterator[Step]:
    """Submits a request and follows it.

    Args:
      values: as of `asking.read`, recordings as paths.
      held: ids that the browser holds, as it says.

    Yields:
      Steps, as above.
    """
    held = self._known(held)
    try:
      job = await asyncio.to_thread(
          self._service.submit, values, self._recording)
    except errors.UserError as error:
      yield dict(status=markup.problem(str(error)), busy=False)
      return
    held = [job.id, *held][:_MAX_HELD]
    yield dict(job=job.id, held=held, busy=True, players=markup.nothing(),
               pictures='', status=self._work(job))
    async for step in self._follow(job, held):
      yield step

  async def restore(self, held: Any) -> AsyncIterator[Step]:
    """What a page shows that is opened again."""
    held = self._known(held)
    yield dict(held=held, history=self.history(held))
    job = next((job for job in map(self._jobs.get, held)
                if job is not None and not job.over), None)
    if job is not None:
      yield dict(job=job.id, busy=True, status=self._work(job))
      async for step in self._follow(job, held):
        yield step

  def cancel(self, job_id: Any) -> None:
    """Cancels a job; the action that follows it tells the rest."""
    if isinstance(job_id, str):
      self._jobs.cancel(job_id)

  def check_story(self, text: Any) -> tuple[str, int | None]:
    """(HTML, seconds or None): whether a story can be told, and its length."""
    if not isinstance(text, str) or not text.strip():
      return '', None
    try:
      parts = asking.story(text)
      self._service.limits.check_story(parts)
    except errors.UserError as error:
      return markup.problem(str(error)), None
    seconds = steering_lib.story_seconds(parts)
    count = f'{len(parts)} parts' if len(parts) > 1 else '1 part'
    return markup.fine(f'A story of {count}.'), min(
        seconds, self._service.limits.max_seconds)

  def check_recording(self, path: str | None, what: str) -> str:
    """HTML: whether a recording can be used."""
    if not path:
      return ''
    try:
      sound = self._recording(what, path)
      steering_lib.sound(sound, what, self._service.rate)
      if what == 'melody' and not self._service.takes_melody:
        return markup.problem(NO_MELODY)
    except errors.UserError as error:
      return markup.problem(str(error))
    return markup.fine(
        f'{what}: {len(sound) / self._service.rate:.1f} s.')

  def history(self, held: list[str]) -> str:
    """HTML of what is done of these ids."""
    found = [self._jobs.get(identity) for identity in held]
    return markup.history([
        job for job in found if job is not None and
        job.state == jobs_lib.DONE])

  def _known(self, held: Any) -> list[str]:
    """The ids that there are jobs of; the browser may say anything."""
    if not isinstance(held, list):
      return []
    return [identity for identity in held[:_MAX_HELD]
            if isinstance(identity, str) and
            self._jobs.get(identity) is not None]

  async def _follow(self, job: jobs_lib.Job,
                    held: list[str]) -> AsyncIterator[Step]:
    """Steps until a job is over."""
    playing, status = False, ''  # whether there are players, what was said
    while not job.over:
      if job.state == jobs_lib.RUNNING and not playing and (
          not job.settings.best_of):
        playing = True
        yield dict(players=markup.players(job))
      if (now := self._work(job)) != status:
        status = now
        yield dict(status=status)
      await asyncio.sleep(_POLL_S)
    last: Step = dict(busy=False, job='', history=self.history(held),
                      status=markup.ended(job, self._ran(job)))
    if job.state == jobs_lib.DONE:
      last['pictures'] = markup.spectrograms(job)
      if not playing:
        last['players'] = markup.players(job)
    elif not job.advance.seconds:
      last['players'] = markup.nothing()
    yield last

  def _work(self, job: jobs_lib.Job) -> str:
    return markup.work(job, self._jobs.position(job), self._ran(job),
                       self._service.waits_for)

  def _ran(self, job: jobs_lib.Job) -> float:
    """Seconds for which a job ran, or runs."""
    began = job.times.get(jobs_lib.RUNNING)
    if began is None:
      return 0.0
    return job.times.get(job.state if job.over else '',
                         self._jobs.clock()) - began

  def _recording(self, name: str, path: str) -> np.ndarray:
    """[N] float32 of a file that the page took.

    The browser says which file that is, and may say anything: one that is not
    in the page's own folder is not read.
    """
    file = pathlib.Path(path).resolve()
    if not file.is_relative_to(self._folder) or not file.is_file():
      raise errors.UserError(
          f'the recording for {name} is no longer there; send it again.')
    os.utime(file)  # so that `uploads.sweep` takes it for a young one
    return self._service.uploads.decoded(file, name)


NO_MELODY = ('This bundle takes no melody: it has no melody component, or no '
             'stage was trained with one. Train one, and serve it with '
             '--bundle.')
