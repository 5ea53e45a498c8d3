"""What a kernel of Pallas takes, from the schedule that its compiler prints.

XLA expects nothing of a kernel that it did not make. The kernel's own compiler
packs its instructions into bundles, one for each cycle, and prints them with the
loops that they stand in; how often those run the kernel says itself
(`tpu_attention`'s metadata). Waiting for memory is in neither.

  python -m musiclm_jax.preflight.schedule v5e:2x2 '{"length": 2272, ...}'

prints as JSON the bundles of each kernel: outside of the grid, once for each
program, and of each loop within. It is a process of its own, since what libtpu
prints is decided when it is loaded.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from musiclm_jax import errors

# Cores of a chip that share a kernel's grid.
CORES = {'v4': 2, 'v5p': 2}
_SMALLEST = {'v4': 'v4:2x2x1', 'v5e': 'v5e:2x2', 'v5p': 'v5p:2x2x1',
             'v6e': 'v6e:2x2'}
_BUNDLE = re.compile(r'\s*0x[0-9a-f]+\s*(?P<label>[A-Z]{2})?\s*:\s*(?P<depth>>*)')
_BODY = 'LB'  # marks a loop's first bundle
_KERNELS = _VALUE, _GRADIENT = 'attention', 'attention_gradient'
_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Bundles:
  """Of one kernel.

  Attributes:
    once: outside of its grid.
    program: for each program of the grid, outside of loops.
    loops: of each loop's body, in their order.
  """

  once: int
  program: int
  loops: tuple

  def cycles(self, programs: int, loops: list) -> float:
    """All of them, on one core.

    Args:
      programs: of the grid.
      loops: how often each loop runs. Others, which move data at a program's
        end, run once in each.

    Raises:
      ValueError: there are fewer, and they run more often than programs.
    """
    missing = len(loops) - len(self.loops)
    if missing > 0 and max(loops) > programs:
      raise ValueError(f'{len(self.loops)} loops in the schedule of a kernel '
                       f'that has {len(loops)}.')
    # Of a single block loops run once or never, and may be none to the compiler.
    times = [programs] * len(self.loops) if missing > 0 else (
        list(loops) + [programs] * -missing)
    return self.once + programs * self.program + sum(
        size * count for size, count in zip(self.loops, times))


def parse(text: str) -> Bundles:
  r"""A kernel's `Bundles` as its compiler prints them.

  >>> parse('''
  ...   0x0   :  { }
  ...   0x1 LB: > { }
  ...   0x2 LB: >> { }
  ...   0x3   : >> { }
  ...   0x4   : > { }
  ... ''')
  Bundles(once=1, program=2, loops=(2,))
  """
  once = program = 0
  loops = []
  for line in text.splitlines():
    found = _BUNDLE.match(line)
    if not found:
      continue
    depth = len(found['depth'])
    if depth == 0:
      once += 1
    elif depth == 1 or not loops and found['label'] != _BODY:
      program += 1
    elif depth == 2 and found['label'] == _BODY:
      loops.append(1)
    else:
      loops[-1] += 1
  return Bundles(once, program, tuple(loops))


@functools.lru_cache(None)
def _of_plan(generation, plan):
  """{kernel: Bundles} of a plan as JSON, by a process of its own."""
  command = [sys.executable, '-m', 'musiclm_jax.preflight.schedule',
             _SMALLEST[generation], plan]
  try:
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=_SECONDS, check=False)
  except subprocess.TimeoutExpired as error:
    raise errors.UserError(
        f'the schedule of a kernel was not there after {_SECONDS} s; '
        f'--roofline does without.') from error
  if done.returncode:
    said = done.stderr.strip().splitlines() or [f'exit {done.returncode}']
    raise errors.UserError(
        f'the schedule of a kernel could not be printed: {said[-1][:300]}; '
        f'--roofline does without.')
  found = json.loads(done.stdout.strip().splitlines()[-1])
  return {name: Bundles(v['once'], v['program'], tuple(v['loops']))
          for name, v in found.items()}


def cycles(generation: str, metadata: Mapping) -> float:
  """Cycles that a chip takes for one call of a kernel.

  Args:
    generation: of the chip, such as 'v5e'.
    metadata: of the call, see `tpu_attention`.
  """
  fields = dict(metadata)
  programs, loops = fields.pop('programs'), fields.pop('loops')
  name = _GRADIENT if fields.pop('backward') else _VALUE
  of_kernel = _of_plan(generation, json.dumps(fields, sort_keys=True))
  return of_kernel[name].cycles(programs, loops) / CORES.get(generation, 1)


def _print(topology, fields):
  """The process: compiles a plan's kernels and prints their bundles."""
  from musiclm_jax.preflight import machines  # pylint: disable=g-import-not-at-top
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    os.environ['LIBTPU_INIT_ARGS'] = ' '.join([
        os.environ.get('LIBTPU_INIT_ARGS', ''), f'--xla_jf_dump_to={folder}',
        '--xla_jf_dump_llo_text=true'])
    device = machines.topology(topology).devices[0]
    import jax  # pylint: disable=g-import-not-at-top

    from musiclm_jax.nn.kernels import tpu_attention  # pylint: disable=g-import-not-at-top
    dtype = fields.pop('dtype')
    run, arguments = tpu_attention.example(
        tpu_attention.Plan(**fields), dtype)
    sharding = jax.sharding.SingleDeviceSharding(device)
    arguments = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
                 for x in arguments]
    jax.jit(run).lower(*arguments).compile()
    found = {}
    for name in _KERNELS:
      path, = [p for p in pathlib.Path(folder).iterdir() if re.fullmatch(
          rf'\d+-(\w+_)?jvp_{name}_+\.\d+-\d+-final_bundles.txt', p.name)]
      found[name] = dataclasses.asdict(parse(path.read_text()))
    print(json.dumps(found), flush=True)
  os._exit(0)  # libtpu waits for no one else


if __name__ == '__main__':
  _print(sys.argv[1], json.loads(sys.argv[2]))
