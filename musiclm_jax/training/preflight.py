"""What one chip holds and does in one step of a run that has not begun.

The very program that the loop would run (training/step.py) is compiled for
devices that need not be there, and read: its memory from the compiler, its
FLOPs, bytes and collectives from its text (training/hlo.py), every loop as often
as it runs. Times are a roofline: no step is faster. For TPUs there is as well
what the compiler expects of its kernels, which is closer to what will be.
"""

import dataclasses
import math
import pathlib
import re
import tempfile

import jax

from musiclm_jax import errors
from musiclm_jax.nn import partitioning
from musiclm_jax.training import hlo
from musiclm_jax.training import machines
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is compiled.

  Attributes:
    trainable: a `trainable.Trainable`.
    source: has `batch_shapes()`.
    topology: a `machines.Topology`.
    mesh: {axis: devices}, of all axes.
    rules: axis rules before those of nn/partitioning.
    generator: of random numbers, see `step.build`.
  """

  trainable: object
  source: object
  topology: machines.Topology
  mesh: dict
  rules: tuple = ()
  generator: str = step_lib.THREEFRY


@dataclasses.dataclass(frozen=True)
class Report:
  """One step on one chip, in bytes, FLOPs and seconds."""

  setup: Setup
  rows: int  # of a batch, on all chips
  parameters: int
  optimizer: int
  batch: int
  working: int  # activations, gradients, and what the compiler puts aside
  peak: int
  counts: hlo.Counts | None  # None where it does not fit at all
  needs: dict  # of a step on all chips: 'flops' of the model, 'tokens'

  @property
  def chip(self):
    return self.setup.topology.chip

  @property
  def chips(self):
    return math.prod(self.setup.mesh.values())

  @property
  def usable(self):
    """Bytes of memory."""
    return self.chip.memory * machines.USABLE

  @property
  def fits(self):
    return self.counts is not None and self.peak <= self.usable

  def seconds(self):
    """Each part of a step alone, at the chip's peak."""
    return dict(compute=self.counts.products / self.chip.flops,
                memory=self.counts.bytes / self.chip.memory_rate,
                network=self.counts.wire_bytes / self.chip.link_rate)

  def step_seconds(self):
    """The roofline: the three perfectly beside each other."""
    return max(self.seconds().values())

  def expected_seconds(self):
    """What the compiler expects its kernels to take, one after another.

    Without waiting for memory or network. None where it does not say.
    """
    if not self.counts.cycles or not self.chip.clock:
      return None
    return self.counts.cycles / self.chip.clock

  def mfu(self, seconds):
    """Share of the peak that the model's own FLOPs reach in `seconds`.

    What is computed twice to save memory, or on several chips, does not count.
    """
    return self.needs['flops'] / self.chips / (seconds * self.chip.flops)

  def figures(self):
    """Flat {name: value} for JSON."""
    values = dict(
        topology=self.setup.topology.name, chips=self.chips, batch=self.rows,
        fits=self.fits, parameter_bytes=self.parameters,
        optimizer_bytes=self.optimizer, batch_bytes=self.batch,
        working_bytes=self.working, peak_bytes=self.peak)
    values.update({f'mesh_{k}': v for k, v in self.setup.mesh.items()})
    if self.counts is None:
      return values
    values.update(flops=self.counts.products, traffic_bytes=self.counts.bytes,
                  wire_bytes=self.counts.wire_bytes)
    for kind, found in self.counts.collectives.items():
      name = kind.replace('-', '_')
      values[f'{name}_count'] = found.count
      values[f'{name}_bytes'] = found.bytes
    values['step_seconds'] = self.step_seconds()
    values.update({f'{k}_seconds': v for k, v in self.seconds().items()})
    expected = self.expected_seconds()
    if expected:
      values['expected_seconds'] = expected
    if self.needs:
      values.update(
          tokens_per_s=self.needs['tokens'] / self.step_seconds(),
          mfu_ceiling=self.mfu(self.step_seconds()))
      if expected:
        values['mfu_expected'] = self.mfu(expected)
    return values


def measure(setup):
  """Compiles the step of `setup`; returns its `Report`.

  Raises:
    UserError: the source does not say what a batch looks like, or the batch
      does not divide over the mesh.
  """
  if not hasattr(setup.source, 'batch_shapes'):
    raise errors.UserError(
        f'{type(setup.source).__name__} does not say what a batch looks like '
        f'(batch_shapes); preflight has no data to look at.')
  batch = setup.source.batch_shapes()
  mesh = mesh_lib.make_mesh(setup.mesh, setup.topology.devices)
  rules = partitioning.with_rules(setup.rules)
  with step_lib.context(mesh, rules):
    program = step_lib.build(
        setup.trainable, batch, mesh, rules, 0, setup.generator)
    held = _held(program.state) + _held(program.batch)
    compiled, text, over = _compile(program, setup.topology, held)
  needs = getattr(setup.trainable, 'needs', lambda batch: {})
  state = _held(program.state)
  parameters = _held(getattr(program.state, 'params', ()))
  part = dict(
      setup=setup, rows=jax.tree.leaves(batch)[0].shape[0],
      parameters=parameters, optimizer=state - parameters,
      batch=_held(program.batch), needs=needs(batch))
  if compiled is None:
    return Report(working=max(0, over - state - part['batch']), peak=over,
                  counts=None, **part)
  memory = compiled.memory_analysis()
  working = memory.temp_size_in_bytes
  return Report(
      working=working, counts=hlo.count(text, mesh.size),
      peak=(memory.argument_size_in_bytes + memory.output_size_in_bytes -
            memory.alias_size_in_bytes + working +
            memory.generated_code_size_in_bytes), **part)


def _compile(program, topology, held):
  """(the compiled update, its text, 0), or (None, '', bytes it would need).

  `held`: bytes of state and batch.
  """
  lowered = program.update.lower(program.state, program.batch)
  with tempfile.TemporaryDirectory() as folder:
    options = {'xla_dump_to': folder} if topology.described else None
    try:
      compiled = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
      over = needed(str(error), held)
      if over is None:
        raise
      return None, '', over
    # A TPU's compiler prints what jaxlib's own reader of its programs may not
    # know: the SparseCores of v5p and v6e run parts of them.
    printed = sorted(pathlib.Path(folder).glob('*.after_codegen.txt'))
    text = printed[0].read_text() if printed else compiled.as_text()
  return compiled, text, 0


def needed(error, held):
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


def smaller(setup, share=1.0):
  """Setups that need less memory, those that cost least first.

  Args:
    setup: what does not fit.
    share: of its activations that there is room for; micro-batches that are
      well above it are not tried.

  Yields:
    (what is different, Setup).
  """
  trainable, mesh = setup.trainable, setup.mesh
  rows = mesh['data'] * mesh['fsdp']
  batch = jax.tree.leaves(setup.source.batch_shapes())[0].shape[0]
  if hasattr(trainable, 'microbatch'):
    first = trainable.microbatch or batch
    size = first // 2
    while size > rows and size > 1.5 * share * first:  # ours
      size //= 2
    while size >= rows and size % rows == 0 and batch % size == 0:
      yield f'microbatch {size}', dataclasses.replace(
          setup, trainable=dataclasses.replace(trainable, microbatch=size))
      size //= 2
  config = getattr(getattr(trainable, 'model', None), 'config', None)
  if getattr(config, 'remat', 'full') != 'full':
    model = dataclasses.replace(
        trainable.model, config=dataclasses.replace(config, remat='full'))
    yield "remat 'full'", dataclasses.replace(
        setup, trainable=dataclasses.replace(trainable, model=model))
  shares = [n for n in (4, 16, 64, 256) if mesh['data'] % n == 0]
  for share in shares:
    other = dict(mesh, data=mesh['data'] // share, fsdp=mesh['fsdp'] * share)
    yield f'mesh {show_mesh(other)}', dataclasses.replace(setup, mesh=other)


def show_mesh(mesh):
  """{'data': 64, 'fsdp': 1, 'model': 4} -> 'data=64,model=4'."""
  return ','.join(f'{k}={v}' for k, v in mesh.items() if v > 1) or 'data=1'


def _held(tree):
  """Bytes of the tree on one device."""
  return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
             for x in jax.tree.leaves(tree))
