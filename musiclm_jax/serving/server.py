"""Runs the site: its address, its temporary folder, its signals, its end."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import importlib.util
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
from typing import Any
from typing import TYPE_CHECKING

from musiclm_jax import errors

if TYPE_CHECKING:  # these are imported once it is known that they can be
  from musiclm_jax import bundle as bundle_lib
  from musiclm_jax.serving import limits as limits_lib
  from musiclm_jax.serving import service as service_lib
  from musiclm_jax.serving import worker as worker_lib

_PACKAGES = ('fastapi', 'uvicorn', 'multipart')
_GRACE_S = 3  # that open connections have at the end
_BACKLOG = 128
_MAX_CONNECTIONS = 500  # the next one is answered 503


def check_packages(page: bool) -> None:
  """UserError unless the packages of the site are there."""
  names = _PACKAGES + (('gradio',) if page else ())
  missing = [n for n in names if importlib.util.find_spec(n) is None]
  if missing:
    raise errors.UserError(
        f'`musiclm serve` needs {", ".join(missing)}, which is not installed; '
        f'run: pip install "musiclm_jax[web]".')


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
  """A socket that listens; UserError for an address that cannot be had."""
  try:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, kind)
  except (OSError, UnicodeError) as error:
    raise errors.UserError(
        f'--host {host} is no address ({error}); expected 127.0.0.1 or '
        f'another one of this machine.') from error
  with sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      sock.bind(address)
      sock.listen(_BACKLOG)
    except OSError as error:
      if error.errno == errno.EADDRINUSE:
        raise errors.UserError(
            f'port {port} of {host} is taken; stop what listens there, or '
            f'choose another --port (0 for a free one).') from error
      raise errors.UserError(
          f'cannot listen at {host}, port {port} ({error.strerror}); choose '
          f'another --host or --port.') from error
    yield sock


def run(sock: socket.socket, bundle: bundle_lib.Bundle,
        limits: limits_lib.Limits, weights: str | None = None,
        page: bool = True, warm: str = 'all') -> None:
  """Serves until SIGTERM or Ctrl-C.

  Args:
    sock: a socket that listens.
    bundle: the bundle.Bundle.
    limits: the limits.Limits.
    weights: as of `systems.musiclm.model.Model`.
    page: whether there is a page beside the API.
    warm: of limits.WARM, what to compile before it is asked for.

  Raises:
    UserError: the bundle turned out to be damaged.
  """
  say = lambda text: print(text, file=sys.stderr, flush=True)
  host, port = sock.getsockname()[:2]
  shown = f'[{host}]' if ':' in host else host
  with tempfile.TemporaryDirectory(
      prefix='musiclm-serve-', ignore_cleanup_errors=True) as name:
    folder = pathlib.Path(name)
    with _Stop() as stop:
      service = make_service(folder, bundle, limits, weights, warm, say)
      server = _server(_site(service, folder, page))
      stop.ends(server)
      # Not before the site is there: Gradio parses source when it is imported,
      # and in Python 3.11 two threads that do so at once can fail.
      service.worker.start()
      try:
        threading.Thread(target=_watch, args=(service.worker, server),
                         daemon=True).start()
        say(f'http://{shown}:{port}' + ('' if page else '/docs'))
        server.run(sockets=[sock])
      finally:
        ended = service.worker.stop()
  if service.worker.error is not None:
    raise service.worker.error
  say('stopped')
  if not ended:  # deep in a compilation, which nothing can interrupt
    os._exit(0)  # pylint: disable=protected-access


def run_app(sock: socket.socket, app: Any) -> None:
  """Serves an ASGI app that has no worker until SIGTERM or Ctrl-C."""
  host, port = sock.getsockname()[:2]
  with _Stop() as stop:
    server = _server(app)
    stop.ends(server)
    print(f'http://{f"[{host}]" if ":" in host else host}:{port}',
          file=sys.stderr, flush=True)
    server.run(sockets=[sock])
  print('stopped', file=sys.stderr, flush=True)


def make_service(
    folder: pathlib.Path, bundle: bundle_lib.Bundle, limits: limits_lib.Limits,
    weights: str | None = None, warm: str = 'all',
    say: Callable[[str], Any] = print) -> service_lib.Service:
  """The service.Service whose files are in `folder`."""
  from musiclm_jax.serving import jobs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import service  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import uploads  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import worker  # pylint: disable=g-import-not-at-top
  for name in ('jobs', 'uploads'):
    (folder / name).mkdir()
  queue = jobs.Jobs(folder / 'jobs', limits)

  def load():
    from musiclm_jax.systems.musiclm import model  # pylint: disable=g-import-not-at-top
    works.programs.listen()
    return model.Model(bundle, weights)

  works = worker.Worker(queue, limits, load, warm, say)
  return service.Service(
      bundle, limits, queue,
      uploads.Uploads(folder / 'uploads', limits,
                      bundle.tokens.audio.sample_rate_hz), works)


def _site(service: service_lib.Service, folder: pathlib.Path,
          page: bool) -> Any:
  """The ASGI app."""
  from musiclm_jax.serving import api  # pylint: disable=g-import-not-at-top
  app = api.create(service)
  if page:
    from musiclm_jax.serving import mount  # pylint: disable=g-import-not-at-top
    app = mount.mount(app, service, folder / 'page')
  return app


def _server(app: Any) -> Any:
  """The uvicorn.Server of an ASGI app."""
  import uvicorn  # pylint: disable=g-import-not-at-top

  class Server(uvicorn.Server):
    """Leaves signals to `_Stop`.

    Uvicorn's own handlers raise the signal again at the end, and the shell
    would be told of a failure where somebody only asked the server to stop.
    """

    @contextlib.contextmanager
    def capture_signals(self):
      yield

  return Server(uvicorn.Config(
      app, log_level='warning', timeout_graceful_shutdown=_GRACE_S,
      limit_concurrency=_MAX_CONNECTIONS, server_header=False))


class _Stop:
  """SIGTERM and Ctrl-C end the server; a second one does not wait."""

  def __init__(self) -> None:
    self._server: Any = None
    self._asked = 0
    self._before: dict[int, Any] = {}

  def __enter__(self) -> _Stop:
    for kind in (signal.SIGINT, signal.SIGTERM):
      self._before[kind] = signal.signal(kind, self._ask)
    return self

  def __exit__(self, *unused_error: Any) -> None:
    for kind, handler in self._before.items():
      signal.signal(kind, handler)

  def ends(self, server: Any) -> None:
    """From now on there is a server to end."""
    self._server = server
    self._tell()

  def _ask(self, unused_signal: int, unused_frame: Any) -> None:
    self._asked += 1
    self._tell()

  def _tell(self) -> None:
    if self._server is not None and self._asked:
      self._server.should_exit = True
      self._server.force_exit = self._asked > 1


def _watch(worker: worker_lib.Worker, server: Any) -> None:
  """Ends the server when the model cannot be loaded."""
  worker.wait()
  if worker.error is not None:
    server.should_exit = True
