"""What one instruction reads from and writes to the main memory.

Every operand and result once, at the borders of fusions, with these exceptions:
a slice counts as what it takes, also where it is taken deep within a fusion; an
update in place as what it replaces; and arrays in a faster memory, which a TPU's
compiler marks S(1), not at all. An array counts with its padding: 64 columns lie
in tiles of 128.
"""

# Nothing moves for these, or what they call moves it.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast',
         'while', 'conditional', 'call', 'after-all', 'partition-id',
         'replica-id', 'iota', 'opt-barrier', 'optimization-barrier',
         'async-start', 'async-update'}
_SLICES = ('slice', 'dynamic-slice', 'gather')


def moved(line, computation, computations):
  """Bytes of the main memory that an instruction touches.

  Args:
    line: an `hlo_text.Instruction` that is in no fusion.
    computation: {name: Instruction}, where it stands.
    computations: {name: computation}, all of the program.
  """
  if line.opcode in _FREE or line.opcode.endswith('-done'):
    return 0
  result = sum(s.main_bytes for s in line.shapes)
  if line.opcode == 'copy-start':
    return result  # its result names both sides
  given = [computation[o] for o in line.operands if o in computation]
  sizes = [sum(s.main_bytes for s in i.shapes) for i in given]
  if line.opcode == 'slice-start':
    taken = line.shapes[1]  # after the operand
    return taken.main_bytes + (taken.tiled_bytes if sizes[0] else 0)
  if line.opcode in _SLICES:
    taken = sum(s.tiled_bytes for s in line.shapes)
    return result + min(taken, sizes[0]) + sum(sizes[1:])
  if line.opcode == 'dynamic-update-slice':
    return 2 * sizes[1]
  if line.opcode == 'fusion':
    inside = computations[line.calls('calls')]
    return sum(_read(inside, sizes, computations)) + _written(
        line, inside, computations)
  return result + sum(sizes)


def _read(inside, sizes, computations):
  """Bytes of each operand of a fusion, those in a faster memory being 0."""
  sizes = list(sizes)
  for name, index in _parameters(inside):
    if index < len(sizes) and sizes[index]:
      taken = _taken(name, inside, computations)
      if taken is not None:
        sizes[index] = min(sizes[index], taken)
  return sizes


def _written(line, inside, computations):
  """Bytes of the results of a fusion; of one updated in place, the update."""
  written = sum(s.main_bytes for s in line.shapes)
  for update, whole in _updates(inside, computations):
    if any(s.main_bytes and s.dims == whole.dims for s in line.shapes):
      written -= whole.tiled_bytes - update.tiled_bytes
  return max(written, 0)


def _taken(name, inside, computations):
  """Bytes that a fusion takes of an operand; None: all of it."""
  total = 0
  for user in inside.values():
    if name not in user.operands:
      continue
    first = user.operands[0] == name
    if user.opcode in _SLICES and first:
      parts = [sum(s.tiled_bytes for s in user.shapes)]
    elif user.opcode == 'dynamic-update-slice' and first:
      parts = []  # what is replaced is not read
    elif user.opcode == 'bitcast':
      parts = [_taken(user.name, inside, computations)]
    elif user.opcode == 'fusion':
      deeper = computations[user.calls('calls')]
      parts = [_taken(inner, deeper, computations)
               for inner, index in _parameters(deeper)
               if user.operands[index] == name]
    else:
      return None
    if None in parts:
      return None
    total += sum(parts)
  return total


def _updates(inside, computations):
  """(shape of the update, of the whole) of each update of an operand."""
  for line in inside.values():
    if line.opcode == 'fusion':
      yield from _updates(computations[line.calls('calls')], computations)
    elif line.opcode == 'dynamic-update-slice':
      source = inside[line.operands[0]]
      while source.opcode == 'bitcast':
        source = inside[source.operands[0]]
      if source.opcode == 'parameter':
        yield inside[line.operands[1]].shapes[0], line.shapes[0]


def _parameters(inside):
  """(name, number) of the operands of a fusion."""
  return [(i.name, int(i.literal)) for i in inside.values()
          if i.opcode == 'parameter']
