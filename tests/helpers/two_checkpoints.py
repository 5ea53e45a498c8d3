"""A run of two checkpoints, each of one array, and how it is restored."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.training import checkpoints

STEPS = (1, 2)


def values(step, count):
  """[count] float32 that the checkpoint of `step` holds."""
  return np.random.default_rng(step).normal(size=count).astype(np.float32)


def write(root, count):
  """Both checkpoints, as a run writes them."""
  with checkpoints.Checkpoints(root) as saved:
    for step in STEPS:
      saved.save(step, {'w': jnp.asarray(values(step, count))}, dict(step=step))
      saved.wait()
  return root


def abstract(count):
  """The state to be restored, on one device."""
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return {'w': jax.ShapeDtypeStruct((count,), jnp.float32, sharding=device)}


def restore(run, count, said):
  """(step, state, data) of the newest that is whole; what is said goes to `said`."""
  with checkpoints.Checkpoints(run) as saved:
    return saved.restore(abstract(count), said.append)
