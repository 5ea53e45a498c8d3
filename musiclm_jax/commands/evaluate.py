"""Says how good a bundle is, part by part.

  musiclm evaluate quick [--bundle DIR] [--corpus DIR] [--clips 24]
  musiclm evaluate codec --data DIR [--data DIR2] [--bundle DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import dataclasses
import pathlib
import sys
import tempfile
import time
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.commands import parsers
from musiclm_jax.evaluation import runnable

MIN_CLIPS = 2
RECORD = 'evaluation.json'
_TYPES = {'int': int, 'float': float}


def add_arguments(parser: parsers.Parser) -> None:
  """A parser for each file that is an evaluation."""
  declared = runnable.declared()
  parser.epilog = parsers.listed(
      {name: d.help for name, d in declared.items()}) + (
          '\n\n`musiclm evaluate NAME --help` says more.')
  kinds = parser.add_kinds('what')
  for name, declaration in declared.items():
    kind = kinds.add_parser(name, description=declaration.about)
    _add_options(kind, declaration)
    kind.set_defaults(declaration=declaration)


def _add_options(
    parser: parsers.Parser, declaration: runnable.Declaration) -> None:
  """The options that all have, and those that this one declares."""
  missing = 'the shipped ones' if declaration.bundle else 'none'
  parser.add_argument('--bundle', metavar='DIR',
                      help=f'trained components (default: {missing})')
  if declaration.corpus:
    parser.add_argument('--corpus', metavar='DIR', help=declaration.corpus_help)
  if declaration.clips is not None:
    parser.add_argument('--clips', type=int, default=declaration.clips,
                        metavar='N', help=f'{declaration.clips_help} (default: '
                        '%(default)s)')
  for option, settings in declaration.options.items():
    parser.add_argument(option, **_settings(settings))
  parser.add_argument('--seed', type=int, default=0)
  if declaration.pictures:
    parser.add_argument('-o', '--out', metavar='DIR',
                        help='where the pictures go, made if it is not there '
                        '(default: nowhere; --report holds them too)')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')
  parser.add_argument('--report', metavar='FILE.html',
                      help='write a page with figures, pictures and sounds')
  if declaration.record:
    parser.add_argument('--record', action='store_true',
                        help='keep the figures in the bundle, for `musiclm '
                        'inspect bundle`')


def _settings(declared: Mapping[str, Any]) -> dict[str, Any]:
  """`declared` with types for their names."""
  return {key: _TYPES[value] if key == 'type' else value
          for key, value in declared.items()}


def run(args: argparse.Namespace) -> None:
  """Checks what can be checked, evaluates, writes."""
  declaration = args.declaration
  if declaration.clips is not None and not (
      MIN_CLIPS <= args.clips <= declaration.most_clips):
    raise errors.UserError(
        f'--clips is {args.clips}; expected {MIN_CLIPS} to '
        f'{declaration.most_clips}.')
  for option, value, suffixes in (('--json', args.json, ()),
                                  ('--report', args.report, ('.html',))):
    if value is not None:
      files.check_output(value, suffixes, option)
  out = pathlib.Path(args.out) if getattr(args, 'out', None) else None
  if out:
    files.check_folder(out, '--out')
  declaration.check_packages()
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = None
  if args.bundle or declaration.bundle:
    bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  if bundle is not None and declaration.components:
    bundle.require(*declaration.components)
  start = time.monotonic()
  say = _Teller(start)
  asked = runnable.Asked(
      bundle, args, say,
      lambda section: print(section.text() + '\n', flush=True))
  outcome = declaration.run(asked)
  with contextlib.ExitStack() as stack:
    folder = out
    if folder is None and args.report:  # which has the pictures in it
      folder = pathlib.Path(
          stack.enter_context(tempfile.TemporaryDirectory()))
    drawn = _drawn(folder, outcome.draw)
    outcome.figures['wall_seconds'] = time.monotonic() - start
    if out:
      for _, path in drawn:
        print(path)
    _write(args, bundle, outcome, drawn)
  say('done')


class _Teller:
  """Lines of progress on stderr, each with the time since the start."""

  def __init__(self, start: float):
    self._start = start

  def __call__(self, line: str) -> None:
    print(f'[{time.monotonic() - self._start:4.0f} s] {line}', file=sys.stderr,
          flush=True)


def _drawn(folder: pathlib.Path | None, draw: Callable) -> list:
  """What `draw` makes in a folder, which is made; nothing without one."""
  if folder is None:
    return []
  folder.mkdir(parents=True, exist_ok=True)
  return list(draw(folder))


def _write(args: argparse.Namespace, bundle: Any, outcome: runnable.Outcome,
           drawn: list) -> None:
  """The files that were asked for."""
  from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import provenance  # pylint: disable=g-import-not-at-top
  found = dict(outcome.figures)
  if bundle is not None:
    found.update(bundle=bundle.identity,
                 bundle_fingerprint=bundle.weights_fingerprint())
  # What pages show besides: see evaluation/pages/measured.py.
  found.update(evaluation=args.what, title=outcome.title,
               judged=outcome.judged,
               sections=[dataclasses.asdict(s) for s in outcome.sections],
               command=provenance.command())
  found.update(outcome.about)
  if args.json:
    figures.write(args.json, found)
  if getattr(args, 'record', False):
    figures.write(bundle.directory / RECORD, dict(
        found, text='\n\n'.join(s.text() for s in outcome.sections)))
  if args.report:
    from musiclm_jax.evaluation import report  # pylint: disable=g-import-not-at-top
    context = figures.context()
    report.write(
        args.report, outcome.title, outcome.sections, drawn, outcome.sounds,
        [f'{outcome.judged}; {outcome.figures["wall_seconds"]:.0f} s on '
         f'{context["machine"]}; jax {context["version_jax"]}, commit '
         f'{context["git_commit"][:7]}'])
    print(args.report)
