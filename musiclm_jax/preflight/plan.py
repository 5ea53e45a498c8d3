"""A program as its compiler plans it: its text, and the memory that it takes.

A TPU's compiler first optimises a program, puts it in order and gives every
array its place. Then it makes the kernels, which is most of its work, and of
which preflight learns nothing but how long each should take. The plan is printed
before; who does without those times need not wait.
"""

import dataclasses
import math
import pathlib
import re
import tempfile
import threading
from typing import Any

import jax

from musiclm_jax.training import step as step_lib

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_LOOK_SECONDS = 0.2
# In what libtpu prints: the plan, its memory, and what comes before and after.
_PLAN, _MEMORY, _PARTS, _LAST = (f'module_*.jit_*.{name}' for name in (
    'after_optimizations_after_buffer_assignment.txt',
    'after_optimizations-memory-usage-report.txt',
    'after_optimizations-buffer-assignment.txt', 'debug_options'))


@dataclasses.dataclass(frozen=True)
class Plan:
  """What one device runs and holds.

  Attributes:
    text: of the partitioned program, '' where it does not fit.
    working: bytes beside the state and the batch.
    peak: bytes, all together.
  """

  text: str
  working: int
  peak: int


def make(program: step_lib.Program, described: bool,
         kernels: bool = True) -> Plan:
  """The `Plan` of an update.

  Args:
    program: a `step.Program`, in its context.
    described: whether it is for TPUs that are not there.
    kernels: whether to wait for the kernels, whose times stand in the text
      then. Without them the compiler goes on in a thread of its own until the
      process ends, best by `os._exit`.
  """
  held = held_by(program.state) + held_by(program.batch)
  lowered = program.update.lower(program.state, program.batch)
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    options = {'xla_dump_to': folder} if described else None
    folder = pathlib.Path(folder)
    call = lambda: lowered.compile(compiler_options=options)
    try:
      if not described or kernels:
        return _whole(call(), folder)
      return _before_kernels(call, folder, held)
    except jax.errors.JaxRuntimeError as error:
      over = needed(str(error), held)
      if over is None:
        raise
      return Plan('', max(0, over - held), over)


def _whole(compiled, folder):
  """The plan of a compiled program."""
  memory = compiled.memory_analysis()
  # A TPU's compiler prints what jaxlib's own reader of its programs may not
  # know: the SparseCores of v5p and v6e run parts of them.
  printed = sorted(folder.glob('*.after_codegen.txt'))
  text = printed[0].read_text() if printed else compiled.as_text()
  return Plan(text, memory.temp_size_in_bytes, (
      memory.argument_size_in_bytes + memory.output_size_in_bytes -
      memory.alias_size_in_bytes + memory.temp_size_in_bytes +
      memory.generated_code_size_in_bytes))


def _before_kernels(call, folder, held):
  """The plan as soon as it is printed, or all of it if that comes first."""
  ended = []

  def work():
    try:
      ended.append(call())
    except Exception as error:  # pylint: disable=broad-exception-caught
      ended.append(error)

  thread = threading.Thread(target=work, daemon=True, name='compiler')
  thread.start()
  while thread.is_alive() and not _printed(folder):
    thread.join(_LOOK_SECONDS)
  if ended and isinstance(ended[0], Exception):
    raise ended[0]
  if ended:
    return _whole(ended[0], folder)
  report = next(folder.glob(_MEMORY)).read_text()
  # The main memory comes first, others after it. What v5p and v6e keep within
  # a kernel of their SparseCores is in this sum and not in the memory.
  peak = int(re.search(r'Total bytes: (\d+)', report).group(1))
  parts = next(folder.glob(_PARTS)).read_text()
  peak -= sum(map(int, re.findall(
      r'^allocation \d+: size (\d+), page \d+, thread-local', parts, re.M)))
  return Plan(next(folder.glob(_PLAN)).read_text(), peak - held, peak)


def _printed(folder):
  """Whether the plan is all there."""
  written = lambda kind: [p.stat().st_mtime_ns for p in folder.glob(kind)]
  return bool(written(_PLAN)) and max(written(_LAST)) > max(written(_PLAN))


def held_by(tree: Any) -> int:
  """Bytes of ShapeDtypeStructs with shardings on one device."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
             for x in jax.tree.leaves(tree))


def needed(error: str, held: int) -> int | None:
  """Bytes that a compiler wants which ran out of memory; None: it did not.

  Args:
    error: its message.
    held: bytes of what is there before anything is computed.

  >>> needed('Used 17.50G of 15.75G hbm.', 2**30) / 2**30
  17.5
  >>> needed('Ran out of memory on HBM, the total memory required for HLO '
  ...        'temporaries (66.00G) exceeds available HBM (15.75G).',
  ...        2**30) / 2**30
  67.0
  """
  found = (re.search(r'[Uu]sed ([\d.]+)([KMGT]?) of', error) or
           re.search(r'\(([\d.]+)([KMGT]?)\) exceeds', error))
  if not found:
    return None
  size = int(float(found.group(1)) * _UNITS[found.group(2)])
  return size + held if 'temporaries' in error else size
