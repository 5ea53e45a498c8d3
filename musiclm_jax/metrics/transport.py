"""How much it costs to turn one bag of tokens into another: optimal transport.

  tokens [n, T], tokens [n, T] ──> shares of the bins in use, mass 1 ─┐
  centroids [K, D] ──> Euclidean distances between those bins ────────┴─> cost

Two sequences of the same tokens in another order cost nothing; tokens whose
centroids are near cost little. MusicLM compares a continuation with the true
one so. Entropy, iterations and mass are not in the paper (ours): mass 1, an
entropy of 0.01 of a pair's median distance, updates in the log domain until the
marginals are met to 1e-6, or 500 of them. What is then missed of the marginals
is carried in proportion, so that a cost is that of a whole transport and never
below the least one; tests hold it within 1 % above that.

The potentials alone are logarithms: between two looks at them the updates are
products with the kernel that they make, which is many times faster than as many
sums of exponentials, and as stable, since the kernel is made anew every
`_INNER` updates. The entropy is lowered to its value in a few stages, each from
where the one before ended.

Bins of a pair are those in use, so a pair has few of them; pairs are padded to
64, 96 or 128 bins, then to multiples of 128, so that few programs are compiled.
"""

from collections.abc import Iterator
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 0.01  # ours: of a pair's median distance
TOLERANCE = 1e-6  # ours: of the marginals, summed over the bins
ITERATIONS = 500  # ours: updates at the last entropy, at most
BUCKETS = (64, 96, 128)
_INNER = 50  # updates between two kernels
_STAGES = (1.0, 0.25, 0.06, 0.02)  # ours: entropies on the way, one kernel each
_CELLS = 1 << 18  # of a batch's kernels, which then stay in a core's cache
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class Transport:
  """What each pair costs.

  Attributes:
    cost: [n] in units of the distances; of the transport alone, without its
      entropy.
    epsilon: [n] the entropy's weight, in the same units.
    error: [n] by how much the marginals were missed, of a mass of 1.
  """

  cost: np.ndarray
  epsilon: np.ndarray
  error: np.ndarray


def distances(centroids: np.ndarray) -> np.ndarray:
  """[K, D] -> [K, K] float32 Euclidean distances."""
  centroids = np.asarray(centroids, np.float64)
  squares = np.square(centroids).sum(-1)
  found = squares[:, None] + squares - 2 * centroids @ centroids.T
  np.fill_diagonal(found, 0.0)
  return np.sqrt(np.maximum(found, 0.0)).astype(np.float32)


def shares(tokens: np.ndarray, size: int) -> np.ndarray:
  """[n, T] tokens, 0..size-1 -> [n, size] float64 with rows that sum to 1."""
  tokens = np.asarray(tokens)
  if tokens.ndim != 2 or not tokens.size:
    raise ValueError(f'tokens of shape {tokens.shape}; expected [n, T], T > 0.')
  if tokens.min() < 0 or tokens.max() >= size:
    raise ValueError(
        f'tokens span {tokens.min()}..{tokens.max()}; expected 0..{size - 1}.')
  cells = np.arange(len(tokens))[:, None] * size + tokens
  counts = np.bincount(cells.reshape(-1), minlength=len(tokens) * size)
  return counts.reshape(-1, size) / tokens.shape[1]


def between(
    one: np.ndarray, other: np.ndarray, ground: np.ndarray,
    epsilon: float = EPSILON) -> Transport:
  """The cost of transport from each row of `one` to the same row of `other`.

  Args:
    one: [n, K] shares, rows sum to 1.
    other: [n, K] likewise.
    ground: [K, K] distances, such as of `distances`.
    epsilon: the entropy's weight as a share of the pair's median distance.

  Raises:
    ValueError: shapes that do not belong together, or rows of another mass.
  """
  one, other = np.asarray(one), np.asarray(other)
  if one.shape != other.shape or ground.shape != (one.shape[-1],) * 2:
    raise ValueError(
        f'shares of shapes {one.shape} and {other.shape} over distances of '
        f'{ground.shape}; expected [n, K], [n, K] and [K, K].')
  if len(one) and max(np.abs(x.sum(-1) - 1).max() for x in (one, other)) > 1e-4:
    raise ValueError('shares do not sum to 1.')
  cost, scale, error = (np.zeros(len(one)) for _ in range(3))
  used = np.maximum((one > 0).sum(-1), (other > 0).sum(-1))
  ground = jnp.asarray(ground, jnp.float32)
  for rows, bins in _batches(used):
    at = [_bins(x[rows], bins) for x in (one, other)]
    mass = [np.take_along_axis(x[rows], index, -1)
            for x, index in zip((one, other), at)]
    # Padded rows repeat the first: each batch of a size is one program.
    missing = max(1, _CELLS // bins**2) - len(rows)
    filled = [np.pad(x, ((0, missing), (0, 0)), mode='edge')
              for x in (*at, *mass)]
    found = _solve(ground, *filled[:2], *(
        np.asarray(x, np.float32) for x in filled[2:]), jnp.float32(epsilon))
    cost[rows], scale[rows], error[rows] = (
        np.asarray(x)[:len(rows)] for x in found)
  return Transport(cost, scale, error)


def bins_for(used: int) -> int:
  """What so many bins are padded to.

  >>> [bins_for(used) for used in (1, 64, 65, 125, 200)]
  [64, 64, 96, 128, 256]
  """
  found = [size for size in BUCKETS if size >= used]
  return found[0] if found else -(-used // BUCKETS[-1]) * BUCKETS[-1]


def _batches(used) -> Iterator[tuple[np.ndarray, int]]:
  """(indices of pairs, bins): at most `_CELLS` cells in a batch."""
  sizes = np.array([bins_for(int(count)) for count in used])
  for bins in np.unique(sizes):
    rows, most = np.flatnonzero(sizes == bins), max(1, _CELLS // int(bins)**2)
    for first in range(0, len(rows), most):
      yield rows[first:first + most], int(bins)


def _bins(mass, bins):
  """[n, bins] indices of the bins in use, the others behind them."""
  order = np.argsort(mass <= 0, axis=-1, kind='stable')[:, :bins]
  return np.pad(order, ((0, 0), (0, bins - order.shape[1])), mode='edge') if (
      order.shape[1] < bins) else order


@jax.jit
def _solve(ground, rows, columns, a, b, share):
  """[B, S] bins and masses -> ([B] cost, [B] epsilon, [B] error)."""
  a, b = _first_of_each(rows, a), _first_of_each(columns, b)
  cost = ground[rows[:, :, None], columns[:, None, :]]
  used = (a > 0)[:, :, None] & (b > 0)[:, None, :]
  median = _median(cost, used)
  # Distances in medians: the entropy is a share of one.
  unit = jnp.where(median > 0, median, 1.0)
  scaled = jnp.where(used, cost / unit[:, None, None], jnp.inf)
  plan, error = _sinkhorn(scaled, a, b, share)
  plan = _whole(plan, a, b)
  return jnp.where(used, plan * cost, 0.0).sum((1, 2)), share * median, error


def _first_of_each(bins, mass):
  """Mass without that of padding, which repeats the last bin."""
  again = jnp.pad(bins[:, 1:] == bins[:, :-1], ((0, 0), (1, 0)))
  return jnp.where(again, 0.0, mass)


def _median(cost, used):
  """[B] median of the cells in use."""
  flat = jnp.sort(jnp.where(used, cost, jnp.inf).reshape(len(cost), -1))
  count = used.sum((1, 2))
  at = lambda i: jnp.take_along_axis(flat, i[:, None], -1)[:, 0]
  return (at((count - 1) // 2) + at(count // 2)) / 2


def _sinkhorn(cost, a, b, share):
  """([B, S, S] plan, [B] error) of distances in medians, inf where unused."""
  log_a, log_b = (jnp.where(x > 0, jnp.log(jnp.maximum(x, _TINY)), -jnp.inf)
                  for x in (a, b))

  def sweep(state, epsilon):
    """An update of the potentials as logarithms, then `_INNER` of scales."""
    f, g = state[:2]
    f = epsilon * (log_a - _log_sum((g[:, None] - cost) / epsilon, 2))
    f = jnp.where(a > 0, f, 0.0)
    g = epsilon * (log_b - _log_sum((f[:, :, None] - cost) / epsilon, 1))
    g = jnp.where(b > 0, g, 0.0)
    kernel = jnp.exp((f[:, :, None] + g[:, None] - cost) / epsilon)
    update = functools.partial(_scales, kernel, a, b)
    u, v = jax.lax.fori_loop(
        0, _INNER, lambda _, scales: update(scales[1]),
        (jnp.ones_like(a), jnp.ones_like(b)))
    # After an update of v the columns are met; what is left is in the rows.
    error = jnp.abs(u * _rows(kernel, v) - a).sum(-1)
    to_log = lambda x, mass: jnp.where(
        mass > 0, epsilon * jnp.log(jnp.maximum(x, _TINY)), 0.0)
    plan = u[:, :, None] * kernel * v[:, None]
    return f + to_log(u, a), g + to_log(v, b), plan, error

  state = (jnp.zeros_like(a), jnp.zeros_like(b), jnp.zeros_like(cost),
           jnp.ones(len(a)))
  for epsilon in _STAGES:
    state = sweep(state, jnp.maximum(epsilon, share))
  _, state = jax.lax.while_loop(
      lambda loop: (loop[0] < ITERATIONS) & (loop[1][3].max() > TOLERANCE),
      lambda loop: (loop[0] + _INNER, sweep(loop[1], share)), (0, state))
  return state[2:]


def _whole(plan, a, b):
  """The plan with its marginals met: less where too much, the rest by share.

  Altschuler, Weed and Rigollet, "Near-linear time approximation algorithms for
  optimal transport via Sinkhorn iteration" (2017), algorithm 2.
  """
  fit = lambda mass, has: jnp.minimum(mass / jnp.maximum(has, _TINY), 1.0)
  plan = plan * fit(a, plan.sum(2))[:, :, None]
  plan = plan * fit(b, plan.sum(1))[:, None]
  rows = jnp.maximum(a - plan.sum(2), 0.0)
  columns = jnp.maximum(b - plan.sum(1), 0.0)
  return plan + rows[:, :, None] * columns[:, None] / jnp.maximum(
      rows.sum(-1), _TINY)[:, None, None]


def _scales(kernel, a, b, v):
  """(u, v) after one update of each."""
  u = a / jnp.maximum(_rows(kernel, v), _TINY)
  return u, b / jnp.maximum(jnp.einsum('bij,bi->bj', kernel, u), _TINY)


def _rows(kernel, v):
  return jnp.einsum('bij,bj->bi', kernel, v)


def _log_sum(x, axis):
  """Log of the sum of exponentials, -inf of nothing."""
  top = jnp.maximum(x.max(axis), -1e30)
  return top + jnp.log(jnp.maximum(
      jnp.exp(x - jnp.expand_dims(top, axis)).sum(axis), _TINY))
