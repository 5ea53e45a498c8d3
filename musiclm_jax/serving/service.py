"""What page and API share: one queue, one model, the uploads, the limits."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

import musiclm_jax
from musiclm_jax import bundle as bundle_lib
from musiclm_jax.serving import answers
from musiclm_jax.serving import asking
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import uploads as uploads_lib
from musiclm_jax.serving import worker as worker_lib
from musiclm_jax.systems.musiclm import steering as steering_lib

EXAMPLES = (
    'a lively irish jig on fiddle with hand drums',
    'a slow waltz on accordion',
    'a bright hornpipe on flute with guitar chords',
    'a calm air on harp, soft strings behind it',
)


@dataclasses.dataclass(frozen=True)
class Service:
  """A server without its site.

  Attributes:
    bundle: what music is made with.
    limits: of everybody.
    jobs: the queue.
    uploads: recordings that were sent.
    worker: owns the model.
    tidiers: functions that drop what others hold.
  """

  bundle: bundle_lib.Bundle
  limits: limits_lib.Limits
  jobs: jobs_lib.Jobs
  uploads: uploads_lib.Uploads
  worker: worker_lib.Worker
  tidiers: list[Callable[[], None]] = dataclasses.field(default_factory=list)

  @property
  def takes_melody(self) -> bool:
    """Whether the bundle follows melodies."""
    return steering_lib.takes_melody(self.bundle)

  @property
  def rate(self) -> int:
    """Of all audio here, in Hz."""
    return self.bundle.tokens.audio.sample_rate_hz

  def submit(
      self, values: Mapping[str, Any],
      sound: Callable[[str, str], np.ndarray] | None = None) -> jobs_lib.Job:
    """The `Job` of a request as of `asking.read`.

    Args:
      values: the mapping.
      sound: as of `asking.read`; by default the values are ids of uploads.

    Raises:
      UserError: it cannot be made. Busy: not now.
    """
    self.jobs.check_place()
    wanted = asking.read(
        values, self.bundle, self.limits,
        sound or (lambda name, value: self.uploads.samples(value)))
    return self.jobs.submit(wanted)

  @property
  def waits_for(self) -> str | None:
    """What holds up all requests, in words, or None."""
    if self.worker.starts is not None:
      return self.worker.starts
    compiling = self.worker.programs.compiling
    if self.jobs.letting_go:
      return 'a cancelled request has to end first' + (
          ': a program is compiled for it' if compiling else '')
    return 'a program is compiled' if compiling else None

  def health(self) -> answers.Health:
    """What /healthz says."""
    return answers.Health(
        status=self.worker.state, **self.jobs.counts(),
        queue=self.limits.queue, waits_for=self.waits_for,
        programs=self.worker.programs.count, warming=self.worker.warming,
        bundle=self.bundle.identity, version=musiclm_jax.__version__)

  def about(self) -> answers.About:
    """What a client has to know before it asks."""
    return answers.About(
        bundle=self.bundle.identity, sample_rate_hz=self.rate,
        melody=self.takes_melody, defaults=self.bundle.defaults,
        examples=list(EXAMPLES), limits=self.limits)

  def tidy(self) -> None:
    """Drops what was held long enough."""
    self.jobs.tidy()
    self.uploads.tidy()
    for tidy in self.tidiers:
      tidy()


def describe(service: Service, job: jobs_lib.Job) -> answers.Job:
  """A Job as JSON shows it."""
  base = f'/v1/jobs/{job.id}'
  soon = not job.settings.best_of
  return answers.Job(
      id=job.id, status=job.state, error=job.error or None, title=job.title,
      position=service.jobs.position(job),
      waits_for=None if job.over else service.waits_for,
      stage=job.advance.stage or None,
      progress=1.0 if job.state == jobs_lib.DONE else round(
          job.advance.share, 4),
      seconds=job.seconds, seconds_done=job.advance.seconds,
      seed=job.settings.seed, format=job.format, url=base,
      audio=[f'{base}/audio/{i + 1}' for i in range(len(job.made))],
      spectrograms=[f'{base}/spectrogram/{i + 1}'
                    for i in range(len(job.made))],
      similarity=[made.similarity for made in job.made],
      streams=[f'{base}/stream/{i + 1}' for i in range(len(job.sounds))
               if soon])
