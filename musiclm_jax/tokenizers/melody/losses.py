"""Semi-hard triplets (FaceNet, section 3.2), and whether they help."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Triplets:
  """The triplets of one batch of P pairs; 2 P anchors."""

  loss: jax.Array  # scalar, mean over the anchors that have a negative
  positive: jax.Array  # scalar, mean squared distance to the positive
  negative: jax.Array  # scalar, the same to the chosen negative
  semi_hard: jax.Array  # scalar, share of negatives chosen within the margin
  order: jax.Array  # scalar, share of negatives farther than the positive
  top1: jax.Array  # scalar, share of anchors with no negative as near


def squared_distances(x: jax.Array) -> jax.Array:
  """[M, D] of unit length -> [M, M], 0 to 4."""
  return jnp.maximum(0.0, 2.0 - 2.0 * x @ x.T)


def triplets(first: jax.Array, second: jax.Array, groups: jax.Array,
             margin: float) -> Triplets:
  """The triplet loss over a batch of pairs.

    max(0, |a - p|^2 - |a - n|^2 + margin)

  Every embedding is an anchor, and the other one of its pair its positive. Its
  negative is, of the whole batch, the nearest that is farther than the
  positive: semi-hard where that is less than `margin` farther; otherwise it is
  the hardest of those beyond the margin, and costs nothing. Where none is
  farther than the positive, the farthest there is (ours).

  Never a negative: what belongs to the anchor's group. Embeddings that are all
  the same have the loss `margin`.

  Args:
    first: [P, D] of unit length.
    second: [P, D] of unit length; row i is the positive of row i of `first`.
    groups: [P] int; pairs with one number hold one tune.
    margin: scalar.

  Returns:
    `Triplets`.
  """
  count = len(first)
  distances = squared_distances(jnp.concatenate([first, second]))
  groups = jnp.concatenate([groups, groups])
  is_negative = groups[:, None] != groups
  own = jnp.concatenate([
      jnp.diagonal(distances[:count, count:]),
      jnp.diagonal(distances[count:, :count])])
  beyond = is_negative & (distances > own[:, None])
  nearest = jnp.min(jnp.where(beyond, distances, jnp.inf), axis=-1)
  farthest = jnp.max(jnp.where(is_negative, distances, -jnp.inf), axis=-1)
  chosen = jnp.where(beyond.any(-1), nearest, farthest)
  counts = is_negative.any(-1)
  # An anchor without any negative has chosen -infinity, which would make its
  # gradient NaN, though `share` leaves it out: it gets the largest distance.
  chosen = jnp.where(counts, chosen, 4.0)
  share = lambda x: jnp.sum(jnp.where(counts, x, 0.0)) / jnp.maximum(
      1, jnp.sum(counts))
  negatives = jnp.maximum(1, is_negative.sum(-1))
  return Triplets(
      loss=share(jax.nn.relu(own - chosen + margin)),
      positive=share(own), negative=share(chosen),
      semi_hard=share((chosen > own) & (chosen < own + margin)),
      order=share(beyond.sum(-1) / negatives),
      top1=share(beyond.sum(-1) == is_negative.sum(-1)))
