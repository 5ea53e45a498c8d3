"""The page of a test and the few addresses behind it. Needs FastAPI.

  GET  /                      the page
  GET  /api/where             where this rater is: a `desk.Shown`
  POST /api/begin             a new rater, kept in a cookie
  POST /api/answer            an answer; then where the rater is
  GET  /sound/TRIAL/a.wav     what is heard, b.wav likewise

A rater is a token in a cookie. Answers to others' trials, and their sounds, do
not exist for them. No reply has a name of a system, a clip or a file.
"""

import base64
import dataclasses
import hashlib
import sqlite3
from typing import Literal

import fastapi
from fastapi import exceptions
from fastapi import responses
import pydantic
from starlette import exceptions as starlette_exceptions

from musiclm_jax.listening import desk as desk_lib
from musiclm_jax.listening import page
from musiclm_jax.listening import script

_YEAR_S = 365 * 24 * 3600
_MOST_BODY = 64 * 1024  # bytes; a comment is shorter


class Said(pydantic.BaseModel):
  """What the page sends; numbers are looked at by the desk."""

  model_config = pydantic.ConfigDict(extra='forbid')
  trial: str
  answer: int
  comment: str = ''
  heard_a: float
  heard_b: float


def create(desk: desk_lib.Desk) -> fastapi.FastAPI:
  """The ASGI app of a test."""
  app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
  cookie = f'rater_{desk.test.key_sha256[:12]}'  # of this test: hosts share them
  content = page.content(desk.test.question)
  _guard(app)

  def token_of(request: fastapi.Request) -> str:
    return request.cookies.get(cookie, '')

  @app.get('/')
  def index():
    return responses.HTMLResponse(
        content, headers={'Content-Security-Policy': _policy()})

  @app.get('/healthz')
  def healthz():
    return dict(status='ready')

  @app.get('/api/where')
  def where(request: fastapi.Request):
    token = token_of(request)
    if not desk.known(token):
      return dict(state='new')
    return _told(desk.current(token))

  @app.post('/api/begin')
  def begin(request: fastapi.Request, response: fastapi.Response):
    token = token_of(request)
    if not desk.known(token):
      token = desk.join()
      response.set_cookie(cookie, token, max_age=_YEAR_S, httponly=True,
                          samesite='lax')
    return _told(desk.current(token))

  @app.post('/api/answer')
  def answer(request: fastapi.Request, said: Said):
    return _told(desk.answer(
        token_of(request), said.trial, said.answer, said.comment,
        (said.heard_a, said.heard_b)))

  @app.get('/sound/{trial}/{side}.wav')
  def sound(request: fastapi.Request, trial: str, side: Literal['a', 'b']):
    return responses.FileResponse(
        desk.sound(token_of(request), trial, side), media_type='audio/wav')

  return app


def _told(shown):
  """A `desk.Shown` as JSON."""
  return dict(dataclasses.asdict(shown),
              state='trial' if shown.trial else 'done')


def _policy():
  """The page runs its own script and style, and fetches from here alone."""
  def of(text):
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"

  return (f"default-src 'none'; script-src {of(script.SCRIPT)}; "
          f"style-src {of(page.STYLE)}; media-src 'self'; connect-src 'self'; "
          f"img-src data:; base-uri 'none'; form-action 'none'; "
          f"frame-ancestors 'none'")


def _guard(app):
  """What all replies have, and lines for what is refused."""

  @app.middleware('http')
  async def headers(request, follow):
    length = request.headers.get('content-length', '0')
    if request.method == 'POST' and not (
        length.isdecimal() and int(length) <= _MOST_BODY and
        'transfer-encoding' not in request.headers):
      return _problem(413, f'Expected at most {_MOST_BODY} bytes.')
    response = await follow(request)
    response.headers.update({
        'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer',
        'X-Content-Type-Options': 'nosniff', 'X-Robots-Tag': 'noindex'})
    return response

  @app.exception_handler(desk_lib.Refusal)
  def refused(unused_request, error):
    return _problem(409, str(error))

  @app.exception_handler(exceptions.RequestValidationError)
  def invalid(unused_request, error):
    first = error.errors()[0]
    where = '.'.join(str(part) for part in first['loc'][1:])
    return _problem(422, f'{where or "body"}: {first["msg"]}')

  @app.exception_handler(starlette_exceptions.HTTPException)
  def misread(unused_request, error):
    return _problem(error.status_code, str(error.detail))

  @app.exception_handler(sqlite3.Error)
  def not_kept(unused_request, unused_error):
    return _problem(
        503, 'Your answer could not be kept just now; please try again.')


def _problem(status, line):
  return responses.JSONResponse(dict(error=line), status)
