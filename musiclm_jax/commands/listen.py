"""A listening test: which of two clips fits a description better?

  musiclm listen build --system ours=out/ --system reference=recordings/ \\
      --captions captions.csv --out test
  musiclm listen serve test [--host 0.0.0.0 --port 7870]
  musiclm listen report test --report test.html

build pairs every two systems on the same clips, hides who made what, and
brings all to one loudness. serve shows a page to raters, on phones as well, and
keeps each answer as it is given; it can be stopped and started at any time.
report counts wins and ties and says which differences are more than chance.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import pathlib
import sys

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.commands import parsers
from musiclm_jax.listening import design

_RANGES = {'ratings': (1, 10_000), 'per_rater': (1, 1_000),
           'seconds': (0.5, 600), 'hear_seconds': (0, 600),
           'loudness': (-60, -6)}


def add_arguments(parser: parsers.Parser) -> None:
  """The options of the three kinds."""
  kinds = parser.add_kinds('what', 'part of the listening test')
  for name, about, add in (
      ('build', 'Makes the folder of a test from folders of audio.', _add_build),
      ('serve', 'Shows a test to raters, and keeps what they say.', _add_serve),
      ('report', 'Says what the raters of a test preferred; also while it runs.',
       _add_report)):
    add(kinds.add_parser(name, description=about))


def _add_build(parser: parsers.Parser) -> None:
  add, defaults = parser.add_argument, design.Options()
  add('--system', action='append', default=[], metavar='NAME=FOLDER',
      help='a system and its audio; give two or more. The files of one clip '
      'have one name in all folders')
  add('--captions', metavar='CSV',
      help='the descriptions: columns id and caption; track, where clips are '
      'cut from the same recordings')
  add('--out', required=True, metavar='TEST_DIR', help='must not exist')
  add('--ratings', type=int, default=defaults.ratings, metavar='N',
      help='of each pair of systems (default: %(default)s, the paper\'s)')
  add('--per-rater', type=int, default=defaults.per_rater, metavar='N',
      help='most that one person is asked for (default: %(default)s)')
  add('--seconds', type=float, default=defaults.seconds, metavar='S',
      help='of each clip, from its beginning (default: %(default)g, the '
      'paper\'s)')
  add('--hear-seconds', type=float, default=defaults.hear_seconds, metavar='S',
      help='of both clips that are heard before an answer can be given '
      '(default: %(default)g)')
  add('--question', default='', metavar='TEXT',
      help='(default: which fits the description better; without captions, '
      'which is preferred)')
  add('--loudness', type=float, default=defaults.lufs, metavar='LUFS',
      help='that all clips get, by ITU-R BS.1770 (default: %(default)g)')
  add('--keep-loudness', action='store_true',
      help='leave every clip as loud as it is')
  add('--common', action='store_true',
      help='leave out the clips that not all systems have')
  add('--seed', type=int, default=0,
      help='of the clips that are taken, their order and the sides')


def _add_serve(parser: parsers.Parser) -> None:
  parser.add_argument('test', metavar='TEST_DIR')
  parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                      help='where to listen (default: %(default)s, for this '
                      'machine alone)')
  parser.add_argument('--port', type=int, default=7870, metavar='N',
                      help='0 takes a free one (default: %(default)s)')


def _add_report(parser: parsers.Parser) -> None:
  parser.add_argument('test', metavar='TEST_DIR')
  parser.add_argument('--seed', type=int, default=0,
                      help='of the intervals')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')
  parser.add_argument('--csv', metavar='FILE.csv',
                      help='write every rating there, with the systems\' names')
  parser.add_argument('--report', metavar='FILE.html',
                      help='write a page with the figures and plots')
  parser.add_argument('-o', '--out', metavar='DIR',
                      help='where the plots go, made if it is not there '
                      '(default: nowhere; --report holds them too)')


def run(args: argparse.Namespace) -> None:
  """Does one of the three."""
  {'build': _build, 'serve': _serve, 'report': _report}[args.what](args)


def _build(args):
  for name, (least, most) in _RANGES.items():
    value = getattr(args, name)
    if not (math.isfinite(value) and least <= value <= most):
      raise errors.UserError(
          f'--{name.replace("_", "-")} is {value:g}; expected {least:g} to '
          f'{most:g}.')
  systems = _systems(args.system)
  files.check_folder(args.out, '--out')
  from musiclm_jax.listening import build  # pylint: disable=g-import-not-at-top
  with errors.of_files(args.out):
    test = build.make(args.out, systems, args.captions, design.Options(
        ratings=args.ratings, per_rater=args.per_rater, seconds=args.seconds,
        hear_seconds=args.hear_seconds, question=args.question.strip(),
        lufs=None if args.keep_loudness else args.loudness,
        common=args.common, seed=args.seed), say=_say)
  raters = -(-len(test.slots) // args.per_rater)
  print(f'{args.out}: {len(test.clips)} clips, {len(test.systems)} systems, '
        f'{test.num_pairs} pairs of them, {len(test.slots)} ratings: {raters} '
        f'raters of {args.per_rater}; loudness: {test.key["loudness"]}\n'
        f'next: musiclm listen serve {args.out}')


def _systems(words):
  """{name: folder} of NAME=FOLDER words."""
  systems = {}
  for word in words:
    name, equals, path = word.partition('=')
    name = name.strip()
    if not (name and equals and path):
      raise errors.UserError(
          f'--system is {word!r}; expected NAME=FOLDER, such as ours=out/.')
    if name in systems:
      raise errors.UserError(
          f'--system {name} is given twice; give each its own name.')
    systems[name] = files.expand(path)
  return systems


def _serve(args):
  if not 0 <= args.port <= 65_535:
    raise errors.UserError(f'--port is {args.port}; expected 0 to 65535.')
  missing = [name for name in ('fastapi', 'uvicorn')
             if importlib.util.find_spec(name) is None]
  if missing:
    raise errors.UserError(
        f'`musiclm listen serve` needs {", ".join(missing)}, which is not '
        f'installed; run: pip install "musiclm_jax[web]".')
  from musiclm_jax.listening import desk  # pylint: disable=g-import-not-at-top
  from musiclm_jax.listening import folder  # pylint: disable=g-import-not-at-top
  from musiclm_jax.listening import store as store_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.serving import server  # pylint: disable=g-import-not-at-top
  test = folder.read(args.test)
  folder.check_sounds(test)
  with files.claimed(test.directory, 'the test'), server.listening(
      args.host, args.port) as sock:
    store = store_lib.Store(test.answers, test.key_sha256)
    try:
      from musiclm_jax.listening import site  # pylint: disable=g-import-not-at-top
      server.run_app(sock, site.create(desk.Desk(test, store)))
    finally:
      store.close()


def _report(args):
  for option, value, suffixes in (
      ('--json', args.json, ()), ('--csv', args.csv, ('.csv',)),
      ('--report', args.report, ('.html',))):
    if value is not None:
      files.check_output(value, suffixes, option)
  if args.out:
    files.check_folder(args.out, '--out')
  plots_wanted = args.out or args.report
  if plots_wanted and importlib.util.find_spec('matplotlib') is None:
    raise errors.UserError(
        'the plots need matplotlib, which is not installed; run: pip install '
        '"musiclm_jax[eval]".')
  from musiclm_jax.listening import folder  # pylint: disable=g-import-not-at-top
  from musiclm_jax.listening import results as results_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.listening import telling  # pylint: disable=g-import-not-at-top
  results = results_lib.of(folder.read(args.test), args.seed)
  for section in telling.sections(results):
    print(section.text() + '\n')
  drawn = []
  if plots_wanted:
    from musiclm_jax.listening import plots  # pylint: disable=g-import-not-at-top
    drawn = plots.draw(results)
  with errors.of_files(args.json or args.csv or args.report or args.test):
    if args.out:
      _write_plots(pathlib.Path(args.out), drawn)
    if args.json:
      from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
      figures.write(args.json, telling.figures(results))
    if args.csv:
      telling.write_csv(args.csv, results)
    if args.report:
      telling.write_page(args.report, results, drawn)
      print(args.report)


def _write_plots(directory, drawn):
  directory.mkdir(parents=True, exist_ok=True)
  for name, _, png in drawn:
    path = directory / f'{name}.png'
    with files.whole(path) as temporary:
      temporary.write_bytes(png)
    print(path)


def _say(line):
  print(line, file=sys.stderr, flush=True)
