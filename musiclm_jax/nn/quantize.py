"""Residual vector quantisation, and how its codebooks learn.

  rvq_encode / rvq_decode      vectors <-> codes, nothing learned
  RvqConfig, Rvq, quantize     the codec's quantizer while it trains

Entries are means of what chose them, by moving averages ('ema'), or learn by
gradient in few dimensions ('projected', nn/quantize_projected.py). Either way
codes stand for sums of entries [Q, K, D]. The gradient passes straight through
the quantizer, or is rotated on the way (nn/rotation.py).

All sums over vectors are matrix products with one-hot assignments: they are
deterministic on every backend, and under data parallelism they are global, so
that eight devices see the codebooks that one would. A CPU adds the codec's up
one by one instead (nn/kernels/cpu.py).
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import assignments
from musiclm_jax.nn import lloyd
from musiclm_jax.nn import quantize_projected
from musiclm_jax.nn import rotation

KINDS = ('ema', 'projected')
GRADIENTS = ('straight', 'rotation')
PARAMS = 'quantizer'  # where a codec's parameters have what gradients teach
_EPSILON = 1e-5


def rvq_encode(vectors: jax.Array, codebooks: jax.Array,
               projected: dict | None = None) -> jax.Array:
  """Residual codes: level q quantises what levels before it left over.

  Args:
    vectors: [..., D] float.
    codebooks: [Q, K, D] float.
    projected: how entries are searched for, of the same Q levels: a tree of
      `quantize_projected.blank`, or None for the nearest entry.

  Returns:
    [..., Q] int32 codes, 0..K-1.
  """
  def level(residual, inputs):
    codebook, own = inputs
    if own is None:
      ids = lloyd.nearest(residual, codebook)
    else:
      ids = quantize_projected.search(residual, own)
    return residual - codebook[ids], ids

  _, codes = jax.lax.scan(level, vectors, (codebooks, projected))
  return jnp.moveaxis(codes, 0, -1)


def rvq_decode(codes: jax.Array, codebooks: jax.Array) -> jax.Array:
  """Sum of the chosen entries; fewer levels than codebooks are allowed.

  Args:
    codes: [..., q] int32 with q <= Q, the first q levels.
    codebooks: [Q, K, D] float.

  Returns:
    [..., D] float.
  """
  num_levels = codes.shape[-1]
  if num_levels > len(codebooks):
    raise ValueError(
        f'codes have {num_levels} levels; the quantizer has '
        f'{len(codebooks)}.')
  total = 0.0
  for level in range(num_levels):
    total = total + codebooks[level][codes[..., level]]
  return total


def level_report(vectors: np.ndarray,
                 codebooks: np.ndarray) -> dict[str, list[float]]:
  """How well residual codebooks fit.

  Args:
    vectors: [N, D] NumPy.
    codebooks: [Q, K, D] NumPy.

  Returns:
    {'distortion': share of the squared distance to the mean that is left after
    each level, 'usage': share of each level's entries that `vectors` use}.
  """
  residual = vectors - vectors.mean(0)
  total = np.mean(np.sum(residual**2, -1))
  codes = np.concatenate([
      np.asarray(rvq_encode(jnp.asarray(part), codebooks))
      for part in np.array_split(vectors, -(-len(vectors) // 8192))])
  distortion, usage = [], []
  residual = vectors.copy()
  for level, codebook in enumerate(codebooks):
    residual -= codebook[codes[:, level]]
    distortion.append(float(np.mean(np.sum(residual**2, -1)) / total))
    usage.append(len(np.unique(codes[:, level])) / len(codebook))
  return dict(distortion=distortion, usage=usage)


@flax.struct.dataclass
class Rvq:
  """The state of a residual quantizer, beside the parameters."""

  codebooks: jax.Array  # [Q, K, D] the entries in use: sums / counts
  counts: jax.Array  # [Q, K] average assignments per batch
  # [Q, K, D] average sum of assigned vectors per batch; {} if projected
  sums: Any


@flax.struct.dataclass
class Quantized:
  """What `quantize` returns."""

  vectors: jax.Array  # [B, T, D] the chosen levels' sum
  codes: jax.Array  # [B, T, Q] int32, of every level
  residuals: jax.Array  # [Q, B * T, D] what each level was asked to quantise
  commitment: jax.Array  # scalar: distance of the vectors from their codes


def begin(codebooks: jax.Array, by_gradient: bool = False) -> Rvq:
  """An `Rvq` that begins with codebooks [Q, K, D]."""
  # One assignment each: the true averages take over within 1 / (1 - decay)
  # steps, and no entry is dead before it had its chance.
  return Rvq(codebooks, jnp.ones(codebooks.shape[:2]),
             {} if by_gradient else codebooks)


@dataclasses.dataclass(frozen=True)
class RvqConfig:
  """How a residual quantizer learns.

  Attributes:
    kind: 'ema': entries of the latents' width, by moving averages; 'projected':
      entries of `projected_dim`, by gradient.
    gradient: what comes back through the quantizer: 'straight', or turned and
      scaled from the code to the vector, 'rotation'.
    decay: of the moving averages of counts and sums.
    dead_code_ratio: an entry whose average count falls under this share of the
      mean count is replaced by a random frame. SoundStream's threshold of 2
      means this for its own (unstated) batch; a share scales with any batch.
      Of 'ema' alone.
    dropout_rate: share of examples that use a random number of levels,
      1..Q; the rest use all.
    start_step: latents pass as they are before this step, while the codebooks
      follow them. Those of a network that knows nothing hold it to the little
      that they tell. 0 for 'projected', whose maps, learnt by gradient, cannot
      follow latents that move as fast as they do.
    dropout_power: of the draw: 1 + floor(Q u^power), u even in 0..1. 1: any
      number is as likely; 2: a quarter of the levels or fewer in half of the
      draws.
    projected_dim: P, the dimensions of a search.
    codebook_weight: of the loss that draws 'projected' entries to what chose
      them, beside a commitment of 1.
    init_iters: Lloyd iterations of the first codebooks.
    init_vectors: vectors that the first codebooks are fitted to, at least.
  """

  kind: str = 'ema'  # paper
  gradient: str = 'straight'  # paper
  decay: float = 0.99  # paper
  dead_code_ratio: float = 0.1  # ours
  dropout_rate: float = 1.0  # paper
  start_step: int = 0  # ours
  dropout_power: float = 1.0  # paper
  projected_dim: int = 8  # from DAC
  codebook_weight: float = 4.0  # from DAC: 1 beside 0.25
  init_iters: int = 10  # ours
  init_vectors: int = 8192  # ours

  def __post_init__(self):
    for name, known in (('kind', KINDS), ('gradient', GRADIENTS)):
      if getattr(self, name) not in known:
        raise errors.choice(
            f"quantizer's {name}", getattr(self, name), known)
    if self.dropout_power <= 0.0:
      raise errors.UserError(
          f'dropout_power is {self.dropout_power}; expected more than 0: 1 for '
          f'levels that are equally likely, more for fewer levels.')
    if self.projected_dim < 1:
      raise errors.UserError(
          f'projected_dim is {self.projected_dim}; expected at least 1.')

  def init(self, rng: jax.Array, vectors: jax.Array, num_codebooks: int,
           codebook_size: int) -> tuple[Rvq, dict]:
    """What begins by residual k-means of `vectors` [N, D].

    Returns:
      (an `Rvq`, parameters to be learnt by gradient: {PARAMS: ...}, or {}).
    """
    if self.kind == 'ema':
      return begin(lloyd.residual_kmeans(
          rng, vectors, num_codebooks, codebook_size, self.init_iters)), {}
    if self.projected_dim > vectors.shape[-1]:
      raise errors.UserError(
          f'projected_dim is {self.projected_dim}; expected at most the '
          f"latents' width, {vectors.shape[-1]}.")
    params = quantize_projected.begin(
        rng, vectors, num_codebooks, codebook_size, self.projected_dim,
        self.init_iters)
    rvq = begin(quantize_projected.effective(params), by_gradient=True)
    return rvq, {PARAMS: params}

  def blank(self, codec: Any) -> dict:
    """Zeros in the shape of the parameters that `init` returns.

    Args:
      codec: a codec's configuration, with `spec` and `latent_dim`.
    """
    if self.kind == 'ema':
      return {}
    return {PARAMS: quantize_projected.blank(
        codec.spec.num_codebooks, codec.spec.codebook_size, codec.latent_dim,
        self.projected_dim)}

  def quantize(self, vectors: jax.Array, rvq: Rvq, params: Any,
               num_levels: jax.Array,
               used: bool | jax.Array = True) -> Quantized:
    """A `Quantized` that training can differentiate.

    Args:
      vectors: [B, T, D] float.
      rvq: the `Rvq`.
      params: the codec's, with those that `init` returned; they get gradients.
      num_levels: [B] int32, levels that each example uses (1..Q).
      used: a bool or an array of one: whether the result will be; otherwise
        only the quantizer learns from it.
    """
    vectors = jnp.where(used, vectors, jax.lax.stop_gradient(vectors))
    rotated = self.gradient == 'rotation'
    if self.kind == 'ema':
      return quantize(vectors, rvq.codebooks, num_levels, rotated)
    outputs, codes, residuals, commitment, codebook = (
        quantize_projected.quantize(vectors, params[PARAMS], rotated))
    on = jnp.arange(len(outputs))[:, None] < num_levels
    # Every level's entries learn from every example, as those of 'ema' do.
    drawn = jnp.mean(codebook)
    # The maps learn from what the decoder makes of them; until then, from what
    # they lose.
    lost = jnp.mean(jnp.square(
        jax.lax.stop_gradient(vectors) - jnp.sum(outputs, axis=0)))
    drawn = self.codebook_weight * (drawn + jnp.where(used, 0.0, lost))
    commitment = jnp.sum(commitment * on) / jnp.sum(on)
    return Quantized(
        vectors=jnp.sum(outputs * on[:, :, None, None], axis=0),
        codes=jnp.moveaxis(codes, 0, -1),
        residuals=residuals.reshape(len(outputs), -1, vectors.shape[-1]),
        # The commitment's value, with the gradient of both.
        commitment=commitment + drawn - jax.lax.stop_gradient(drawn))

  def draw_levels(self, rng: jax.Array, batch_size: int,
                  num_codebooks: int) -> jax.Array:
    """[B] int32: how many levels each example uses, 1..Q."""
    level_rng, keep_rng = jax.random.split(rng)
    if self.dropout_power == 1.0:
      levels = jax.random.randint(
          level_rng, (batch_size,), 1, num_codebooks + 1)
    else:
      drawn = jax.random.uniform(level_rng, (batch_size,))
      levels = 1 + jnp.int32(num_codebooks * drawn**self.dropout_power)
      levels = jnp.minimum(levels, num_codebooks)  # where it rounds up to 1
    drop = jax.random.uniform(keep_rng, (batch_size,)) < self.dropout_rate
    return jnp.where(drop, levels, num_codebooks)

  def update(self, rng: jax.Array, rvq: Rvq, quantized: Quantized,
             params: Any = None) -> Rvq:
    """The `Rvq` after one batch: averages moved, dead entries replaced.

    Every level learns from every example, also from those whose decoder saw
    fewer levels (ours): the residual exists either way.

    Args:
      rng: PRNG key, chooses the frames that replace dead entries.
      rvq: the state that `quantized` was made with.
      quantized: a `Quantized` of the batch.
      params: the codec's, as they are after the batch.

    Returns:
      The new `Rvq`.
    """
    num_codebooks, size, _ = rvq.codebooks.shape
    codes = quantized.codes.reshape(-1, num_codebooks).T
    if self.kind == 'projected':
      used = jax.lax.map(lambda c: jax.nn.one_hot(c, size).sum(0), codes)
      return Rvq(quantize_projected.effective(params[PARAMS]),
                 self._average(rvq.counts, used), {})
    residuals = jax.lax.stop_gradient(quantized.residuals)
    mean_count = codes.shape[1] / size
    counts, sums = jax.tree.map(
        self._average, (rvq.counts, rvq.sums),
        assignments.sums_by_entry(codes, residuals, size))
    dead = counts < self.dead_code_ratio * mean_count
    picks = jax.vmap(
        lambda key: jax.random.randint(key, (size,), 0, codes.shape[1]))(
            jax.random.split(rng, num_codebooks))
    picked = jnp.take_along_axis(residuals, picks[..., None], axis=1)
    # A new entry starts with the mean count: it has time to prove itself.
    counts = jnp.where(dead, mean_count, counts)
    sums = jnp.where(dead[..., None], picked * mean_count, sums)
    return Rvq(sums / jnp.maximum(counts, _EPSILON)[..., None], counts, sums)

  def _average(self, old, new):
    return self.decay * old + (1.0 - self.decay) * new


def quantize(vectors: jax.Array, codebooks: jax.Array, num_levels: jax.Array,
             rotated: bool = False) -> Quantized:
  """Residual quantisation that training can differentiate.

  Args:
    vectors: [B, T, D] float.
    codebooks: [Q, K, D] float.
    num_levels: [B] int32, levels that each example uses (1..Q).
    rotated: turn the gradient from the sum of the levels to the vector.

  Returns:
    A `Quantized`. The gradient of `vectors` passes straight through, or
    rotated; the commitment is the squared distance to the sum of the first q
    levels, mean over features, frames and used levels. Codebooks get no
    gradient.
  """
  fixed = jax.lax.stop_gradient(vectors)
  codebooks = jax.lax.stop_gradient(codebooks)

  def level(residual, codebook):
    ids = lloyd.nearest(residual, codebook)
    left = residual - codebook[ids]
    return left, (ids, residual, left)

  _, (codes, residuals, left) = jax.lax.scan(level, fixed, codebooks)
  used = jnp.arange(len(codebooks))[:, None] < num_levels
  last = jnp.take_along_axis(
      left, (num_levels - 1)[None, :, None, None], axis=0)[0]
  # fixed - left is the sum of the levels so far.
  distances = jnp.mean(jnp.square(vectors - (fixed - left)), axis=(2, 3))
  through = (rotation.rotate(vectors, fixed - last) if rotated
             else vectors - jax.lax.stop_gradient(last))
  return Quantized(
      vectors=through,
      codes=jnp.moveaxis(codes, 0, -1),
      residuals=residuals.reshape(len(codebooks), -1, vectors.shape[-1]),
      commitment=jnp.sum(distances * used) / jnp.sum(used))


def perplexity(counts: jax.Array) -> jax.Array:
  """[...] exp of the entropy of counts [..., K]: 1..K entries in even use."""
  share = counts / jnp.maximum(jnp.sum(counts, -1, keepdims=True), _EPSILON)
  entropy = -jnp.sum(share * jnp.log(jnp.maximum(share, 1e-10)), -1)
  return jnp.exp(entropy)


def usage(codes: jax.Array, size: int) -> jax.Array:
  """How evenly a batch spreads over each codebook, whatever its length.

  The number of distinct entries in use, over the number that as many draws
  from an even distribution would be expected to hit: K (1 - (1 - 1/K)^N). Few
  frames cannot use many entries; this is near 1 where they use what they can.
  The moving counts cannot tell: an entry that is dead is soon replaced, and
  looks alive until it dies again.

  Args:
    codes: [..., Q] int32 codes of N frames.
    size: K, entries per codebook.

  Returns:
    [Q] float32, 0..1.
  """
  codes = codes.reshape(-1, codes.shape[-1]).T
  expected = size * (1.0 - (1.0 - 1.0 / size)**codes.shape[-1])
  used = jax.lax.map(
      lambda c: jnp.sum(jnp.any(jax.nn.one_hot(c, size, dtype=bool), axis=0)),
      codes)
  return jnp.minimum(used / expected, 1.0)
