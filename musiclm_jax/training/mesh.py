"""Where arrays live: the (data, fsdp, model) mesh and the shardings on it.

  {'data': 256}              every device has the whole state
  {'fsdp': 256}              every device has 1/256 of it (FSDP)
  {'data': 16, 'fsdp': 16}   16 groups of 16
  {'data': 64, 'model': 4}   products split over 4 devices (tensor parallel)

Parameters follow their logical axes through `nn.partitioning.RULES`; batches
are split over 'data' and 'fsdp' on their first axis. An axis that a mesh axis
does not divide is replicated, so the same model runs on any mesh. Arrays of
models without logical axes are split over 'fsdp' on their longest axis.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

from flax.linen import partitioning as flax_partitioning
import jax
from jax.experimental import mesh_utils
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import partitioning
from musiclm_jax.training import shares

P = jax.sharding.PartitionSpec
AXES = partitioning.MESH_AXES
_BATCH_AXES = (partitioning.DATA, partitioning.FSDP)
_MIN_SPLIT = 2**16  # values; smaller unnamed arrays are not worth a collective


def make_mesh(shape: Mapping[str, int] | tuple[int, int] = (-1, 1),
              devices: Sequence[jax.Device] | None = None) -> jax.sharding.Mesh:
  """A ('data', 'fsdp', 'model') mesh.

  Args:
    shape: {axis: devices}, 1 for what is left out, or (data, model). One of
      them may be -1 and takes all devices that the others leave.
    devices: the devices to use; all of them by default.
  """
  devices = jax.devices() if devices is None else list(devices)
  sizes = mesh_sizes(shape, len(devices))
  hosts = {d.process_index for d in devices}
  left_out = hosts - {d.process_index for d in devices[:math.prod(sizes)]}
  if left_out:
    raise errors.UserError(
        f'mesh {shape} leaves out all devices of {len(left_out)} of '
        f'{len(hosts)} hosts; make it larger, or start fewer.')
  number, devices = len(devices), devices[:math.prod(sizes)]
  if devices[0].platform == 'tpu':  # neighbours in the mesh by the wiring
    places = np.array([d.coords for d in devices])
    if len(np.unique(places, axis=0)) < np.prod(np.ptp(places, axis=0) + 1):
      raise errors.UserError(
          f'mesh {shape} takes {len(devices)} of {number} chips, which are no '
          f'rectangle of them; take all {number}, or a smaller slice.')
    grid = mesh_utils.create_device_mesh(
        sizes, devices, allow_split_physical_axes=True)
  else:
    grid = np.asarray(devices).reshape(sizes)
  return jax.sharding.Mesh(grid, AXES)


def mesh_sizes(shape: Mapping[str, int] | tuple[int, int],
               num_devices: int) -> tuple[int, ...]:
  """(data, fsdp, model) sizes of a shape as `make_mesh` takes it."""
  if not isinstance(shape, dict):
    shape = dict(zip((partitioning.DATA, partitioning.MODEL), shape))
  for name in shape:
    if name not in AXES:
      raise errors.choice('mesh axis', name, AXES)
  sizes = [shape.get(name, 1) for name in AXES]
  free = [i for i, size in enumerate(sizes) if size == -1]
  if len(free) > 1 or any(s < 1 and s != -1 for s in sizes):
    raise errors.UserError(
        f'mesh is {shape}; expected sizes of at least 1, or -1 for one of '
        f'them, which takes the devices that the others leave.')
  taken = math.prod(s for s in sizes if s != -1)
  if free:
    sizes[free[0]] = num_devices // taken
  if math.prod(sizes) > num_devices or not all(sizes):
    raise errors.UserError(
        f'mesh {shape} needs {taken} devices or a multiple; there are '
        f'{num_devices}.' if free else
        f'mesh {shape} needs {taken} devices; there are {num_devices}.')
  return tuple(sizes)


def state_shardings(mesh: jax.sharding.Mesh, state: Any,
                    logical_axes: Any = None,
                    rules: Sequence[tuple] = partitioning.RULES) -> Any:
  """A NamedSharding for every array of `state`.

  Args:
    mesh: of `make_mesh`.
    state: tree of arrays or ShapeDtypeStructs.
    logical_axes: tree of the same structure, or a prefix of it: a tuple of axis
      names for an array, None for arrays without names. None: none has any.
    rules: (logical axis, mesh axis) pairs.
  """
  axes = _broadcast(logical_axes, state)
  return jax.tree.map(
      lambda x, leaf: jax.sharding.NamedSharding(
          mesh, partition_spec(mesh, x.shape, leaf.names, rules)), state, axes)


def optimizer_axes(optimizer_state: Any, params: Any, params_axes: Any) -> Any:
  """Logical axes of an optax state: each copy of `params` lies as they do.

  Args:
    optimizer_state: what `optax.GradientTransformation.init(params)` returned.
    params: the parameters (arrays or shapes).
    params_axes: tree like `params`: tuples of axis names or None.
  """
  structure = jax.tree.structure(params)
  shapes = jax.tree.map(np.shape, params)
  is_params = lambda x: jax.tree.structure(x) == structure
  # Adafactor's moments have the structure of the parameters, not their shapes.
  is_copy = lambda x: is_params(x) and jax.tree.map(np.shape, x) == shapes
  return jax.tree.map(
      lambda x: params_axes if is_copy(x) else None, optimizer_state,
      is_leaf=is_params)


def batch_shardings(
    mesh: jax.sharding.Mesh, batch: Mapping[str, Any], strict: bool = True
) -> dict[str, jax.sharding.NamedSharding]:
  """Shardings that split every array of `batch` over 'data' and 'fsdp'.

  Args:
    mesh: of `make_mesh`.
    batch: {name: [B, ...]}.
    strict: whether B must be a multiple of the two. If not, a batch that is
      none is replicated.
  """
  size = math.prod(mesh.shape[axis] for axis in _BATCH_AXES)
  uneven = [k for k, v in batch.items() if np.shape(v)[0] % size]
  if uneven and strict:
    raise errors.UserError(
        f'batch of {np.shape(batch[uneven[0]])[0]} does not divide over '
        f'{size} data-parallel devices; make BATCH_SIZE a multiple of {size}.')
  spec = P() if uneven else P(_BATCH_AXES)
  return {k: jax.sharding.NamedSharding(mesh, spec) for k in batch}


def own_share(mesh: jax.sharding.Mesh,
              process: int | None = None) -> shares.Share:
  """Which rows of a batch the devices of a process hold.

  Devices along 'model' hold the same rows, so where that axis spans several
  processes, each of them makes these rows.

  Args:
    mesh: of `make_mesh`.
    process: its number; this one's by default.
  """
  process = jax.process_index() if process is None else process
  # The order of blocks is that of `batch_shardings`: 'data', then 'fsdp'.
  blocks = mesh.devices.reshape(-1, mesh.devices.shape[-1])
  own = tuple(number for number, devices in enumerate(blocks)
              if any(d.process_index == process for d in devices))
  return shares.WHOLE if len(own) == len(blocks) else shares.Share(
      own, len(blocks))


def put(batch: Mapping[str, np.ndarray],
        shardings: Mapping[str, jax.sharding.NamedSharding],
        share: shares.Share = shares.WHOLE) -> dict[str, jax.Array]:
  """Host arrays -> global device arrays; each process places its own part.

  Args:
    batch: {name: [rows, ...]}, the rows of `share`.
    shardings: of `batch_shardings`.
    share: what this process made of the batch: all of it, or `own_share`.
  """
  if jax.process_count() == 1:
    return jax.device_put(batch, shardings)

  def placed(array, sharding):
    size = share.whole_size(len(array))
    return jax.make_array_from_callback(
        (size, *array.shape[1:]), sharding, lambda index: array[
            (share.within(index[0], size), *index[1:])])

  return {k: placed(v, shardings[k]) for k, v in batch.items()}


def partition_spec(
    mesh: jax.sharding.Mesh, shape: Sequence[int],
    names: Sequence[str | None] | None,
    rules: Sequence[tuple] = partitioning.RULES) -> jax.sharding.PartitionSpec:
  """Where the axes of one array go: by the rules, if the sizes divide."""
  if names is None:
    return _unnamed_spec(mesh, shape)
  if len(names) != len(shape):
    raise ValueError(f'logical axes {names} for an array of shape {shape}.')
  spec = flax_partitioning.logical_to_mesh_axes(names, rules)
  count = lambda axis: math.prod(
      mesh.shape[a] for a in ((axis,) if isinstance(axis, str) else axis))
  return P(*(
      axis if axis is not None and size % count(axis) == 0 else None
      for axis, size in zip(spec, shape)))


def _unnamed_spec(mesh, shape):
  """The longest axis that divides over 'fsdp'; replicated if there is none."""
  parts = mesh.shape[partitioning.FSDP]
  even = [i for i, size in enumerate(shape) if size % parts == 0]
  if parts == 1 or not even or math.prod(shape) < _MIN_SPLIT:
    return P()
  longest = max(even, key=lambda i: shape[i])
  return P(*(partitioning.FSDP if i == longest else None
             for i in range(len(shape))))


def _is_axes(x):
  plain = type(x) in (tuple, P)
  return x is None or (
      plain and all(n is None or isinstance(n, str) for n in x))


def _broadcast(prefix, tree):
  """`prefix` with each axes leaf repeated over the subtree it stands for."""
  leaves = []
  jax.tree.map(
      lambda names, part: leaves.extend(
          [names] * len(jax.tree.leaves(part))),
      prefix, tree, is_leaf=_is_axes)
  # Axes are tuples, which are trees themselves; wrapped they stay leaves.
  return jax.tree.unflatten(
      jax.tree.structure(tree), [_Axes(names) for names in leaves])


class _Axes:
  """Axis names as one leaf of a tree."""

  def __init__(self, names):
    self.names = names
