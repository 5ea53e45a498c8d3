"""What a compiled program does, counted from its text.

XLA's own cost analysis counts the body of a loop once; a decoder under
`lax.scan` is one body run 24 times. Here every computation counts as often as it
runs:

  products      FLOPs of matrix products and convolutions (2 per multiply-add;
                all else is small beside them)
  bytes         read from and written to the main memory (hlo_traffic.py)
  collectives   of each kind: how many, and what they move
  cycles        that a TPU's compiler expects its kernels to take
  kernels       of Pallas, which XLA does not see into: they say themselves what
                they compute, and preflight/schedule.py how long

all of it for one device, since the text is that of the partitioned program.
"""

import dataclasses
import functools
import json
import math
import re

from musiclm_jax.preflight import hlo_text
from musiclm_jax.preflight import hlo_traffic

# Where the compiler does not know it writes the largest number of 64 bits.
_CYCLES = re.compile(r'"estimated_cycles":"(\d{1,15})"')
_PALLAS = re.compile(r'kernel_metadata=\{"attention":("(?:[^"\\]|\\.)*")')
_ESTIMATE = re.compile(r'"cost_estimate":\{[^}]*"flops":"(\d+)"')
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
               'collective-permute')


@dataclasses.dataclass(frozen=True)
class Collective:
  """Those of one kind, per device and run of the program."""

  count: int  # how many are run
  bytes: float  # of the arrays: whole ones, after gathering, before scattering
  wire_bytes: float  # that a device sends, in rings


@dataclasses.dataclass(frozen=True)
class Counts:
  """What one device does in one run of the program."""

  products: float  # FLOPs
  bytes: float
  collectives: dict  # {kind: Collective}
  unknown_loops: int  # loops whose trips could not be told; counted once
  cycles: float = 0.0  # of its kernels, one after another; 0: not known
  kernels: tuple = ()  # of Pallas: (how often, what it says of itself)

  @property
  def wire_bytes(self) -> float:
    return sum(c.wire_bytes for c in self.collectives.values())


def count(text: str, num_devices: int = 1) -> Counts:
  """The `Counts` of a compiled program.

  Args:
    text: as XLA prints it, such as `jax.stages.Compiled.as_text()`.
    num_devices: that it runs on.
  """
  return _Counter(text, num_devices).run()


class _Counter:
  """Walks from the entry; a computation counts as often as it is run."""

  def __init__(self, text, num_devices):
    self._computations, self._entry = hlo_text.parse(text)
    self._devices = num_devices
    self._products = self._bytes = self._cycles = 0.0
    self._kernels = []
    self._found = {}  # collectives: {identity: (kind, times, bytes, group)}
    self._unknown = 0

  def run(self):
    self._visit(self._entry, 1, moves=True)
    kinds = {}
    for kind, times, size, group in self._found.values():
      old = kinds.get(kind, Collective(0, 0.0, 0.0))
      share = (group - 1) / group
      wire = {'all-reduce': 2 * share, 'collective-permute': 1.0}.get(
          kind, share)
      kinds[kind] = Collective(
          old.count + times, old.bytes + times * size,
          old.wire_bytes + times * size * wire)
    return Counts(self._products, self._bytes, kinds, self._unknown,
                  self._cycles, tuple(self._kernels))

  def _visit(self, name, times, moves):
    """`moves`: whether results go to memory, as they do not in fusions."""
    computation = self._computations[name]
    for line in computation.values():
      kind = line.opcode.removesuffix('-start')
      if line.opcode in ('dot', 'convolution') or _is_gemm(line):
        self._products += times * _product_flops(line, computation)
      elif line.opcode == 'custom-call':
        self._kernel(line, times)
      elif kind in COLLECTIVES:
        self._collective(name, line, kind, times, computation)
      if moves:
        self._bytes += times * hlo_traffic.moved(
            line, computation, self._computations)
        found = _CYCLES.search(line.rest)
        self._cycles += times * int(found.group(1)) if found else 0
      if line.opcode == 'while':
        trips = self._trips(line, computation)
        self._visit(line.calls('body'), times * trips, moves)
      elif line.opcode == 'conditional':
        for branch in _branches(line):
          self._visit(branch, times, moves)
      elif line.opcode in ('fusion', 'call', 'async-start'):
        called = line.calls('calls') or line.calls('to_apply')
        self._visit(called, times, moves and line.opcode != 'fusion')

  def _kernel(self, line, times):
    """One of Pallas, if it is one."""
    estimate, says = (found.search(line.rest) for found in (_ESTIMATE, _PALLAS))
    if estimate:
      self._products += times * int(estimate.group(1))
    if says:
      self._kernels.append((times, json.loads(json.loads(says.group(1)))))

  def _collective(self, where, line, kind, times, computation):
    size = sum(s.bytes for s in line.shapes)
    taken = sum(s.bytes for o in line.operands if o in computation
                for s in computation[o].shapes)
    if kind == 'reduce-scatter':
      size = taken
    elif line.opcode.endswith('-start') and kind != 'all-reduce':
      size -= taken  # the result of a start holds its operands too
    if where.startswith('all-reduce-scatter'):
      kind = 'reduce-scatter'
    # A collective that runs beside other work stands in several fusions.
    channel = re.search(r'channel_id=(\d+)', line.rest)
    identity = (kind, channel.group(1) if channel else (where, line.name))
    if identity not in self._found or self._found[identity][1] < times:
      self._found[identity] = (kind, times, size, self._group(line))

  def _group(self, line):
    """How many devices take part in one."""
    rest = line.rest
    found = re.search(r'replica_groups=\[(\d+),(\d+)\]', rest)
    if found:
      return int(found.group(2))
    found = re.search(r'replica_groups=\{\{([\d,]+)\}', rest)
    if found:
      return found.group(1).count(',') + 1
    found = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest)
    if found:
      sizes = dict(re.findall(r"'([^']+)'=(\d+)", found.group(1)))
      return math.prod(
          int(sizes[a]) for a in re.findall(r"'([^']+)'", found.group(2)))
    return self._devices

  def _trips(self, line, computation):
    """How often a loop runs its body."""
    known = re.search(r'known_trip_count[^\d]*(\d+)', line.rest)
    if known:
      return int(known.group(1))
    trips = self._counted_trips(line, computation)
    if trips is None:
      self._unknown += 1
      return 1
    return trips

  def _counted_trips(self, line, computation):
    """Of a loop that counts up from a constant to a constant, else None."""
    condition = self._computations[line.calls('condition')]
    compare = [i for i in self._flat(condition) if i.opcode == 'compare']
    if len(compare) != 1:
      return None
    limits = [int(i.literal) for i in self._flat(condition)
              if i.opcode == 'constant' and re.fullmatch(r'-?\d+', i.literal)]
    index = [i for i in condition.values() if i.opcode == 'get-tuple-element']
    direction = re.search(r'direction=(\w+)', compare[0].rest).group(1)
    if len(limits) != 1 or len(index) != 1 or direction not in ('LT', 'LE'):
      return None
    place = int(re.search(r'index=(\d+)', index[0].rest).group(1))
    start = self._constant(computation, line.operands[0], place)
    turns = limits[0] - (start or 0) + (direction == 'LE')
    body = self._computations[line.calls('body')]
    result = list(body.values())[-1].operands
    stride = self._added(body, result[place]) if place < len(result) else 0
    return -(-turns // (stride or 1))

  def _added(self, computation, name):
    """What constants an addition adds, 0 where there is none.

    A loop whose body was unrolled counts up by more than one, as those do that
    take a product apart to send its pieces around while others are computed.
    """
    line = computation.get(name)
    while line is not None and line.opcode in ('copy', 'bitcast'):
      line = computation.get(line.operands[0])
    if line is None or line.opcode not in ('add', 'constant'):
      return 0
    if line.opcode == 'constant':
      return int(line.literal) if re.fullmatch(r'\d+', line.literal) else 0
    return sum(self._added(computation, o) for o in line.operands)

  def _flat(self, computation):
    """The instructions, those of fusions in place of them."""
    for line in computation.values():
      if line.opcode == 'fusion':
        yield from self._flat(self._computations[line.calls('calls')])
      else:
        yield line

  def _constant(self, computation, name, place):
    """The value of an element of a tuple, if it is a constant."""
    line = computation.get(name)
    if line is None or line.opcode != 'tuple':
      return None
    line = computation.get(line.operands[place])
    while line is not None and line.opcode in ('copy', 'bitcast', 'convert'):
      line = computation.get(line.operands[0])
    if line is None or not re.fullmatch(r'-?\d+', line.literal):
      return None
    return int(line.literal) if line.opcode == 'constant' else None


def _is_gemm(line):
  return line.opcode == 'custom-call' and bool(re.search(
      r'custom_call_target="[^"]*(gemm|matmul)', line.rest))


def _product_flops(line, computation):
  """2 for each multiply-add of a product or convolution."""
  left, right = (computation[o].shapes[0].dims for o in line.operands[:2])
  out = math.prod(max((s.dims for s in line.shapes), key=math.prod))
  if line.opcode == 'convolution':
    return _convolution_flops(line, left, right)
  found = re.search(
      r'lhs_contracting_dim(?:ension)?s"?[=:]\s*[{\[]([\d,"\s]*)[}\]]',
      line.rest)
  contracted = [int(d) for d in re.findall(r'\d+', found.group(1))]
  return 2 * out * math.prod(left[d] for d in contracted)


def _convolution_flops(line, left, right):
  """Only positions where the kernel meets the input count, as XLA does it."""
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', line.rest).groups()
  out = line.shapes[0].dims
  window = {}
  found = re.search(r'window=\{([^}]*)\}', line.rest)
  if found:
    window = dict(part.split('=') for part in found.group(1).split())
  pairs = 1
  spatial = sorted(c for c in labels[1] if c.isdigit())
  for i, axis in enumerate(spatial):
    at = lambda key, default: window.get(key, 'x'.join(
        [default] * len(spatial))).split('x')[i]
    pairs *= _pairs(
        left[labels[0].index(axis)], right[labels[1].index(axis)],
        out[labels[2].index(axis)], int(at('stride', '1')),
        int(at('pad', '0_0').split('_')[0]), int(at('lhs_dilate', '1')),
        int(at('rhs_dilate', '1')))
  rows = out[labels[2].index('b')]
  inner = right[labels[1].index('i')] * right[labels[1].index('o')]
  return 2 * pairs * rows * inner


@functools.lru_cache(10_000)
def _pairs(size, kernel, out, stride, pad, spread, dilate):
  """(output, kernel) positions that fall on an element of the input."""
  last = (size - 1) * spread
  total = 0
  for k in range(kernel):
    for o in range(out):
      place = o * stride + k * dilate - pad
      total += 0 <= place <= last and place % spread == 0
  return total


def _branches(line):
  found = re.search(r'branch_computations=\{([^}]*)\}', line.rest)
  if found:
    return re.findall(r'%([\w.\-]+)', found.group(1))
  return [line.calls('true_computation'), line.calls('false_computation')]
