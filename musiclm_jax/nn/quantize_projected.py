"""Residual codes that are searched in few dimensions and learnt by gradient.

Each level has a map down to P dimensions (8), K entries there, and a map up:

  residual [D] -> down [P] -> the entry of the nearest direction -> up [D]
  what is left: residual - up(entry)

Vectors and entries are compared by their cosine, so that no entry is out of
reach for its length. The entries and both maps are parameters: a codebook loss
draws entries to what chose them, the commitment what chose them to entries
(Improved VQGAN's factorised codes, arXiv:2110.04627; DAC, arXiv:2306.06546).

A level's up(entry) is a codebook [K, D] like any other: decoding sums entries
and need not know of all this. All levels' parameters are stacked, Q first.
"""

import jax
import jax.numpy as jnp

from musiclm_jax.nn import lloyd
from musiclm_jax.nn import normalise
from musiclm_jax.nn import rotation

_PRECISE = jax.lax.Precision.HIGHEST  # a rounded entry would be another


def blank(num_codebooks: int, size: int, dim: int,
          projected_dim: int) -> dict[str, jax.Array]:
  """Parameters of zeros, for their shapes.

  Args:
    num_codebooks: levels Q.
    size: entries K of each.
    dim: D, width of what is quantised.
    projected_dim: P.

  Returns:
    {'down': [Q, D, P], 'down_bias': [Q, P], 'entries': [Q, K, P],
    'up': [Q, P, D], 'up_bias': [Q, D]}.
  """
  levels = num_codebooks, projected_dim
  return dict(
      down=jnp.zeros((num_codebooks, dim, projected_dim)),
      down_bias=jnp.zeros(levels),
      entries=jnp.zeros((num_codebooks, size, projected_dim)),
      up=jnp.zeros(levels + (dim,)), up_bias=jnp.zeros((num_codebooks, dim)))


def begin(rng: jax.Array, vectors: jax.Array, num_codebooks: int, size: int,
          projected_dim: int, iters: int) -> dict[str, jax.Array]:
  """Parameters that begin from data, one level after the other.

  The maps are the P directions in which a level's residuals vary most (down,
  and back up); entries are the means of cells by k-means of the directions.

  Args:
    rng: PRNG key.
    vectors: [N, D] float.
    num_codebooks: levels Q.
    size: entries K of each.
    projected_dim: P, at most D.
    iters: Lloyd iterations.

  Returns:
    The tree of `blank`.
  """
  def level(residual, rng):
    mean = jnp.mean(residual, axis=0)
    centred = residual - mean
    _, directions = jnp.linalg.eigh(
        jnp.matmul(centred.T, centred, precision=_PRECISE))
    down = directions[:, ::-1][:, :projected_dim]
    low = centred @ down
    centroids = lloyd.kmeans(rng, normalise.unit(low), size, iters)
    one_hot = jax.nn.one_hot(
        _nearest_direction(low, centroids), size)
    counts = one_hot.sum(0)[:, None]
    means = (one_hot.T @ low) / jnp.maximum(counts, 1.0)
    own = dict(
        down=down, down_bias=-mean @ down, up=down.T, up_bias=mean,
        entries=jnp.where(counts > 0, means, centroids))
    ids = search(residual, own)
    return residual - effective(own)[ids], own

  return jax.lax.scan(
      level, jnp.asarray(vectors, jnp.float32),
      jax.random.split(rng, num_codebooks))[1]


def effective(params: dict[str, jax.Array]) -> jax.Array:
  """What the entries are as vectors: [..., K, D] of one level or of all."""
  return jnp.matmul(params['entries'], params['up'],
                    precision=_PRECISE) + params['up_bias'][..., None, :]


def search(residual: jax.Array, level: dict[str, jax.Array]) -> jax.Array:
  """The codes of one level.

  Args:
    residual: [..., D] float.
    level: its parameters, as in `blank` without Q.

  Returns:
    [...] int32 in 0..K-1.
  """
  return _nearest_direction(_down(residual, level), level['entries'])


def quantize(vectors: jax.Array, params: dict[str, jax.Array],
             rotated: bool) -> tuple[jax.Array, ...]:
  """Every level in turn, differentiable by vectors and parameters.

  The gradient of a level's output goes through its maps and past its search:
  straight, or rotated (nn/rotation.py).

  Args:
    vectors: [B, T, D] float.
    params: the tree of `blank`.
    rotated: whether the gradient is.

  Returns:
    (outputs [Q, B, T, D] of the levels, codes [Q, B, T] int32, residuals
    [Q, B, T, D], and [Q, B] squared distances of vectors to entries, mean over
    frames and P: once with gradients to what was searched for, once to the
    entries).
  """
  def level(residual, own):
    low = _down(residual, own)
    ids = _nearest_direction(low, own['entries'])
    # A product and not a lookup: its gradient is a sum without scattering.
    entry = jnp.matmul(jax.nn.one_hot(ids, len(own['entries'])),
                       own['entries'], precision=_PRECISE)
    fixed = jax.lax.stop_gradient(entry)
    through = (rotation.rotate(low, fixed) if rotated
               else fixed + (low - jax.lax.stop_gradient(low)))
    output = jnp.matmul(
        through, own['up'], precision=_PRECISE) + own['up_bias']
    distance = lambda x, y: jnp.mean(jnp.square(x - y), axis=(1, 2))
    return residual - output, (
        output, ids, residual, distance(low, fixed),
        distance(jax.lax.stop_gradient(low), entry))

  return jax.lax.scan(level, vectors, params)[1]


def _down(residual, level):
  return jnp.matmul(
      residual, level['down'], precision=_PRECISE) + level['down_bias']


def _nearest_direction(low, entries):
  """Indices of the entries [K, P] with the greatest cosine to [..., P]."""
  # Of unit keys the nearest is the same for any length of the vector; of unit
  # length it stays well conditioned.
  return lloyd.nearest(
      jax.lax.stop_gradient(normalise.unit(low)),
      jax.lax.stop_gradient(normalise.unit(entries)))
