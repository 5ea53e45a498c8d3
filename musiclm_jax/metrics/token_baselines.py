"""What a stage's loss has to beat: the unigram, and a model that copies.

Everything is in nats per token and is told apart by level, since a residual
level is far harder than the first. Codes are [B, T, Q] int, -1 where padded.

  unigram entropy      of the targets themselves: what knowing the frequencies
                       alone costs
  bigram entropy       cross-entropy of the targets under `Bigram`, fitted on
                       other (training) codes

`Bigram` mixes six simple guesses, with weights that are fitted too:

  uniform     any code
  unigram     how often a code occurs at this level
  previous    what follows the code of the frame before, at this level
  above       what follows the preceding token: the level above in this frame,
              or for the first level the last of the frame before
  repeat      the code of the frame before
  recent      the codes of the last eight frames, equally

so that tokens which only repeat, and a codec that has collapsed, earn a stage no
credit. The weights depend on how often the contexts were seen.
"""

import dataclasses
from typing import Self

import numpy as np

from musiclm_jax.tokens import frequencies

GUESSES = ('uniform', 'unigram', 'previous', 'above', 'repeat', 'recent')
_RECENT_FRAMES = 8
# Contexts seen 0 times, 1-3, 4-15, 16 and more have weights of their own.
_BUCKETS = np.array([1, 4, 16])
_EM_STEPS = 30
_WEIGHT_SHARE = 4  # every fourth sequence fits the weights, the others counts


def entropy(codes: np.ndarray, codebook_size: int) -> np.ndarray:
  """[Q] nats: the entropy of each level's frequencies; codes [B, T, Q]."""
  return frequencies.entropy_of_counts(
      frequencies.level_counts(codes, codebook_size))


def usage(codes: np.ndarray, codebook_size: int) -> np.ndarray:
  """[Q] share of the codebook that occurs; codes [B, T, Q]."""
  return np.array([
      len(np.unique(_known(codes[..., level]))) / codebook_size
      for level in range(codes.shape[-1])])


def repeat_share(codes: np.ndarray) -> np.ndarray:
  """[Q] share of codes that equal the one a frame before."""
  past, present = codes[:, :-1], codes[:, 1:]
  both = (past >= 0) & (present >= 0)
  same = ((past == present) & both).sum(axis=(0, 1))
  return same / np.maximum(both.sum(axis=(0, 1)), 1)


@dataclasses.dataclass
class Bigram:
  """The fitted baseline of one stage.

  Attributes:
    codebook_size: K.
    unigram: [Q, K] probabilities.
    previous: [Q, K, K] counts, [level, code before, code].
    above: [Q, K, K] counts, [level, preceding token's code, code].
    weights: [Q, 4, 4, G] of the guesses, by how often the two contexts were
      seen.
    first: [Q, 2] of uniform and unigram, where there is no frame before.
  """

  codebook_size: int
  unigram: np.ndarray
  previous: np.ndarray
  above: np.ndarray
  weights: np.ndarray
  first: np.ndarray

  @classmethod
  def fit(
      cls, codes: np.ndarray, codebook_size: int,
      above: np.ndarray | None = None) -> Self:
    """Fits counts on three quarters of the sequences and weights on the rest.

    Args:
      codes: [B, T, Q] int training codes, B >= 2.
      codebook_size: K.
      above: [B, T] codes of the token before the first level where that is not
        the last level of the frame before: the fine stage's level 4.
    """
    if len(codes) < 2:
      raise ValueError(f'{len(codes)} sequences; expected at least 2.')
    held = np.arange(len(codes)) % _WEIGHT_SHARE == 1
    pick = lambda x, rows: None if x is None else x[rows]
    model = cls._counted(codes[~held], codebook_size, pick(above, ~held))
    model._fit_weights(codes[held], pick(above, held))
    full = cls._counted(codes, codebook_size, above)
    return dataclasses.replace(full, weights=model.weights, first=model.first)

  @classmethod
  def _counted(cls, codes, size, above):
    levels = codes.shape[-1]
    shape = (levels, size, size)
    unigram = np.zeros((levels, size))
    previous, over = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    contexts = _contexts(codes, above)
    for q in range(levels):
      x, before, higher = codes[..., q], contexts[0][..., q], contexts[1][..., q]
      unigram[q] = np.bincount(_known(x), minlength=size)
      for table, context in ((previous[q], before), (over[q], higher)):
        seen = (x >= 0) & (context >= 0)
        np.add.at(table, (context[seen], x[seen]), 1.0)
    unigram = (unigram + 1e-9) / (unigram + 1e-9).sum(-1, keepdims=True)
    return cls(size, unigram, previous, over,
               np.full((levels, 4, 4, len(GUESSES)), 1 / len(GUESSES)),
               np.full((levels, 2), 0.5))

  def _fit_weights(self, codes, above):
    """Expectation maximisation of the mixture on `codes`."""
    for q in range(codes.shape[-1]):
      guesses, buckets, has_past = self._guesses(codes, above, q)
      group = buckets[has_past]
      part = guesses[has_past]
      weights = self.weights[q].reshape(-1, len(GUESSES))
      overall = _mixture(part, np.full(len(GUESSES), 1 / len(GUESSES)))
      for b in range(len(weights)):
        rows = part[group == b]
        # A bucket that is rare here starts from, and leans on, all of them.
        weights[b] = _mixture(rows, overall, prior=50.0)
      self.weights[q] = weights.reshape(self.weights[q].shape)
      start = guesses[~has_past][:, :2]
      self.first[q] = _mixture(start, np.array([0.5, 0.5]), prior=2.0)

  def nats(
      self, codes: np.ndarray, above: np.ndarray | None = None) -> np.ndarray:
    """[Q] mean cost of codes [B, T, Q]; `above` as in `fit`."""
    result = []
    for q in range(codes.shape[-1]):
      guesses, buckets, has_past = self._guesses(codes, above, q)
      weights = self.weights[q].reshape(-1, len(GUESSES))
      probability = np.where(
          has_past, (guesses * weights[buckets]).sum(-1),
          (guesses[:, :2] * self.first[q]).sum(-1))
      result.append(-np.log(probability).mean())
    return np.array(result)

  def _guesses(self, codes, above, q):
    """([N, G] probability each guess gives, [N] bucket, [N] has a past)."""
    before, higher = (c[..., q] for c in _contexts(codes, above))
    recent = _recent(codes[..., q])
    x = codes[..., q]
    known = x >= 0
    x, before, higher, recent = x[known], before[known], higher[known], (
        recent[known])
    columns = [np.full(len(x), 1.0 / self.codebook_size), self.unigram[q][x]]
    seen = []
    for table, context in ((self.previous[q], before), (self.above[q], higher)):
      row = np.maximum(context, 0)
      total = np.where(context >= 0, table.sum(-1)[row], 0.0)
      columns.append(np.where(
          total > 0, table[row, x] / np.maximum(total, 1), columns[1]))
      seen.append(np.digitize(total, _BUCKETS))
    columns += [(before == x).astype(float), recent]
    return np.stack(columns, -1), seen[0] * 4 + seen[1], before >= 0


def _contexts(codes, above):
  """([B, T, Q] code a frame before, [B, T, Q] code of the preceding token)."""
  before = np.full_like(codes, -1)
  before[:, 1:] = codes[:, :-1]
  higher = np.empty_like(codes)
  higher[..., 1:] = codes[..., :-1]
  higher[..., 0] = before[..., -1] if above is None else above
  return before, higher


def _recent(codes):
  """[B, T] share of the last eight frames that hold this frame's code."""
  hits = np.zeros(codes.shape)
  frames = np.zeros(codes.shape)
  for lag in range(1, min(_RECENT_FRAMES, codes.shape[1] - 1) + 1):
    past = codes[:, :-lag]
    hits[:, lag:] += (past == codes[:, lag:]) & (past >= 0)
    frames[:, lag:] += past >= 0
  return hits / np.maximum(frames, 1)


def _mixture(guesses, start, prior=0.0):
  """[G] weights that make [N, G] guesses likely, from `start` by EM.

  `prior` pseudo-observations are divided as `start` says; so no weight that was
  above zero becomes zero.
  """
  weights = start / start.sum()
  anchor = (prior + 1e-3) * weights
  for _ in range(_EM_STEPS):
    joint = guesses * weights
    share = joint / np.maximum(joint.sum(-1, keepdims=True), 1e-30)
    weights = share.sum(0) + anchor
    weights = weights / weights.sum()
  return weights


def _known(codes):
  """The codes that are not padding, flat."""
  codes = np.asarray(codes).reshape(-1)
  return codes[codes >= 0]
