"""Sums of vectors by what they are assigned to."""

import jax

from musiclm_jax.nn.kernels import dispatch


@dispatch.operation
def sums_by_entry(ids: jax.Array, vectors: jax.Array,
                  size: int) -> tuple[jax.Array, jax.Array]:
  """How many vectors each entry has, and their sum.

  By the matrix product with one-hot assignments, which is deterministic on
  every platform and uses an accelerator's matrix unit. Under data parallelism
  it is a sum over all devices.

  Args:
    ids: [Q, N] int32, entries 0..size - 1 of each of Q levels.
    vectors: [Q, N, D] float.
    size: K, entries of a level.

  Returns:
    (counts [Q, K], sums [Q, K, D]), float32.
  """
  def level(inputs):
    one_hot = jax.nn.one_hot(inputs[0], size)
    return one_hot.sum(0), one_hot.T @ inputs[1]

  # One level after the other: [N, K] are held at once.
  return jax.lax.map(level, (ids, vectors))
