"""How well logits tell which tags are there."""

import jax
import jax.numpy as jnp
import numpy as np


def cross_entropy(logits: jax.Array, tags: jax.Array) -> jax.Array:
  """Scalar: the mean over rows and tags of each tag's own cross entropy.

  Args:
    logits: [B, C].
    tags: [B, C] of 0 and 1.
  """
  return jnp.mean(
      jax.nn.softplus(logits) - tags * logits)


def order(logits: jax.Array, tags: jax.Array) -> jax.Array:
  """Scalar: area under the ROC curve, mean over tags; 0.5 at chance.

  Of the tags that some rows have and some have not; 0.5 where there is none. A
  tie counts half.

  Args:
    logits: [B, C].
    tags: [B, C] of 0 and 1.
  """
  difference = logits[:, None] - logits[None]  # [has, has not, C]
  pairs = tags[:, None] * (1.0 - tags)[None]
  won = jnp.where(difference > 0, 1.0, jnp.where(difference < 0, 0.0, 0.5))
  count = pairs.sum((0, 1))
  areas = (won * pairs).sum((0, 1)) / jnp.maximum(count, 1.0)
  judged = count > 0
  return jnp.where(
      judged.any(), jnp.sum(areas * judged) / jnp.maximum(judged.sum(), 1), 0.5)


def mean_average_precision(
    logits: np.ndarray, tags: np.ndarray) -> tuple[float, float, int]:
  """AudioSet's measure: the mean over tags of the precision at each hit.

  Args:
    logits: [n, C].
    tags: [n, C] of 0 and 1.

  Returns:
    (mAP over the tags that some row has; the mean share of rows that have
    them, which an order drawn by chance comes to; how many tags these are).
    NaN where no row has any.
  """
  tags = np.asarray(tags, bool)
  judged = np.flatnonzero(tags.any(0))
  if not len(judged):
    return float('nan'), float('nan'), 0
  found = [_average_precision(logits[:, k], tags[:, k]) for k in judged]
  return (float(np.mean(found)), float(tags[:, judged].mean()), len(judged))


def _average_precision(scores, has):
  """Rows of one score enter together, as sklearn counts it."""
  ranked = np.argsort(-scores, kind='stable')
  scores, has = scores[ranked], has[ranked]
  last = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]
  hits = np.cumsum(has)[last]
  precision = hits / (last + 1)
  return np.sum(np.diff(hits, prepend=0) * precision) / hits[-1]
