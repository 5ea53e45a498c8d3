"""Serves a page and an HTTP API that make music.

  musiclm serve
  musiclm serve --port 8000 --bundle runs/demo/bundle --queue 20
  musiclm serve --host 0.0.0.0 --max-seconds 30 --time-limit 60

Then open the address that it prints; the API is described at /docs, and
/healthz says "starting" until the model is loaded and warm. Who asks sooner is
served as soon as the programs of this request are compiled. Requests of the
page and of the API wait in one queue for one model. The same seed and settings
give the same audio as `musiclm generate`. Ctrl-C or SIGTERM stop the server.

Nobody is asked for a password: leave --host as it is unless everybody who can
reach the machine may use it.
"""

import argparse

from musiclm_jax import errors
from musiclm_jax import process
from musiclm_jax.decoding import choices as decoding_choices
from musiclm_jax.serving import limits as limits_lib


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm serve`."""
  parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                      help='where to listen (default: %(default)s, for this '
                      'machine alone)')
  parser.add_argument('--port', type=int, default=7860, metavar='N',
                      help='0 takes a free one (default: %(default)s)')
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')
  parser.add_argument('--weights', choices=decoding_choices.WEIGHTS,
                      help='what the stages calculate with (default: as '
                      'trained)')
  defaults = limits_lib.Limits()
  for option, (name, _, _, text) in limits_lib.OPTIONS.items():
    kind = type(getattr(defaults, name))
    parser.add_argument(option, dest=name, type=kind, metavar='N',
                        help=f'{text} (default: {getattr(defaults, name):g})')
  parser.add_argument('--no-page', action='store_true',
                      help='the API alone')
  parser.add_argument('--warm', choices=limits_lib.WARM,
                      default=limits_lib.WARM[0],
                      help='what to compile before it is asked for: one sample '
                      'of any length; all, also several samples, stories and '
                      'recordings, while nobody waits (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
  """Checks everything that can be checked, then serves until it is stopped."""
  limits = limits_lib.make({
      name: getattr(args, name) for name, *_ in limits_lib.OPTIONS.values()})
  if not 0 <= args.port <= 65_535:
    raise errors.UserError(f'--port is {args.port}; expected 0 to 65535.')
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import server  # pylint: disable=g-import-not-at-top
  server.check_packages(page=not args.no_page)
  process.keep_programs()
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  bundle.require('codec', 'mulan', 'semantic', 'coarse', 'fine')
  with server.listening(args.host, args.port) as sock:
    server.run(sock, bundle, limits, weights=args.weights,
               page=not args.no_page, warm=args.warm)
