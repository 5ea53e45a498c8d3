"""What knowing how often each code occurs is worth, in nats per token."""

import numpy as np
import numpy.typing as npt


def entropy_of_counts(counts: np.ndarray) -> np.ndarray:
  """[..., K] counts -> [...] nats: the plug-in entropy, corrected.

  Biased low by about (used - 1) / 2n nats for n tokens (Miller, 1955), which is
  added; never above ln K.
  """
  total = np.maximum(counts.sum(axis=-1), 1)
  share = counts / total[..., None]
  nats = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=-1)
  used = np.maximum((counts > 0).sum(axis=-1), 1)
  return np.minimum(nats + (used - 1) / (2 * total), np.log(counts.shape[-1]))


def level_counts(codes: npt.ArrayLike, codebook_size: int) -> np.ndarray:
  """[..., Q] codes, -1 where padded -> [Q, K] how often each occurs."""
  codes = np.asarray(codes).reshape(-1, np.shape(codes)[-1])
  return np.stack([
      np.bincount(level[level >= 0], minlength=codebook_size)
      for level in codes.T])
