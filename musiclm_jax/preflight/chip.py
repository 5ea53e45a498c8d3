"""What one chip holds and does in one step of a run that has not begun.

The very program that the loop would run (training/step.py) is compiled for
devices that need not be there, and read (preflight/plan.py): its memory, its
FLOPs, bytes and collectives from its text (preflight/hlo.py), every loop as often
as it runs. Times are a roofline: no step is faster. For TPUs there is as well
what the compiler expects of its kernels, which is closer to what will be.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax

from musiclm_jax.nn import partitioning
from musiclm_jax.preflight import hlo
from musiclm_jax.preflight import machines
from musiclm_jax.preflight import plan as plan_lib
from musiclm_jax.preflight import schedule
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib
from musiclm_jax.training import trainable as trainable_lib


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is compiled.

  Attributes:
    trainable: what is trained.
    source: of its batches; only their shapes are asked for.
    topology: a `machines.Topology`.
    mesh: {axis: devices}, of all axes.
    rules: axis rules before those of nn/partitioning.
    generator: of random numbers, see `step.build`.
  """

  trainable: trainable_lib.Trainable
  source: trainable_lib.BatchSource
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
  def chip(self) -> machines.Chip:
    return self.setup.topology.chip

  @property
  def chips(self) -> int:
    return math.prod(self.setup.mesh.values())

  @property
  def usable(self) -> float:
    """Bytes of memory."""
    return self.chip.memory * machines.USABLE

  @property
  def fits(self) -> bool:
    return self.counts is not None and self.peak <= self.usable

  def seconds(self) -> dict[str, float]:
    """Each part of a step alone, at the chip's peak."""
    return dict(compute=self.counts.products / self.chip.flops,
                memory=self.counts.bytes / self.chip.memory_rate,
                network=self.counts.wire_bytes / self.chip.link_rate)

  def step_seconds(self) -> float:
    """The roofline: the three perfectly beside each other."""
    return max(self.seconds().values())

  def expected_seconds(self) -> float | None:
    """What the compiler expects its kernels to take, one after another.

    Without waiting for memory or network. None where it does not say.
    """
    if not self.counts.cycles or not self.chip.clock:
      return None
    generation = self.setup.topology.name.partition(':')[0]
    kernels = sum(times * schedule.cycles(generation, says)
                  for times, says in self.counts.kernels)
    return (self.counts.cycles + kernels) / self.chip.clock

  def mfu(self, seconds: float) -> float:
    """Share of the peak that the model's own FLOPs reach in `seconds`.

    What is computed twice to save memory, or on several chips, does not count.
    """
    return self.needs['flops'] / self.chips / (seconds * self.chip.flops)

  def figures(self) -> dict[str, Any]:
    """Flat {name: value} for JSON."""
    values = dict(
        topology=self.setup.topology.name, chips=self.chips, batch=self.rows,
        fits=self.fits, parameter_bytes=self.parameters,
        optimizer_bytes=self.optimizer, batch_bytes=self.batch,
        working_bytes=self.working, peak_bytes=self.peak,
        usable_bytes=self.usable)
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


def measure(setup: Setup, kernels: bool = True) -> Report:
  """Compiles the step of `setup`; returns its `Report`.

  Args:
    setup: a `Setup`.
    kernels: False: for TPUs, without what is expected of them, and so in a part
      of the time (`plan.make`).

  Raises:
    UserError: the source does not say what a batch looks like, or the batch
      does not divide over the mesh.
  """
  batch = setup.source.batch_shapes()
  mesh = mesh_lib.make_mesh(setup.mesh, setup.topology.devices)
  rules = partitioning.with_rules(setup.rules)
  with step_lib.context(mesh, rules):
    program = step_lib.build(
        setup.trainable, batch, mesh, rules, 0, setup.generator)
    plan = plan_lib.make(program, setup.topology.described, kernels)
  counts = hlo.count(plan.text, mesh.size) if plan.text else None
  if counts and not kernels:
    counts = dataclasses.replace(counts, cycles=0.0)  # of a few, if any
  state = plan_lib.held_by(program.state)
  parameters = plan_lib.held_by(getattr(program.state, 'params', ()))
  return Report(
      setup=setup, rows=jax.tree.leaves(batch)[0].shape[0],
      parameters=parameters, optimizer=state - parameters,
      batch=plan_lib.held_by(program.batch), working=plan.working,
      peak=plan.peak, counts=counts, needs=setup.trainable.needs(batch))


def smaller(setup: Setup, share: float = 1.0) -> Iterator[tuple[str, Setup]]:
  """Setups that need less memory, those that cost least first.

  Args:
    setup: what does not fit.
    share: of its activations that there is room for; micro-batches that are
      well above it are not tried.

  Yields:
    (the option that says what is different, Setup).
  """
  trainable, mesh = setup.trainable, setup.mesh
  rows = mesh['data'] * mesh['fsdp']
  batch = jax.tree.leaves(setup.source.batch_shapes())[0].shape[0]
  if trainable.microbatch is not None:
    first = trainable.microbatch or batch
    sizes = [size for size in range(first - 1, rows - 1, -1)
             if size % rows == 0 and batch % size == 0]
    near = [size for size in sizes if size <= 1.5 * share * first]  # ours
    for size in near or sizes[-1:]:
      yield f'--gin.MICROBATCH={size}', dataclasses.replace(
          setup, trainable=dataclasses.replace(trainable, microbatch=size))
  config = getattr(getattr(trainable, 'model', None), 'config', None)
  if getattr(config, 'remat', 'full') != 'full':
    model = dataclasses.replace(
        trainable.model, config=dataclasses.replace(config, remat='full'))
    name = type(config).__name__
    yield f'--gin.{name}.remat="\'full\'"', dataclasses.replace(
        setup, trainable=dataclasses.replace(trainable, model=model))
  shares = [n for n in (4, 16, 64, 256) if mesh['data'] % n == 0]
  for share in shares:
    other = dict(mesh, data=mesh['data'] // share, fsdp=mesh['fsdp'] * share)
    shown = {axis: size for axis, size in other.items() if size > 1}
    yield f'--gin.MESH="{shown}"', dataclasses.replace(setup, mesh=other)


def show_mesh(mesh: Mapping[str, int]) -> str:
  """{'data': 64, 'fsdp': 1, 'model': 4} -> 'data=64,model=4'."""
  return ','.join(f'{k}={v}' for k, v in mesh.items() if v > 1) or 'data=1'
