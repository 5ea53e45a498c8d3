"""Accelerators as preflight knows them, and topologies that are not there.

Peaks are the makers' figures for one chip: dense bfloat16 products, main memory
and its rate, and what the links between chips carry, all directions together.
Of a device that is not in the table they are measured, in float32.
"""

import dataclasses
import importlib.util
import math
import os
import re
import time

import jax
import jax.numpy as jnp

from musiclm_jax import errors

_GB, _GIB = 1e9, 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One accelerator."""

  name: str
  flops: float  # a second, bfloat16
  memory: float  # bytes
  memory_rate: float  # bytes a second
  link_rate: float  # bytes a second, to other chips
  clock: float = 0.0  # cycles a second of a TPU's matrix units


# cloud.google.com/tpu/docs (v4, v5e, v5p, v6e) and NVIDIA's data sheets. A clock
# is the peak over what the matrix units do in a cycle: 8 units of 128 x 128 in v4
# and v5p, 4 in v5e, 4 of 256 x 256 in v6e.
CHIPS = {
    'v4': Chip('TPU v4', 275e12, 32 * _GIB, 1228 * _GB, 300 * _GB,
               275e12 / (2 * 8 * 128**2)),
    'v5e': Chip('TPU v5e', 197e12, 16 * _GIB, 819 * _GB, 200 * _GB,
                197e12 / (2 * 4 * 128**2)),
    'v5p': Chip('TPU v5p', 459e12, 95 * _GIB, 2765 * _GB, 600 * _GB,
                459e12 / (2 * 8 * 128**2)),
    'v6e': Chip('TPU v6e', 918e12, 32 * _GIB, 1640 * _GB, 448 * _GB,
                918e12 / (2 * 4 * 256**2)),
    'a100': Chip('NVIDIA A100', 312e12, 80 * _GB, 2039 * _GB, 600 * _GB),
    'h100': Chip('NVIDIA H100', 989e12, 80 * _GB, 3350 * _GB, 900 * _GB),
    'h200': Chip('NVIDIA H200', 989e12, 141 * _GB, 4800 * _GB, 900 * _GB),
}
# How a slice is wired, and the chips of the largest one (the same pages).
TPUS = {'v4': ('4x4x8', 4_096), 'v5e': ('16x16', 256),
        'v5p': ('4x4x4', 6_144), 'v6e': ('16x16', 256)}
# A part of the memory belongs to the runtime; what XLA may use of it.
USABLE = 0.98  # ours


@dataclasses.dataclass(frozen=True)
class Topology:
  """Devices to compile for.

  Attributes:
    name: such as 'v5e:16x16'.
    chip: what each of them is.
    devices: to make a mesh of.
    described: whether they are not there, and can only be compiled for.
  """

  name: str
  chip: Chip
  devices: tuple
  described: bool = False


def topology(name: str) -> Topology:
  """The `Topology` called `name`; '' is this machine.

  Raises:
    UserError: no such topology, or nothing to compile for it with.
  """
  if not name:
    devices = tuple(jax.devices())
    return Topology(f'this machine ({devices[0].device_kind})',
                    _local_chip(devices[0]), devices)
  found = re.fullmatch(r'(\w+):(\d+(?:x\d+){1,2})', name)
  if not found or found.group(1) not in TPUS:
    raise errors.UserError(
        f"topology is {name!r}; expected one such as v5e:16x16, of "
        f"{', '.join(TPUS)}.")
  generation, sizes = found.group(1), found.group(2).split('x')
  example, most = TPUS[generation]
  if len(sizes) != example.count('x') + 1 or not (
      1 <= math.prod(map(int, sizes)) <= most):
    raise errors.UserError(
        f'topology is {name!r}; expected one such as {generation}:{example}, of '
        f'1 to {most:,} chips.')
  jax.config.update('jax_platforms', 'cpu')  # nothing runs, here or there
  # A program out of the cache is not printed (preflight reads what is).
  jax.config.update('jax_enable_compilation_cache', False)
  # Without these libtpu asks the cloud which machine it is on, and waits.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  # No TPU is taken, so two of these may be at work at a time.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  from jax.experimental import topologies  # pylint: disable=g-import-not-at-top
  options = {'chip_config_name': 'megacore'} if generation == 'v4' else {}
  try:
    described = topologies.get_topology_desc(
        platform='tpu', topology_name=name, **options)
  except Exception as error:  # pylint: disable=broad-exception-caught
    if importlib.util.find_spec('libtpu') is None:
      raise errors.UserError(
          'compiling for a TPU needs libtpu; install it with '
          "pip install 'musiclm_jax[tpu]'.") from error
    text = str(error).strip() or type(error).__name__
    raise errors.UserError(
        f'no topology {name} ({text.splitlines()[0][:150]}).') from error
  return Topology(name, CHIPS[generation], tuple(described.devices), True)


def _local_chip(device):
  kind = device.device_kind.lower()
  for name, chip in CHIPS.items():
    if re.search(rf'\b{name}\b', kind):
      return chip
  return _measured(device)


def _measured(device):
  """A chip that is not in the table, by what it does in a tenth of a second."""
  with jax.default_device(device):
    x, y = jnp.ones((1024, 1024)), jnp.ones((2**24,))
  product, copy = jax.jit(jnp.matmul), jax.jit(lambda y: y + 1)
  stats = device.memory_stats() or {}
  memory = stats.get('bytes_limit') or (
      os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))
  return Chip(device.device_kind, 2 * 1024**3 / _seconds(product, x, x),
              memory, 2 * y.nbytes / _seconds(copy, y), math.inf)


def _seconds(function, *arguments):
  """The fastest of a few calls."""
  times = []
  for _ in range(5):
    began = time.monotonic()
    jax.block_until_ready(function(*arguments))
    times.append(time.monotonic() - began)
  return min(times[1:])
