"""What the page does, without the page: from values to HTML.

Each step of an action is a mapping of what changes: status, players, pictures,
history (HTML), job (id), held (ids of what this browser asked for), busy.
"""

import asyncio
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax.serving import asking
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import markup
from musiclm_jax.systems.musiclm import steering as steering_lib

_POLL_S = 0.25
_MAX_HELD = 20  # that a browser is shown


class Actions:
  """The page's actions on a service."""

  def __init__(self, service, folder):
    """Actions.

    Args:
      service: the service.Service.
      folder: where files must be that the page says were sent.
    """
    self._service, self._jobs = service, service.jobs
    self._folder = pathlib.Path(folder).resolve()

  async def generate(self, values, held):
    """Submits a request and follows it.

    Args:
      values: as of `asking.read`, recordings as paths.
      held: ids that the browser holds, as it says.

    Yields:
      Mappings, as above.
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

  async def restore(self, held):
    """What a page shows that is opened again."""
    held = self._known(held)
    yield dict(held=held, history=self.history(held))
    job = next((job for job in map(self._jobs.get, held)
                if job is not None and not job.over), None)
    if job is not None:
      yield dict(job=job.id, busy=True, status=self._work(job))
      async for step in self._follow(job, held):
        yield step

  def cancel(self, job_id):
    """Cancels a job; the action that follows it tells the rest."""
    if isinstance(job_id, str):
      self._jobs.cancel(job_id)

  def check_story(self, text):
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

  def check_recording(self, path, what):
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

  def history(self, held):
    """HTML of what is done of these ids."""
    found = [self._jobs.get(identity) for identity in held]
    return markup.history([
        job for job in found if job is not None and
        job.state == jobs_lib.DONE])

  def _known(self, held):
    """The ids that there are jobs of; the browser may say anything."""
    if not isinstance(held, list):
      return []
    return [i for i in held[:_MAX_HELD] if isinstance(i, str) and
            self._jobs.get(i) is not None]

  async def _follow(self, job, held):
    """Steps until a job is over."""
    heard, status = False, ''
    while not job.over:
      if job.state == jobs_lib.RUNNING and not heard and (
          not job.settings.best_of):
        heard = True
        yield dict(players=markup.players(job))
      if (now := self._work(job)) != status:
        status = now
        yield dict(status=status)
      await asyncio.sleep(_POLL_S)
    last = dict(busy=False, job='', history=self.history(held),
                status=markup.ended(job, self._ran(job)))
    if job.state == jobs_lib.DONE:
      last['pictures'] = markup.spectrograms(job)
      if not heard:
        last['players'] = markup.players(job)
    elif not job.advance.seconds:
      last['players'] = markup.nothing()
    yield last

  def _work(self, job):
    return markup.work(job, self._jobs.position(job), self._ran(job),
                       self._service.waits_for)

  def _ran(self, job):
    """Seconds for which a job ran, or runs."""
    began = job.times.get(jobs_lib.RUNNING)
    if began is None:
      return 0.0
    return job.times.get(job.state if job.over else '',
                         self._jobs.clock()) - began

  def _recording(self, name, path):
    """[N] float32 of a file that the page took."""
    path = pathlib.Path(path).resolve()
    if not path.is_relative_to(self._folder) or not path.is_file():
      raise errors.UserError(
          f'the recording for {name} is no longer there; send it again.')
    os.utime(path)  # it is in use
    return self._service.uploads.decoded(path, name)


NO_MELODY = ('This bundle takes no melody: it has no melody component, or no '
             'stage was trained with one. Train one, and serve it with '
             '--bundle.')
