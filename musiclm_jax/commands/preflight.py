"""What a training run will need, before anything is rented for it.

  musiclm preflight semantic_base --topology v5e:16x16
  musiclm preflight semantic_base --topology v5p:4x4x4 --mesh data=16,model=4 \\
      --batch 512 --steps 400000
  musiclm preflight semantic_gpu             this machine's own devices

Compiles the very step that the loop would run, for TPUs that need not be there
(pip install 'musiclm_jax[tpu]'), without data, and says what one chip holds and
does. Times are a roofline: no run is faster, for a step has at least these
FLOPs, moves at least these bytes and sends at least this much. For TPUs the
compiler's own expectation of its kernels is said too. What does not fit is
said, with settings that do. --roofline leaves out that expectation, which the
compiler works longest on.
"""

import argparse
import itertools
import multiprocessing
import os
import pathlib
import re
import sys

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.commands import train as train_lib

_GIB = 2**30
_DAY_SECONDS = 86_400.0
_ADVICE = 2  # settings that fit, and no more are looked for
# Nothing is read, so directories need no names.
_UNREAD = {'MODEL_DIR': 'none', 'CORPUS_DIR': 'none', 'CACHE_DIR': 'none',
           'TEXT_CHECKPOINT': 'none'}

prepare = train_lib.prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm preflight`."""
  train_lib.add_gin_arguments(parser)
  parser.add_argument('--topology', default='', metavar='NAME',
                      help='such as v5e:16x16, of v4, v5e, v5p or v6e chips; '
                      "default: this machine's devices")
  parser.add_argument('--mesh', default='', metavar='AXIS=N,...',
                      help='such as data=64,model=4; default: that of the leaf')
  parser.add_argument('--batch', type=int, default=0, metavar='ROWS',
                      help='of all chips together; default: that of the leaf')
  parser.add_argument('--steps', type=int, default=0,
                      help='of the whole run; default: those of the leaf')
  parser.add_argument('--no-advice', action='store_true',
                      help='if it does not fit, do not look for what does')
  parser.add_argument('--roofline', action='store_true',
                      help='do not wait for what the compiler of a TPU expects '
                      'of its kernels: most of its time')
  parser.add_argument('--json', default='', metavar='FILE',
                      help='write the figures there')


def run(args: argparse.Namespace) -> None:
  """Compiles, prints the report and, where it does not fit, what would."""
  for name, value in (('--batch', args.batch), ('--steps', args.steps)):
    if value < 0:
      raise errors.UserError(f'{name} is {value}; expected at least 1.')
  if args.json:
    files.check_output(
        pathlib.Path(args.json).absolute(), ('.json',), '--json')
  mesh = parse_mesh(args.mesh)
  names, bindings = train_lib.gin_arguments(args)
  from musiclm_jax import figures as figures_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.preflight import chip  # pylint: disable=g-import-not-at-top
  asked = names, bindings, args.topology, mesh, args.batch
  setup, steps = load(*asked)
  steps = args.steps or steps
  report = chip.measure(setup, kernels=not args.roofline)
  print('\n'.join(lines(report, steps)))
  if not report.fits and not args.no_advice:
    apart = args.roofline and setup.topology.described
    for line in advice(report, asked if apart else None):
      print(line, flush=True)
  if args.json:
    figures_lib.write(args.json, dict(report.figures(), steps=steps))
  if args.roofline and setup.topology.described:
    sys.stdout.flush()
    # Nobody waits for the kernels that the compiler is at.
    os._exit(0)  # pylint: disable=protected-access


def parse_mesh(text: str) -> dict[str, int] | None:
  """The sizes of a mesh, None of ''.

  >>> parse_mesh('data=64,model=4')
  {'data': 64, 'model': 4}
  """
  if not text:
    return None
  if not re.fullmatch(r'\w+=-?\d+(,\w+=-?\d+)*', text):
    raise errors.UserError(
        f'--mesh is {text!r}; expected such as data=64,model=4.')
  pairs = (part.split('=') for part in text.split(','))
  return {axis: int(size) for axis, size in pairs}


def load(names, bindings=(), topology='', mesh=None, batch=0):
  """(chip.Setup, steps of the run) of a leaf.

  Args:
    names: leaves, as `configs.load` takes them.
    bindings: gin lines; directories need none.
    topology: as `machines.topology` takes it.
    mesh: {axis: devices}; None: the leaf's.
    batch: rows; 0: the leaf's.
  """
  from musiclm_jax import configs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.preflight import chip  # pylint: disable=g-import-not-at-top
  from musiclm_jax.preflight import machines  # pylint: disable=g-import-not-at-top
  from musiclm_jax.training import mesh as mesh_lib  # pylint: disable=g-import-not-at-top
  bound = {line.split('=')[0].strip() for line in bindings}
  unread = [f'{name} = {_UNREAD[name]!r}'
            for name in configs.required(names) - bound if name in _UNREAD]
  size = [f'BATCH_SIZE = {batch}'] if batch else []
  arguments = configs.load(names, [*bindings, *unread, *size]).arguments
  found = machines.topology(topology)
  sizes = mesh_lib.mesh_sizes(mesh or arguments['mesh'], len(found.devices))
  return chip.Setup(
      arguments['trainable'].from_nothing(), arguments['source'], found,
      dict(zip(mesh_lib.AXES, sizes)),
      arguments['rules'], arguments['generator']), arguments['num_steps']


def lines(report, steps):
  """The report as text."""
  from musiclm_jax.preflight import chip  # pylint: disable=g-import-not-at-top
  mesh = chip.show_mesh(report.setup.mesh)
  yield (f'{report.setup.topology.name}: {report.chips} device(s), '
         f'mesh {mesh}, batch {report.rows}')
  yield 'each of them'
  for name, size in (
      ('parameters', report.parameters), ('optimizer', report.optimizer),
      ('batch', report.batch), ('activations, gradients', report.working),
      ('peak', report.peak)):
    yield f'  {name:<24}{size / _GIB:9.3f} GiB'
  verdict = 'fits' if report.fits else 'DOES NOT FIT'
  yield (f'  of {report.usable / _GIB:.1f} GiB of {report.chip.name}: '
         f'{report.peak / report.usable:.0%}, {verdict}')
  if report.counts is not None:
    yield from _work(report)
    yield from _time(report, steps)


def _work(report):
  """FLOPs, bytes and collectives of one device."""
  counts = report.counts
  yield f'  {"products":<24}{counts.products / 1e12:9.3f} TFLOP'
  yield f'  {"memory traffic":<24}{counts.bytes / _GIB:9.3f} GiB'
  for kind, found in sorted(counts.collectives.items()):
    yield (f'  {kind:<24}{found.bytes / _GIB:9.3f} GiB in {found.count}, '
           f'{found.wire_bytes / _GIB:.3f} GiB sent')
  if counts.unknown_loops:
    yield (f'  {counts.unknown_loops} loop(s) whose length is not in the '
           f'program count once')


def _time(report, steps):
  """The roofline, and what it means for the whole run."""
  seconds, step = report.seconds(), report.step_seconds()
  yield f'a step takes at least {_short(step)}: ' + ', '.join(
      f'{name} {_short(value)}' for name, value in seconds.items())
  if report.needs:
    yield (f'at most {report.needs["tokens"] / step:,.0f} target tokens/s, '
           f'MFU {report.mfu(step):.0%}')
  expected = report.expected_seconds()
  if expected:
    share = f', MFU {report.mfu(expected):.0%}' if report.needs else ''
    yield (f'the compiler expects {_short(expected)} of its kernels, one after '
           f'another{share}')
  days = steps * step / _DAY_SECONDS
  yield (f'{steps:,} steps: at least {days:.2f} days, '
         f'{days * report.chips:,.1f} chip-days')


def advice(report, asked=None):
  """Lines: settings close to those of a report that fit.

  Args:
    report: of what does not fit.
    asked: what `load` made its setup of. Given, each setting is compiled in a
      process of its own, without kernels: the compiler goes on with those until
      its process ends, which would slow down the next one.
  """
  from musiclm_jax.preflight import chip  # pylint: disable=g-import-not-at-top
  found = 0
  room = report.usable - (report.peak - report.working)
  share = max(room, 0) / max(report.working, 1)
  for index, (option, setup) in enumerate(
      chip.smaller(report.setup, share)):
    fits, peak = (_measured_apart(asked, share, index) if asked else
                  _verdict(chip.measure(setup)))
    size = f'{peak / _GIB:.1f} GiB'
    if fits:
      yield f'fits with {option}: {size}'
      found += 1
    else:
      yield f'not enough: {option}, {size}'
    if found == _ADVICE:
      return
  if not found:
    yield 'nothing tried fits; take more chips, or a smaller batch or model.'


def _verdict(report):
  return report.fits, report.peak


def _measured_apart(asked, share, index):
  """`_verdict` of one of the smaller setups, from another process."""
  context = multiprocessing.get_context('spawn')
  here, there = context.Pipe(duplex=False)
  process = context.Process(
      target=_measure_for, args=(there, asked, share, index))
  process.start()
  there.close()
  try:
    return here.recv()
  except EOFError:
    process.join()
    raise RuntimeError(
        f'the process of a setting ended with {process.exitcode}.') from None
  finally:
    process.join()


def _measure_for(connection, asked, share, index):
  from musiclm_jax.preflight import chip  # pylint: disable=g-import-not-at-top
  smaller = chip.smaller(load(*asked)[0], share)
  _, setup = next(itertools.islice(smaller, index, None))
  connection.send(_verdict(chip.measure(setup, kernels=False)))
  connection.close()
  os._exit(0)  # pylint: disable=protected-access


def _short(seconds):
  return f'{seconds:.3g} s' if seconds >= 1 else f'{1e3 * seconds:.3g} ms'
