"""What the API answers in JSON: models that its schema shows, too."""

from typing import Annotated
from typing import Any

import pydantic

from musiclm_jax.serving import jobs
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import worker

# Whole seconds stay whole in JSON (10, not 10.0): nothing changes a number that
# a client has sent.
_Number = Annotated[
    int | float, pydantic.WithJsonSchema(dict(type='number'))]
_WaitsFor = Annotated[str | None, pydantic.Field(
    description='what holds up all requests: a program that is compiled, which '
    'nothing can interrupt, a cancelled request that has to end')]


def _one_of(states: tuple[str, ...]) -> Any:
  """A field whose values the schema lists."""
  return pydantic.Field(json_schema_extra=dict(enum=list(states)))


class Error(pydantic.BaseModel):
  """Whatever cannot be served, in a line."""

  error: str


class Upload(pydantic.BaseModel):
  """A recording that was taken."""

  id: str
  seconds: _Number


class Health(pydantic.BaseModel):
  """Whether requests are served, and what is in the way."""

  status: str = _one_of(
      (worker.STARTING, worker.READY, worker.BROKEN, worker.GONE))
  waiting: int
  held: int
  running: int
  queue: int
  waits_for: _WaitsFor
  programs: int = pydantic.Field(
      description='compiled, or read from the disk')
  warming: bool = pydantic.Field(
      description='whether more are compiled ahead while nobody waits')
  bundle: str
  version: str


class About(pydantic.BaseModel):
  """What a client has to know before it asks."""

  bundle: str
  sample_rate_hz: int
  melody: bool = pydantic.Field(description='whether one can be given')
  defaults: dict[str, Any] = pydantic.Field(
      description='of the bundle, for settings that a request leaves out')
  examples: list[str]
  limits: limits_lib.Limits


class Job(pydantic.BaseModel):
  """A request on its way."""

  id: str
  status: str = _one_of(jobs.STATES)
  error: str | None = pydantic.Field(description='why it failed')
  title: str
  position: int = pydantic.Field(description='requests that come before')
  waits_for: _WaitsFor
  stage: str | None
  progress: float = pydantic.Field(description='share of the work, 0 to 1')
  seconds: _Number = pydantic.Field(description='of audio')
  seconds_done: _Number = pydantic.Field(
      description='of audio that can be heard')
  seed: int
  format: str
  url: str
  audio: list[str] = pydantic.Field(
      description='of the files, once it is done')
  spectrograms: list[str]
  similarity: list[float | None]
  streams: list[str] = pydantic.Field(description='to hear while it is made')
