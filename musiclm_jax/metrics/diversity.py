"""How unlike each other are clips? Means of pairwise distances, by group.

All take distances [n, n] and the group of each clip, and give one number a
group, so that groups (prompts, not clips) are what intervals resample.
"""

from collections.abc import Sequence

import numpy as np


def cosine_distances(embeddings: np.ndarray) -> np.ndarray:
  """[n, D], of any length but 0 -> [n, n]: 1 less the cosine, 0..2."""
  embeddings = np.asarray(embeddings, np.float64)
  unit = embeddings / np.maximum(
      np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
  return np.clip(1.0 - unit @ unit.T, 0.0, 2.0)


def mean_distances(features: np.ndarray) -> np.ndarray:
  """[n, ...] -> [n, n] mean absolute differences, such as of log-mels."""
  flat = np.asarray(features, np.float32).reshape(len(features), -1)
  return np.stack([np.abs(flat - row).mean(-1, dtype=np.float64)
                   for row in flat])


def within(distances: np.ndarray, groups: Sequence) -> np.ndarray:
  """[g] mean over the pairs of each group, groups in sorted order.

  Args:
    distances: [n, n].
    groups: [n]; each has two clips or more.
  """
  names, group = np.unique(np.asarray(groups), return_inverse=True)
  found = []
  for index, name in enumerate(names):
    own = np.flatnonzero(group == index)
    if len(own) < 2:
      raise ValueError(f'group {name} has one clip; expected two or more.')
    part = distances[np.ix_(own, own)]
    found.append(part[np.triu_indices(len(own), 1)].mean())
  return np.array(found)


def across(distances: np.ndarray, groups: Sequence) -> np.ndarray:
  """[g] mean over the pairs of each group's clips with those of the others."""
  names, group = np.unique(np.asarray(groups), return_inverse=True)
  if len(names) < 2:
    raise ValueError(f'{len(names)} groups; expected two or more.')
  return np.array([distances[group == i][:, group != i].mean()
                   for i in range(len(names))])
