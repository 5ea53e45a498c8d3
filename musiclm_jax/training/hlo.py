"""What a compiled program does, counted from its text.

XLA's own cost analysis counts the body of a loop once; a decoder under
`lax.scan` is one body run 24 times. Here every computation counts as often as it
runs:

  products      FLOPs of matrix products and convolutions (2 per multiply-add;
                all else is small beside them)
  bytes         read from and written to the main memory, at the borders of
                fusions; a slice counts as what it takes
  collectives   of each kind: how many, and what they move

all of it for one device, since the text is that of the partitioned program.
"""

import dataclasses
import functools
import math
import re

_SHAPE = re.compile(r'([a-z]+[0-9]*[a-z0-9]*)\[([0-9,<=]*)\](\{[^{}]*\})?')
_NAME = re.compile(r'%([\w.\-]+)')
_BITS = {'pred': 8, 'token': 0, 'opaque': 0}
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
               'collective-permute')
# Nothing moves for these, or what they call moves it.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast',
         'while', 'conditional', 'call', 'after-all', 'partition-id',
         'replica-id', 'copy-done', 'iota', 'opt-barrier',
         'optimization-barrier'}


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array: of a tuple there are several."""

  kind: str
  dims: tuple
  layout: str

  @property
  def bytes(self):
    bits = _BITS.get(self.kind)
    if bits is None:
      bits = int(re.search(r'\d+', self.kind).group())
    return math.prod(self.dims) * bits // 8

  @property
  def main_bytes(self):
    """Bytes in the main memory: none if it lies in a faster one."""
    return 0 if re.search(r'S\([1-9]\d*\)', self.layout) else self.bytes


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  opcode: str
  shapes: tuple  # of the result
  operands: tuple  # names
  rest: str  # attributes
  literal: str  # what stands between the parentheses

  def calls(self, attribute):
    found = re.search(rf'{attribute}=%?([\w.\-]+)', self.rest)
    return found.group(1) if found else None


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

  @property
  def wire_bytes(self):
    return sum(c.wire_bytes for c in self.collectives.values())


def count(text, num_devices=1):
  """The `Counts` of a compiled program.

  Args:
    text: `jax.stages.Compiled.as_text()`.
    num_devices: that it runs on.
  """
  return _Counter(text, num_devices).run()


class _Counter:
  """Walks from the entry; a computation counts as often as it is run."""

  def __init__(self, text, num_devices):
    self._computations, self._entry = _parse(text)
    self._devices = num_devices
    self._products = self._bytes = 0.0
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
    return Counts(self._products, self._bytes, kinds, self._unknown)

  def _visit(self, name, times, moves):
    """`moves`: whether results go to memory, as they do not in fusions."""
    computation = self._computations[name]
    for line in computation.values():
      kind = line.opcode.removesuffix('-start')
      if line.opcode in ('dot', 'convolution') or _is_gemm(line):
        self._products += times * _product_flops(line, computation)
      elif kind in COLLECTIVES:
        self._collective(name, line, kind, times, computation)
      if moves and not (line.opcode in _FREE or line.opcode.endswith('-done')):
        self._bytes += times * self._moved(line, computation)
      if line.opcode == 'while':
        trips = self._trips(line, computation)
        self._visit(line.calls('body'), times * trips, moves)
      elif line.opcode == 'conditional':
        for branch in _branches(line):
          self._visit(branch, times, moves)
      elif line.opcode in ('fusion', 'call', 'async-start'):
        called = line.calls('calls') or line.calls('to_apply')
        self._visit(called, times, moves and line.opcode == 'call')

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

  def _moved(self, line, computation):
    """Bytes of the main memory that one top-level instruction touches."""
    result = sum(s.main_bytes for s in line.shapes)
    if line.opcode == 'copy-start':
      return result  # its result names both sides
    sizes = [sum(s.main_bytes for s in computation[o].shapes)
             for o in line.operands if o in computation]
    if line.opcode == 'dynamic-slice':
      return 2 * result
    if line.opcode == 'dynamic-update-slice':
      return 2 * sizes[1]
    if line.opcode == 'fusion':
      inside = self._computations[line.calls('calls')]
      return self._moved_by_fusion(line, inside, sizes, result)
    return result + sum(sizes)

  def _moved_by_fusion(self, line, inside, sizes, result):
    """A fusion that slices its operand or updates a slice moves the slice."""
    parameters = [i for i in inside.values() if i.opcode == 'parameter']
    for parameter in parameters:
      index = int(parameter.literal)
      if index < len(sizes) and sizes[index]:
        taken = _taken(parameter.name, inside)
        if taken is not None:
          sizes[index] = min(sizes[index], taken)
    for written in inside.values():
      if written.opcode == 'dynamic-update-slice':
        whole = sum(s.main_bytes for s in line.shapes
                    if s.dims == written.shapes[0].dims)
        if whole:
          update = inside[written.operands[1]].shapes[0].bytes
          result += update - written.shapes[0].bytes
    return max(result, 0) + sum(sizes)

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
    return limits[0] - (start or 0) + (direction == 'LE')

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


def _taken(name, inside):
  """Bytes that a fusion takes of an operand; None: all of it."""
  users = [i for i in inside.values() if name in i.operands]
  total = 0
  for user in users:
    if user.opcode == 'dynamic-slice' and user.operands[0] == name:
      total += sum(s.bytes for s in user.shapes)
    elif user.opcode == 'dynamic-update-slice' and user.operands[0] == name:
      total += 0  # what is replaced is not read
    elif user.opcode == 'bitcast':
      part = _taken(user.name, inside)
      if part is None:
        return None
      total += part
    else:
      return None
  return total


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
    return _NAME.findall(found.group(1))
  return [line.calls('true_computation'), line.calls('false_computation')]


def _parse(text):
  """({computation: {name: Instruction}}, name of the entry)."""
  computations, current, entry = {}, None, None
  for row in text.splitlines():
    if row and not row[0].isspace():
      found = re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\{$', row)
      if found:
        current = computations[found.group(2)] = {}
        entry = found.group(2) if found.group(1) else entry
    elif current is not None and ' = ' in row:
      line = _instruction(row.strip())
      current[line.name] = line
  return computations, entry


def _instruction(row):
  name, _, rest = row.removeprefix('ROOT ').partition(' = ')
  end = _closing(rest) if rest[0] == '(' else rest.index(' ')
  shapes, rest = rest[:end], rest[end:].lstrip()
  opcode, _, rest = rest.partition('(')
  end = _closing('(' + rest) - 2
  literal, rest = rest[:end], rest[end + 1:]
  return Instruction(
      name.lstrip('%'), opcode, tuple(
          Shape(kind, tuple(int(re.sub(r'\D', '', d)) for d in dims.split(',')
                            if d), layout or '')
          for kind, dims, layout in _SHAPE.findall(shapes)),
      tuple(_NAME.findall(literal)), rest, literal)


def _closing(text):
  """The place after the parenthesis that closes the first."""
  depth = 0
  for place, char in enumerate(text):
    depth += (char == '(') - (char == ')')
    if depth == 0:
      return place + 1
  raise ValueError(f'no closing parenthesis in {text[:80]!r}.')
