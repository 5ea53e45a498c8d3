"""What a program that is traced now is for: its mesh and its platform."""

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


def devices() -> int:
  """How many devices the mesh has; 1 without one."""
  return max(1, mesh().size)
