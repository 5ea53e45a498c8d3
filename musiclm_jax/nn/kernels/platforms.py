"""What a program that is traced now is for: its mesh and its platform."""

from collections.abc import Sequence
import math

from flax.linen import spmd
import jax
from jax._src import mesh as jax_mesh  # only it knows a `with mesh:`, T5X's way


def mesh() -> jax.sharding.AbstractMesh:
  """The mesh that is traced for, empty where there is none."""
  found = jax.sharding.get_abstract_mesh()
  return jax_mesh.thread_resources.env.physical_mesh.abstract_mesh if (
      found.empty) else found


def platform() -> str:
  """'cpu', 'tpu', 'gpu' ...: of the mesh, without one jax's default."""
  device = mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def splitting(shape: Sequence[int], names: Sequence[str]) -> list[tuple]:
  """The mesh axes that split each dimension, () for none.

  Args:
    shape: sizes of an array, the first ones.
    names: the logical axis of each.

  Returns:
    by the rules that are traced with; of dimensions that divide.
  """
  sizes, found = mesh().shape, []
  spec = tuple(spmd.logical_to_mesh_axes(tuple(names)) or ())
  for size, axes in zip(shape, spec + (None,) * len(names)):
    axes = (axes,) if isinstance(axes, str) else tuple(axes or ())
    axes = tuple(axis for axis in axes if sizes.get(axis, 1) > 1)
    whole = size % math.prod(sizes[axis] for axis in axes) == 0
    found.append(axes if whole else ())
  return found
