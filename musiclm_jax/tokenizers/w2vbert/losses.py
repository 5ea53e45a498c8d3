"""w2v-BERT's losses: L = beta (L_w + alpha L_d) + gamma L_m.

L_w tells the quantised feature of a masked step from distractors, L_d keeps the
codebook in use, L_m is the cross-entropy of the quantised feature's id.
"""

import jax
import jax.numpy as jnp

_EPS = 1e-8
_EXCLUDED = -1e9


def distractor_counts(rng: jax.Array, masked: jax.Array,
                      num_distractors: int) -> jax.Array:
  """How often each step is drawn as a distractor of each masked step.

  Distractors are other masked steps of the same row, drawn with replacement.

  Args:
    rng: PRNG key.
    masked: [B, T] bool.
    num_distractors: draws per masked step.

  Returns:
    [B, T, T] float32: row t sums to `num_distractors` where t is masked and is
    not alone in its row, to 0 elsewhere; the diagonal is 0.
  """
  batch, length = masked.shape
  total = masked.sum(-1)[:, None, None]  # M
  rank = (jnp.cumsum(masked, -1) - 1)[:, :, None]
  # Masked steps first, in order: rank -> step.
  step_of_rank = jnp.argsort(~masked, axis=-1, stable=True)
  draws = jax.random.uniform(rng, (batch, length, num_distractors))
  # 1 .. M-1 places after itself, around the circle: never itself.
  ahead = 1 + jnp.floor(draws * (total - 1)).astype(jnp.int32)
  ahead = jnp.minimum(ahead, jnp.maximum(total - 1, 1))
  drawn = (rank + ahead) % jnp.maximum(total, 1)
  steps = jnp.take_along_axis(
      step_of_rank, drawn.reshape(batch, -1), axis=-1).reshape(drawn.shape)
  rows = jnp.arange(batch)[:, None, None]
  columns = jnp.arange(length)[None, :, None]
  counts = jnp.zeros((batch, length, length)).at[rows, columns, steps].add(1.0)
  return counts * (masked[..., None] & (total > 1))


def contrastive(context: jax.Array, quantized: jax.Array, ids: jax.Array,
                masked: jax.Array, counts: jax.Array, temperature: float,
                exclude_equal: bool) -> tuple[jax.Array, jax.Array]:
  """InfoNCE over cosines (wav2vec 2.0, equation 3).

  Args:
    context: [B, T, D] of the contrastive stack.
    quantized: [B, T, D] true candidates.
    ids: [B, T] int32 ids of the candidates.
    masked: [B, T] bool; the others are no part of the loss.
    counts: [B, T, T] from `distractor_counts`.
    temperature: divides the cosines.
    exclude_equal: distractors with the true candidate's id do not count.

  Returns:
    (loss, share of masked steps whose true candidate beats every distractor).
  """
  logits = jnp.einsum(
      'btd,bsd->bts', _unit(context), _unit(quantized)) / temperature
  if exclude_equal:
    counts = jnp.where(ids[:, :, None] == ids[:, None, :], 0.0, counts)
  positive = jnp.diagonal(logits, axis1=1, axis2=2)
  # A distractor drawn n times adds n exp(logit) = exp(logit + log n).
  drawn = counts > 0
  negatives = jnp.where(
      drawn, logits + jnp.log(jnp.where(drawn, counts, 1.0)), _EXCLUDED)
  everything = jnp.logaddexp(
      positive, jax.nn.logsumexp(negatives, axis=-1))
  best_other = jnp.max(jnp.where(drawn, logits, _EXCLUDED), axis=-1)
  usable = masked & drawn.any(-1)
  return (masked_mean(everything - positive, usable),
          masked_mean(positive > best_other, usable))


def contrastive_chance(ids: jax.Array, masked: jax.Array, counts: jax.Array,
                       exclude_equal: bool) -> jax.Array:
  """The contrastive loss where every candidate looks the same.

  ln(1 + distractors), so ln 101, unless equal ids are excluded: then fewer are
  left, down to 0 nats for a codebook that has collapsed.
  """
  if exclude_equal:
    counts = jnp.where(ids[:, :, None] == ids[:, None, :], 0.0, counts)
  left = counts.sum(-1)
  return masked_mean(jnp.log1p(left), masked & (left > 0))


def diversity(code_logits: jax.Array,
              valid: jax.Array) -> tuple[jax.Array, jax.Array]:
  """How little of the codebook is in use, 0..1, and the perplexity.

  (K - exp(H(p))) / K with p the mean over all valid steps of the batch of the
  quantizer's softmax, without noise and at temperature 1 (wav2vec 2.0).
  """
  probabilities = jax.nn.softmax(code_logits, axis=-1)
  weights = valid[..., None] / jnp.maximum(valid.sum(), 1)
  mean = jnp.sum(probabilities * weights, axis=(0, 1))
  perplexity = jnp.exp(-jnp.sum(mean * jnp.log(mean + _EPS)))
  size = code_logits.shape[-1]
  return (size - perplexity) / size, perplexity


def code_perplexity(ids: jax.Array, valid: jax.Array, size: int) -> jax.Array:
  """exp of the entropy of the ids in use: 1 is a collapse, `size` uniform."""
  counts = jnp.zeros(size).at[ids].add(valid.astype(jnp.float32))
  share = counts / jnp.maximum(counts.sum(), 1.0)
  return jnp.exp(-jnp.sum(share * jnp.log(share + _EPS)))


def prediction(logits: jax.Array, ids: jax.Array,
               masked: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy in nats of `ids` at masked steps, and the accuracy."""
  log_probs = jax.nn.log_softmax(logits, axis=-1)
  loss = -jnp.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]
  return (masked_mean(loss, masked),
          masked_mean(jnp.argmax(logits, -1) == ids, masked))


def unexplained(predicted: jax.Array, truth: jax.Array,
                mask: jax.Array) -> jax.Array:
  """The share of a spectrum's variance that is not predicted.

  Squared errors over the squared distances from each bin's mean: 1 is what the
  mean alone gives, 0 a perfect prediction.

  Args:
    predicted: [B, T, D].
    truth: the same shape.
    mask: [B, T] bool, the steps that count.
  """
  weights = mask[..., None] / jnp.maximum(mask.sum(), 1)
  mean = jnp.sum(truth * weights, axis=(0, 1))
  wrong = jnp.sum(jnp.square(predicted - truth) * weights)
  return wrong / (jnp.sum(jnp.square(truth - mean) * weights) + _EPS)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
  """Mean of `values` where `mask`; 0 where it is nowhere."""
  return jnp.sum(values * mask) / jnp.maximum(mask.sum(), 1)


def _unit(x):
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + _EPS)
