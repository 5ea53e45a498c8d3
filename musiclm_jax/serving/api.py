"""The HTTP API: submit, look, hear, fetch, cancel.

Every answer that is not sound or a picture is JSON; what cannot be served is
`{"error": "one line"}`, the line that the shell would print.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import io
import json
import sys
import traceback
from typing import Any
from typing import BinaryIO
from typing import TextIO

import fastapi
from fastapi import exceptions
from fastapi import responses
from starlette import concurrency
from starlette import exceptions as starlette_exceptions
from starlette import requests

import musiclm_jax
from musiclm_jax import errors
from musiclm_jax.serving import answers
from musiclm_jax.serving import docs
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import service as service_lib
from musiclm_jax.serving import sound as sound_lib
from musiclm_jax.serving import streams
from musiclm_jax.serving import uploads as uploads_lib
from musiclm_jax.serving import worker as worker_lib

_POLL_S = 0.05
_TIDY_S = 10.0
_MAX_JSON_BYTES = 1 << 20
_MAX_LINE = 500  # of an error
_GONE = 499  # what nginx writes into its log for a client that has left
_METHODS = {'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'}
_MEDIA = dict(wav='audio/wav', flac='audio/flac')


class Refusal(Exception):
  """An answer with a status of its own."""

  def __init__(self, status: int, line: str,
               headers: Mapping[str, str] | None = None):
    super().__init__(line)
    self.status, self.headers = status, headers


def create(service: service_lib.Service,
           log: TextIO = sys.stderr) -> fastapi.FastAPI:
  """The FastAPI app.

  Args:
    service: the service.Service.
    log: where faults of the server are told.
  """
  @contextlib.asynccontextmanager
  async def lifespan(unused_app):
    tidying = asyncio.create_task(_tidy(service))
    yield
    tidying.cancel()

  app = fastapi.FastAPI(
      title='musiclm', version=musiclm_jax.__version__, lifespan=lifespan,
      description=docs.DESCRIPTION, docs_url=None, redoc_url=None)
  _say_errors(app, log)
  _add_about(app, service)
  _add_uploads(app, service)
  _add_jobs(app, service)
  _add_results(app, service)
  _add_methods(app)
  return app


def _add_methods(app: fastapi.FastAPI) -> None:
  """Answers HEAD where there is GET, and 405 for all other methods of a path.

  FastAPI looks for a request among all routes, and the page, which is mounted
  behind these, takes whatever they have not taken. So a path that is known here
  needs a route for every method: the page would answer 404 in place of 405.
  """
  known = {}
  for route in list(app.routes):
    known.setdefault(route.path, set()).update(route.methods)
    if 'GET' in route.methods and 'HEAD' not in route.methods:
      app.add_api_route(route.path, route.endpoint, methods=['HEAD'],
                        include_in_schema=False)
      known[route.path].add('HEAD')
  for path, methods in known.items():
    app.add_route(path, _wrong_method(methods), include_in_schema=False,
                  methods=sorted(_METHODS - methods))


def _wrong_method(methods: set[str]) -> Callable:
  """A route's function that answers 405 and tells the methods there are."""
  async def wrong(unused_request):
    raise starlette_exceptions.HTTPException(
        405, headers={'Allow': ', '.join(sorted(methods))})

  return wrong


async def _tidy(service: service_lib.Service) -> None:
  """Drops every few seconds what was held long enough."""
  while True:
    await asyncio.sleep(_TIDY_S)
    await concurrency.run_in_threadpool(service.tidy)


def is_disconnect(error: BaseException | None) -> bool:
  """Whether a client that left before its body was whole is the cause.

  It is nobody's fault, so nothing is logged. Gradio wraps the exception that
  says so into others, so the causes are looked at, too.
  """
  while error is not None and not isinstance(error, requests.ClientDisconnect):
    error = error.__cause__
  return error is not None


def _say_errors(app: fastapi.FastAPI, log: TextIO) -> None:
  """Every failure becomes one line of JSON."""
  def line(status: int, text: object,
           headers: Mapping[str, str] | None = None) -> responses.Response:
    # JSON can hold half a surrogate pair ("\ud800") and UTF-8 cannot, so it is
    # shown escaped where a message quotes what a client has sent.
    text = ' '.join(str(text).encode('utf-8', 'backslashreplace').decode(
        ).split())
    return responses.JSONResponse(
        answers.Error(error=text[:_MAX_LINE]).model_dump(), status, headers)

  @app.exception_handler(errors.UserError)
  async def mistake(unused_request, error):
    return line(422, error)

  @app.exception_handler(jobs_lib.Busy)
  async def busy(unused_request, error):
    return line(503, error, {'Retry-After': str(error.retry_after_s)})

  @app.exception_handler(uploads_lib.TooLarge)
  async def large(unused_request, error):
    return line(413, error)

  @app.exception_handler(uploads_lib.WrongKind)
  async def kind(unused_request, error):
    return line(415, error)

  @app.exception_handler(Refusal)
  async def refusal(unused_request, error):
    return line(error.status, error, error.headers)

  # FastAPI checks only what stands in the path: .../audio/x has no number.
  @app.exception_handler(exceptions.RequestValidationError)
  async def place(request, unused_error):
    return line(404, f'there is nothing at {request.url.path}.')

  @app.exception_handler(starlette_exceptions.HTTPException)
  async def other(request, error):
    return line(error.status_code,
                f'{request.method} {request.url.path}: {error.detail}.',
                error.headers)

  @app.exception_handler(requests.ClientDisconnect)
  async def gone(unused_request, unused_error):
    return responses.Response(status_code=_GONE)

  @app.exception_handler(Exception)
  async def fault(unused_request, error):
    if is_disconnect(error):
      return responses.Response(status_code=_GONE)
    traceback.print_exception(error, file=log)
    return line(500, f'a fault of the server ({type(error).__name__}), told in '
                f'its log.')


def _add_about(app: fastapi.FastAPI, service: service_lib.Service) -> None:

  @app.get('/healthz', responses=docs.HEALTH, tags=['server'])
  async def healthz(response: fastapi.Response) -> answers.Health:
    """Whether requests are served: 200 when ready, 503 until then."""
    health = service.health()
    response.status_code = 200 if health.status == worker_lib.READY else 503
    return health

  @app.get('/v1/about', responses=docs.ABOUT, tags=['server'])
  async def about() -> answers.About:
    """The bundle, whether it takes melodies, and the limits."""
    return service.about()

  @app.get('/docs', include_in_schema=False)
  async def documentation() -> responses.Response:
    return responses.HTMLResponse(docs.page(app.openapi()))


def _add_uploads(app: fastapi.FastAPI, service: service_lib.Service) -> None:

  @app.post('/v1/uploads', status_code=201, responses=docs.UPLOAD,
            openapi_extra=docs.UPLOAD_BODY, tags=['recordings'])
  async def upload(request: fastapi.Request) -> answers.Upload:
    """Takes a recording, the file as the body, for melody, like and
    continue_from."""
    path = service.uploads.place()
    try:
      with open(path, 'wb') as file:
        await _receive(request, file, service.uploads.most_bytes,
                       service.uploads.too_large())
      taken = await concurrency.run_in_threadpool(service.uploads.take, path)
    finally:
      path.unlink(missing_ok=True)
    return answers.Upload(id=taken.id, seconds=round(taken.seconds, 3))


def _add_jobs(app: fastapi.FastAPI, service: service_lib.Service) -> None:

  @app.post('/v1/generate', responses=docs.GENERATE,
            openapi_extra=docs.REQUEST_BODY, tags=['music'])
  async def generate(request: fastapi.Request) -> responses.Response:
    """Makes one sample and answers with its file. Who hangs up cancels."""
    values = await _json(request)
    samples = values.get('samples') if isinstance(values, dict) else None
    if isinstance(samples, int) and samples > 1:
      raise errors.UserError(
          f'samples is {samples}; expected 1 here, or POST /v1/jobs for '
          f'several.')
    job = await concurrency.run_in_threadpool(service.submit, values)
    try:
      while not job.over:
        if await request.is_disconnected():
          return responses.Response(status_code=_GONE)
        await asyncio.sleep(_POLL_S)
      if job.state != jobs_lib.DONE:
        raise Refusal(_status(job), job.error or 'the request was cancelled.')
      content = job.made[0].file.read_bytes()
    finally:
      service.jobs.drop(job.id)
    return responses.Response(content, media_type=_MEDIA[job.format], headers={
        'X-Seed': str(job.settings.seed),
        'X-Seconds': f'{job.seconds:g}'})

  @app.post('/v1/jobs', status_code=202, responses=docs.SUBMIT,
            openapi_extra=docs.REQUEST_BODY, tags=['music'])
  async def submit(
      request: fastapi.Request, response: fastapi.Response) -> answers.Job:
    """Puts a request into the queue."""
    values = await _json(request)
    job = await concurrency.run_in_threadpool(service.submit, values)
    response.headers['Location'] = f'/v1/jobs/{job.id}'
    return service_lib.describe(service, job)

  @app.get('/v1/jobs/{job_id}', responses=docs.JOB, tags=['music'])
  async def look(job_id: str) -> answers.Job:
    """How far a job is."""
    return service_lib.describe(service, _job(service, job_id))

  @app.delete('/v1/jobs/{job_id}', responses=docs.JOB, tags=['music'])
  async def cancel(job_id: str) -> answers.Job:
    """Cancels a job that waits or runs; forgets one that is over."""
    job = _job(service, job_id)
    if job.over:
      service.jobs.remove(job_id)
    else:
      service.jobs.cancel(job_id)
    return service_lib.describe(service, job)


def _add_results(app: fastapi.FastAPI, service: service_lib.Service) -> None:

  @app.get('/v1/jobs/{job_id}/audio/{number}', responses=docs.AUDIO,
           tags=['results'])
  async def audio(job_id: str, number: int) -> responses.Response:
    """The file of a sample, the same bytes as `musiclm generate` writes."""
    job, made = _made(service, job_id, number)
    return responses.FileResponse(
        made.file, media_type=_MEDIA[job.format],
        filename=f'musiclm-{job.settings.seed}-{number}.{job.format}')

  @app.get('/v1/jobs/{job_id}/spectrogram/{number}', responses=docs.PICTURE,
           tags=['results'])
  async def spectrogram(job_id: str, number: int) -> responses.Response:
    """The spectrogram of a sample."""
    _, made = _made(service, job_id, number)
    return responses.FileResponse(made.picture, media_type='image/png')

  @app.get('/v1/jobs/{job_id}/stream/{number}', responses=docs.STREAM,
           tags=['results'])
  async def stream(job_id: str, number: int,
                   request: fastapi.Request) -> responses.Response:
    """A sample as WAV while it is made, from its beginning."""
    job = _job(service, job_id)
    if job.settings.best_of:
      raise Refusal(409, 'a stream has no best_of; fetch the audio when the '
                    'job is done.')
    if job.state in (jobs_lib.FAILED, jobs_lib.CANCELLED):
      raise _not_there(job, 'stream')
    if not 1 <= number <= job.settings.samples:
      raise Refusal(404, f'there is no stream {number}; the job has '
                    f'{job.settings.samples}.')
    if job.state == jobs_lib.DONE:  # the file is whole, so no need to follow it
      return responses.FileResponse(
          job.sounds[number - 1].heard, media_type=_MEDIA['wav'])
    size = sound_lib.HEADER_BYTES + 2 * round(job.seconds * service.rate)
    return _streamed(job, number - 1, size, request.headers.get('range'),
                     request.method)


def _streamed(job: jobs_lib.Job, number: int, size: int, asked: str | None,
              method: str) -> responses.Response:
  """A stream of `size` bytes, or the part that a Range header asks for."""
  part = streams.part(asked, size)
  first, stop = part or (0, size)
  headers = {'Accept-Ranges': 'bytes', 'Cache-Control': 'no-store'}
  if first == stop:
    raise Refusal(416, f'the stream has {size} bytes; {asked[:80]} is none of '
                  f'them.', {'Content-Range': f'bytes */{size}'})
  if part:
    headers['Content-Range'] = f'bytes {first}-{stop - 1}/{size}'
  headers['Content-Length'] = str(stop - first)
  if method == 'HEAD':  # it is answered before there is any sound
    return responses.Response(
        None, 206 if part else 200, headers, media_type=_MEDIA['wav'])
  return responses.StreamingResponse(
      streams.follow(job, number, first, stop), 206 if part else 200,
      headers, media_type=_MEDIA['wav'])


def _job(service: service_lib.Service, job_id: str) -> jobs_lib.Job:
  job = service.jobs.get(job_id)
  if job is None:
    raise Refusal(404, f'there is no job {job_id[:40]!r}, or it is no longer '
                  f'held.')
  return job


def _made(service: service_lib.Service, job_id: str,
          number: int) -> tuple[jobs_lib.Job, jobs_lib.Made]:
  """(job, Made) of a finished sample, counted from 1."""
  job = _job(service, job_id)
  if job.state != jobs_lib.DONE:
    raise _not_there(job, 'audio')
  if not 1 <= number <= len(job.made):
    raise Refusal(404, f'there is no sample {number}; the job has '
                  f'{len(job.made)}.')
  return job, job.made[number - 1]


def _not_there(job: jobs_lib.Job, what: str) -> Refusal:
  why = f': {job.error}' if job.error else '.'
  return Refusal(409, f'no {what}, the job is {job.state}{why}')


def _status(job: jobs_lib.Job) -> int:
  """Of the answer for a job that was not done."""
  if job.state == jobs_lib.CANCELLED:
    return 409
  return 504 if job.late else 500


async def _json(request: fastapi.Request) -> Any:
  """The body's value, which `asking.read` checks.

  FastAPI would read the body itself, but all of it, however large, and answers
  422 where it is not JSON; here its size is bounded, and 413 and 400 told.

  The content type must be JSON, so that pages of other sites cannot ask for
  music: a browser sends JSON to another site only if that site allows it, and
  this one does not.
  """
  kind = request.headers.get('content-type', '').split(';')[0].strip()
  if kind.lower() != 'application/json':  # RFC 9110: case does not matter
    raise Refusal(415, f'the content type is {kind[:80]!r}; expected '
                  f'application/json.')
  body = io.BytesIO()
  await _receive(request, body, _MAX_JSON_BYTES, Refusal(
      413, f'the request is larger than {_MAX_JSON_BYTES} bytes.'))
  try:
    # It takes NaN and Infinity, which are not JSON; the check of the field that
    # holds one says so by the field's name.
    return json.loads(body.getvalue())
  except (ValueError, RecursionError) as error:
    raise Refusal(400, f'the body is not JSON ({error}).') from error


async def _receive(request: fastapi.Request, file: BinaryIO, most: int,
                   too_large: Exception) -> None:
  """Writes the body to `file`; raises `too_large` beyond `most` bytes."""
  length = request.headers.get('content-length', '')
  if length.isdigit() and int(length) > most:
    raise too_large
  count = 0
  async for part in request.stream():
    count += len(part)
    if count > most:
      raise too_large
    file.write(part)
