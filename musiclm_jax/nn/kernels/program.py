"""What a program that is traced now is for, as forms of operations ask it."""

import jax


def platform() -> str:
  """'cpu', 'tpu', 'gpu' ...: of the mesh in whose context it is traced.

  Without one it is jax's default.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def devices() -> int:
  """How many devices the mesh in whose context it is traced has; 1 without."""
  return max(1, jax.sharding.get_abstract_mesh().size)
