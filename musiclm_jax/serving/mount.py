"""The page on the API's site: no outside fetch, nothing kept for long.

Gradio reads its settings from the environment when it is imported, so they are
set here first.
"""

from collections.abc import Callable
import functools
import os
import pathlib
from typing import Any

import fastapi
from starlette import concurrency
from starlette import exceptions

from musiclm_jax.serving import api
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import service as service_lib
from musiclm_jax.serving import uploads

_UPLOAD = '/gradio_api/upload'
# Gradio's ways to other places; the page needs none of them.
_CLOSED = ('/proxy=', '/gradio_api/proxy=', '/gradio_api/file=http',
           '/llms.txt', '/gradio_api/mcp', '/monitoring')


def mount(app: fastapi.FastAPI, service: service_lib.Service,
          folder: pathlib.Path) -> 'Guard':
  """The ASGI app of API and page.

  Args:
    app: the API's FastAPI app.
    service: the service.Service.
    folder: for the files that the page is sent; made here.
  """
  folder.mkdir()
  os.environ.update(
      GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED='False',
      HF_HUB_DISABLE_TELEMETRY='1', HF_HUB_OFFLINE='1')
  import gradio as gr  # pylint: disable=g-import-not-at-top

  from musiclm_jax.serving import markup  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import page  # pylint: disable=g-import-not-at-top
  limits = service.limits
  tidy = functools.partial(uploads.sweep, folder, limits)
  service.tidiers.append(tidy)
  _close_api(app)
  gr.mount_gradio_app(
      app, page.build(service, folder), '/', footer_links=[],
      theme=page.theme(), css=markup.CSS, ssr_mode=False, mcp_server=False,
      enable_monitoring=False, run_history=False,
      max_file_size=limits.upload_mib * limits_lib.MIB)
  return Guard(app, tidy)


def _close_api(app: fastapi.FastAPI) -> None:
  """Answers what the API does not have with 404, as the API does.

  The page takes whatever comes to no other route, and would answer with HTML.
  """
  @app.api_route('/v1/{rest:path}', include_in_schema=False, methods=[
      'GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
  async def nothing(rest: str) -> None:
    del rest
    raise exceptions.HTTPException(404)


class Guard:
  """Closes what the page does not need, and bounds what it is sent."""

  def __init__(self, app: Callable, tidy: Callable[[], None]):
    """A guard of an ASGI app; calls `tidy` before a file is taken."""
    self._app, self._tidy = app, tidy

  async def __call__(self, scope: dict[str, Any], receive: Callable,
                     send: Callable) -> None:
    """Answers one request, as ASGI asks."""
    path = scope.get('path', '')
    if scope['type'] == 'http' and path.startswith(_CLOSED):
      await send(dict(type='http.response.start', status=404, headers=[]))
      await send(dict(type='http.response.body', body=b''))
      return
    if path == _UPLOAD:
      await concurrency.run_in_threadpool(self._tidy)
    try:
      await self._app(scope, receive, send)
    except Exception as error:  # pylint: disable=broad-exception-caught
      if not api.is_disconnect(error):
        raise
