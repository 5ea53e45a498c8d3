"""Where arrays live: the (data, model) mesh and the shardings on it.

Parameters follow their logical axes through `nn.partitioning.RULES`; batches
are split over 'data' on their first axis. An axis that a mesh axis does not
divide is replicated, so the same model runs on any mesh.
"""

from flax.linen import partitioning as flax_partitioning
import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import partitioning

P = jax.sharding.PartitionSpec
AXES = ('data', 'model')


def make_mesh(shape=(-1, 1), devices=None):
  """A ('data', 'model') mesh.

  Args:
    shape: (data, model) sizes; data -1 takes all devices that model leaves.
    devices: the devices to use; all of them by default.
  """
  devices = jax.devices() if devices is None else devices
  data, model = shape
  if model < 1 or (data < 1 and data != -1):
    raise errors.UserError(
        f'mesh is {tuple(shape)}; expected (data, model), both at least 1, or '
        f'data -1 for all devices.')
  if data == -1:
    data = len(devices) // model
  if data * model > len(devices) or not data:
    raise errors.UserError(
        f'mesh {tuple(shape)} needs {max(1, data) * model} devices; there are '
        f'{len(devices)}.')
  grid = np.asarray(devices[:data * model]).reshape(data, model)
  return jax.sharding.Mesh(grid, AXES)


def state_shardings(mesh, state, logical_axes=None):
  """A NamedSharding for every array of `state`.

  Args:
    mesh: of `make_mesh`.
    state: tree of arrays or ShapeDtypeStructs.
    logical_axes: tree of the same structure, or a prefix of it: a tuple of axis
      names for an array, None for whatever is replicated. None: all of it is.
  """
  axes = _broadcast(logical_axes, state)
  return jax.tree.map(
      lambda x, leaf: jax.sharding.NamedSharding(
          mesh, partition_spec(mesh, x.shape, leaf.names)), state, axes)


def optimizer_axes(optimizer_state, params, params_axes):
  """Logical axes of an optax state: each copy of `params` lies as they do.

  Args:
    optimizer_state: what `optax.GradientTransformation.init(params)` returned.
    params: the parameters (arrays or shapes).
    params_axes: tree like `params`: tuples of axis names or None.
  """
  structure = jax.tree.structure(params)
  is_params = lambda x: jax.tree.structure(x) == structure
  return jax.tree.map(
      lambda x: params_axes if is_params(x) else None, optimizer_state,
      is_leaf=is_params)


def batch_shardings(mesh, batch, strict=True):
  """Shardings that split every array of `batch` over 'data'.

  Args:
    mesh: of `make_mesh`.
    batch: {name: [B, ...]}.
    strict: whether B must be a multiple of the data axis. If not, a batch that
      is none is replicated.
  """
  size = mesh.shape['data']
  uneven = [k for k, v in batch.items() if np.shape(v)[0] % size]
  if uneven and strict:
    raise errors.UserError(
        f'batch of {np.shape(batch[uneven[0]])[0]} does not divide over '
        f'{size} data-parallel devices; make BATCH_SIZE a multiple of {size}.')
  spec = P() if uneven else P('data')
  return {k: jax.sharding.NamedSharding(mesh, spec) for k in batch}


def put(batch, shardings):
  """Global host arrays -> device arrays; each process places its own part."""
  if jax.process_count() == 1:
    return jax.device_put(batch, shardings)
  return {
      k: jax.make_array_from_callback(v.shape, shardings[k], v.__getitem__)
      for k, v in batch.items()}


def partition_spec(mesh, shape, names):
  """Where the axes of one array go: by the rules, if the sizes divide."""
  if names is None:
    return P()
  if len(names) != len(shape):
    raise ValueError(f'logical axes {names} for an array of shape {shape}.')
  spec = flax_partitioning.logical_to_mesh_axes(names, partitioning.RULES)
  return P(*(
      axis if axis is not None and size % mesh.shape[axis] == 0 else None
      for axis, size in zip(spec, shape)))


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
