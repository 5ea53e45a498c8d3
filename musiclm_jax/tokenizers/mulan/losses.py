"""MuLan's contrastive loss and what tells whether it has learned."""

import jax
import jax.numpy as jnp
import numpy as np

_EXCLUDED = -1e9


def contrastive(audio: jax.Array, text: jax.Array,
                temperature: float | jax.Array,
                other_text: jax.Array | None = None) -> jax.Array:
  """The decoupled loss of MuLan (section 3.3), the mean over the batch.

    -log h(f_i, g_i) / sum over j != i of [h(f_i, g_j) + h(f_j, g_i)],
    h(a, b) = exp(a . b / temperature)

  The positive pair is not in the denominator, and both directions share one. At
  chance it is ln(2 (B - 1)); well learned, it is negative.

  With `other_text` (ours) each h(f_i, other) is in the denominator as well: a
  small batch then has as many captions to tell apart as a large one.

  Args:
    audio: [B, D] unit length.
    text: [B, D] unit length; row i belongs to row i of `audio`.
    temperature: scalar.
    other_text: [K, D] unit length, captions of none of the recordings; or None.

  Returns:
    Scalar, in nats.
  """
  scores = audio @ text.T / temperature
  own = jnp.eye(len(scores), dtype=bool)
  others = jnp.where(own, _EXCLUDED, scores)
  to_text = others
  if other_text is not None:
    to_text = jnp.concatenate(
        [others, audio @ other_text.T / temperature], axis=1)
  denominator = jnp.logaddexp(jax.nn.logsumexp(to_text, axis=1),
                              jax.nn.logsumexp(others, axis=0))
  return jnp.mean(denominator - jnp.diagonal(scores))


def chance(batch_size: int, other_captions: int = 0) -> jax.Array:
  """The loss of towers that tell nothing apart."""
  return jnp.log(2.0 * (batch_size - 1) + other_captions)


def spread(embeddings: jax.Array | np.ndarray) -> jax.Array:
  """[B, D] of unit length -> 1 - |mean|^2: 0 where they are all the same."""
  return 1.0 - jnp.sum(jnp.square(embeddings.mean(0)))


def retrieval(queries: jax.Array | np.ndarray, items: jax.Array | np.ndarray,
              k: int) -> jax.Array:
  """Share of the rows of `queries` whose own row of `items` is in the top k.

  Equal scores count as better, so that constant embeddings find nothing.
  """
  scores = queries @ items.T
  own = jnp.diagonal(scores)[:, None]
  better = jnp.sum(scores >= own, axis=-1) - 1
  return jnp.mean(better < k)
