"""A compiled program as XLA prints it: computations of instructions.

  parse(text) -> ({computation: {name: Instruction}}, name of the entry)
"""

import dataclasses
import math
import re

_SHAPE = re.compile(r'([a-z]+[0-9]*[a-z0-9]*)\[([0-9,<=]*)\](\{[^{}]*\})?')
_NAME = re.compile(r'%([\w.\-]+)')
# {minor to major:T(tile)...}
_LAYOUT = re.compile(r'\{([\d,]*)(?::T\(([\d,]+)\))?')
# What a kernel of Pallas says of itself stands on a line of its own.
_BROKEN = re.compile(r'kernel_metadata=\{\n(.*)\n\}')
_BITS = {'pred': 8, 'token': 0, 'opaque': 0}


@dataclasses.dataclass(frozen=True)
class Shape:
  """One array: of a tuple there are several."""

  kind: str
  dims: tuple
  layout: str

  @property
  def bytes(self):
    return math.prod(self.dims) * self._bits // 8

  @property
  def tiled_bytes(self):
    """Bytes where it lies: a TPU fills the tiles of both minor dimensions."""
    order, tile = _LAYOUT.match(self.layout or '{').groups()
    if not order or not tile:
      return self.bytes
    sizes = [self.dims[int(axis)] for axis in order.split(',')]  # minor first
    tile = [int(size) for size in reversed(tile.split(','))]
    for place, size in enumerate(tile[:len(sizes)]):
      sizes[place] = -(-sizes[place] // size) * size
    return math.prod(sizes) * self._bits // 8

  @property
  def main_bytes(self):
    """Bytes in the main memory: none if it lies in a faster one."""
    return 0 if re.search(r'S\([1-9]\d*\)', self.layout) else self.tiled_bytes

  @property
  def _bits(self):
    bits = _BITS.get(self.kind)
    return int(re.search(r'\d+', self.kind).group()) if bits is None else bits


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


def parse(text):
  """({computation: {name: Instruction}}, name of the entry)."""
  computations, current, entry = {}, None, None
  for row in _BROKEN.sub(r'kernel_metadata={\1}', text).splitlines():
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
