"""One function over many pieces of work: in this process, or on Beam's engines.

  done = workers.run(function, {'shard-00000': ...}, folder)

The function makes its output itself, whole or not at all, and returns a small
JSON value, which stands in FOLDER/NAME.json from then on: a piece that has one
is not done again, so a run that was stopped goes on where it was. A piece that
fails costs itself, never the run; it is tried again by the next run. The bytes
are the function's alone, whichever engine and however many workers.
"""

from collections.abc import Callable
from collections.abc import Mapping
import concurrent.futures
import contextlib
import dataclasses
import difflib
import functools
import importlib.util
import io
import json
import logging
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import places

LOCAL, BEAM = 'local', 'beam'
MOST_TRIES = 3  # ours: so often may a piece end its worker
_POLL_SECONDS = 0.5
_SAID, _SHOWN_LINES = 'said', 20  # what Beam's workers say, kept to its end
_WORKER = b'sdk_worker_main'  # as Beam starts it
# Engines whose job servers know more options than Beam does here.
_PORTABLE = ('Flink', 'Spark', 'Portable', 'Prism')
_NEAR = 0.8  # difflib's: a slip of the pen

Function = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Options:
  """Where the work is done.

  Attributes:
    runner: 'local' (threads of this process); 'beam' (Beam's FnApiRunner with
      processes on this machine); or a runner that Beam knows by name, such as
      'DataflowRunner', 'FlinkRunner', 'SparkRunner'.
    workers: threads or processes; None for one a core. Other engines have
      options of their own.
    flags: Beam's options, such as ('--project=music', '--region=us-east1').
  """

  runner: str = LOCAL
  workers: int | None = None
  flags: tuple[str, ...] = ()

  def __post_init__(self):
    if self.workers is not None and self.workers < 1:
      raise errors.UserError(
          f'{self.workers} workers; expected at least 1.')
    name = self.runner.lower()
    if self.runner not in (LOCAL, BEAM) and not (
        '.' in name or name.endswith('runner')):  # Beam knows whether there is one
      raise errors.UserError(
          f"--runner is {self.runner!r}; expected local, beam, or Beam's name of "
          f'an engine, such as DataflowRunner.')
    if self.runner == LOCAL and self.flags:
      raise errors.UserError(
          f'{" ".join(self.flags)}: options for Beam; name a --runner for them.')

  @property
  def count(self) -> int:
    """Threads or processes on this machine."""
    return self.workers or len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Done:
  """What became of the pieces.

  Attributes:
    values: {name: what the function returned}, in the order of the pieces.
    failed: {name: why}.
  """

  values: dict[str, Any]
  failed: dict[str, str]


def run(function: Function, pieces: Mapping[str, Any], folder: str | os.PathLike,
        options: Options = Options(),
        said: Callable[[int, int], None] = lambda done, total: None) -> Done:
  """Does every piece that was not done before.

  Args:
    function: called with a piece; that of a module, since engines pickle it.
    pieces: {name: piece}; names are file names.
    folder: where results are kept; a path or URL that all workers see.
    options: where it is done.
    said: told how many pieces are done, of how many, as they are.

  Raises:
    UserError: no such runner, or Beam is not installed.
    OSError: the disk is full. What is done stays.
  """
  folder = str(folder) if places.is_remote(folder) else os.path.abspath(folder)
  left = _left(pieces, folder)
  for name in left:  # of an earlier run
    for suffix in ('.failed', '.tries'):
      places.remove(places.join(folder, name + suffix))
  said(len(pieces) - len(left), len(pieces))
  if left:
    do = functools.partial(_do, function, folder)
    engine = _locally if options.runner == LOCAL else _by_beam
    engine(do, pieces, folder, options, said)
  values, failed = {}, {}
  for name in pieces:
    found = _read(folder, name + '.json')
    if found is not None:
      values[name] = found['value']
    else:
      found = _read(folder, name + '.failed') or dict(
          why='it was not done; run the command again')
      failed[name] = found['why']
  return Done(values, failed)


def add_arguments(parser: Any) -> None:
  """--runner, --workers and --runner-flags of a command."""
  parser.add_argument(
      '--runner', default=LOCAL, metavar='NAME',
      help="'local' (default), 'beam' (processes here), or Beam's name of an "
      'engine, such as DataflowRunner')
  parser.add_argument('--workers', type=int, metavar='N',
                      help='threads, or with beam processes (default: one a core)')
  parser.add_argument('--runner-flags', default='', metavar="'--A=B --C=D'",
                      help="options of Beam's engine; write them after a `=`, "
                      "as in --runner-flags='--region=us-east1'")


def from_arguments(args: Any) -> Options:
  """What `add_arguments` was given; UserError for flags that Beam would drop."""
  options = Options(args.runner, args.workers, tuple(args.runner_flags.split()))
  if options.flags:
    _require_beam(options)
    _check_flags(options)
  return options


def _left(pieces, folder):
  there = set(places.names(folder))
  return [name for name in pieces if f'{name}.json' not in there]


def _read(folder, name):
  try:
    return json.loads(places.read(places.join(folder, name)))
  except (FileNotFoundError, ValueError):
    return None


def _do(function, folder, name, piece):
  """One piece; its result is kept."""
  where = functools.partial(places.join, folder)
  if places.exists(where(name + '.json')):
    return
  tries = (_read(folder, name + '.tries') or dict(count=0))['count']
  if tries >= MOST_TRIES:
    why = f'its worker ended {tries} times while at it'
    _keep(where(name + '.failed'), why=why)
    return
  _keep(where(name + '.tries'), count=tries + 1)
  try:
    value = function(piece)
  except OSError as error:
    if error.errno in files.FULL:
      raise
    _keep(where(name + '.failed'), why=_why(error))
  except places.Refused:
    raise  # what comes next would be refused as well; the next run goes on
  except Exception as error:  # pylint: disable=broad-except
    _keep(where(name + '.failed'), why=_why(error))
  else:
    _keep(where(name + '.json'), value=value)
  places.remove(where(name + '.tries'))


def _why(error):
  if isinstance(error, errors.UserError):
    return str(error)
  return f'{type(error).__name__}: {error}'


def _keep(path, **values):
  places.write(path, json.dumps(values, ensure_ascii=True).encode())


def _locally(do, pieces, folder, options, said):
  left = _left(pieces, folder)
  before = len(pieces) - len(left)
  if options.count == 1:
    for done, name in enumerate(left, before + 1):
      do(name, pieces[name])
      said(done, len(pieces))
    return
  with concurrent.futures.ThreadPoolExecutor(options.count) as pool:
    waiting = [pool.submit(do, name, pieces[name]) for name in left]
    try:
      for done, future in enumerate(
          concurrent.futures.as_completed(waiting), before + 1):
        future.result()
        said(done, len(pieces))
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _by_beam(do, pieces, folder, options, said):
  """Rounds of a pipeline, until nothing is left or nothing more gets done."""
  _require_beam(options)
  while True:
    left = {name: pieces[name] for name in _left(pieces, folder)
            if not places.exists(places.join(folder, name + '.failed'))}
    if not left:
      return
    _round(do, left, folder, options, lambda: said(
        len(pieces) - len(_left(pieces, folder)), len(pieces)))


def _require_beam(options):
  if importlib.util.find_spec('apache_beam') is None:
    raise errors.UserError(
        f'--runner {options.runner} needs Beam; run `pip install '
        f'"musiclm_jax[beam]"`.')


def _check_flags(options):
  """UserError for what Beam does not know: it drops that, and only logs it.

  The job servers of Flink and Spark have options of their own, which Beam learns
  when it talks to them; there, only what looks like a slip is refused.
  """
  for before, word in zip(('', *options.flags), options.flags):
    if not word.startswith('--') and (
        not before.startswith('--') or '=' in before):
      raise errors.UserError(
          f'--runner-flags: {word} is no option; expected --NAME=VALUE, and no '
          f'spaces within a value.')
  with _no_warnings():  # of extras that Beam may have
    from apache_beam.options import pipeline_options  # pylint: disable=g-import-not-at-top
  said = io.StringIO()
  made = pipeline_options.PipelineOptions(list(options.flags))
  try:
    with contextlib.redirect_stderr(said), _no_warnings():
      known = made.get_all_options()
      unknown = sorted(set(made.get_all_options(retain_unknown_options=True)) -
                       set(known))
  except SystemExit as error:  # argparse would end the process
    raise errors.UserError(
        f'--runner-flags: {said.getvalue().strip().splitlines()[-1]}') from error
  for name in unknown:
    near = difflib.get_close_matches(name, known, 1, _NEAR)
    if near or not options.runner.startswith(_PORTABLE):
      raise errors.UserError(
          f'--runner-flags: Beam knows no --{name}' + (
              f'; did you mean --{near[0]}?' if near else '.'))
    print(f'--{name} is left to the engine: Beam does not know it here',
          file=sys.stderr, flush=True)


@contextlib.contextmanager
def _no_warnings():
  """Beam logs what it drops, which is said better here."""
  before = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    yield
  finally:
    logging.disable(before)


def _round(do, left, folder, options, said):
  """One pipeline in a process of its own; stopped where a worker dies.

  Beam's runner on this machine waits for ever for a worker that was killed. So
  when one of them is gone while the pipeline goes on, the pipeline is ended, to
  be run again for what is left.
  """
  with tempfile.TemporaryDirectory() as numbers:
    numbers = pathlib.Path(numbers)
    context = multiprocessing.get_context('spawn')
    process = context.Process(
        target=_pipeline, args=(do, left, options, str(numbers), os.getpid()))
    process.start()
    seen = set()
    try:
      while process.is_alive():
        process.join(_POLL_SECONDS)
        said()
        there = _workers_of(process.pid)
        seen |= there
        if process.is_alive() and seen - there:
          process.join(5)  # it may have ended in the meantime, as it should
          if process.is_alive():
            _show_end(numbers / _SAID)
          break
    finally:
      _end(process)
    stopped = _read(str(numbers), 'stopped')
  if stopped and stopped['errno'] in files.FULL:
    raise OSError(stopped['errno'], os.strerror(stopped['errno']), folder)
  if stopped:
    raise errors.UserError(stopped['why'])


def _pipeline(do, left, options, numbers, parent):
  """Runs Beam's pipeline; the body of a process."""
  os.setsid()  # so that its workers can be ended with it
  threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
  if options.runner == BEAM:
    # Its workers tell of each of their steps, and take no option not to.
    with open(os.path.join(numbers, _SAID), 'wb') as said:
      os.dup2(said.fileno(), 2)
  logging.getLogger().setLevel(logging.ERROR)  # it says much on its way in
  import apache_beam as beam  # pylint: disable=g-import-not-at-top
  try:
    runner, settings = _runner(options)
    with beam.Pipeline(runner=runner, options=settings) as pipeline:
      _ = (pipeline | 'pieces' >> beam.Create(sorted(left.items()))
           | 'shared out' >> beam.Reshuffle()
           | 'done' >> beam.MapTuple(do))
  except Exception as error:  # pylint: disable=broad-except
    _keep(os.path.join(numbers, 'stopped'), errno=_errno(error), why=(
        f'--runner {options.runner} stopped: {_last_line(error)}'))


def _end_with(parent):
  """Ends this process and its workers when the one that began it is gone."""
  while os.getppid() == parent:
    time.sleep(_POLL_SECONDS)
  os.killpg(0, signal.SIGKILL)


def _runner(options):
  """(runner, options) as a beam.Pipeline takes them."""
  from apache_beam.options import pipeline_options  # pylint: disable=g-import-not-at-top
  flags = list(options.flags)
  if options.runner != BEAM:
    return options.runner, pipeline_options.PipelineOptions(flags)
  from apache_beam.runners.portability.fn_api_runner import fn_runner  # pylint: disable=g-import-not-at-top
  return fn_runner.FnApiRunner(), pipeline_options.PipelineOptions(flags, **dict(
      direct_num_workers=options.count, direct_running_mode='multi_processing'))


def _show_end(path):
  """The last words of workers of which one is gone."""
  with contextlib.suppress(FileNotFoundError):
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    print('\n'.join(lines[-_SHOWN_LINES:]), file=sys.stderr, flush=True)


def _workers_of(session):
  """The numbers of the workers that a pipeline's process has started.

  Those that have ended and are not reaped are not among them.
  """
  found = set()
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      state, *numbers = (path / 'stat').read_text(
          encoding='utf-8').rsplit(')', 1)[1].split()
      if (int(numbers[2]) == session and state not in ('Z', 'X') and
          _WORKER in (path / 'cmdline').read_bytes()):
        found.add(int(path.name))
  return found


def _end(process):
  with contextlib.suppress(ProcessLookupError, PermissionError):
    if os.getpgid(process.pid) == process.pid:
      os.killpg(process.pid, signal.SIGKILL)
  process.kill()
  process.join()


def _errno(error):
  """Of a full disk, wherever in the text of a worker's error."""
  text = str(error)
  for number in files.FULL:
    if f'[Errno {number}]' in text or getattr(error, 'errno', None) == number:
      return number
  return 0


def _last_line(error):
  lines = [line for line in str(error).splitlines() if line.strip()]
  return (lines or [type(error).__name__])[-1].strip()
