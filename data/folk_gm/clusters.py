"""Clusters of near-identical melodies, so that no melody stands in two splits.

Hundreds of the tunes are variants of each other, in another key, metre or
notation. Two tunes are joined when they share enough n-grams of either
  * interval and relative duration between neighbouring notes, or
  * intervals between the notes that sound on an even grid of the bar,
    which survives ornaments and passing notes.
Both are invariant to transposition, the first also to the note values.
"""

import hashlib

import numpy as np
from scipy import sparse

from musiclm_jax.data import graphs

_NOTE_GRAM, _GRID_GRAM = 5, 7
_MIN_SHARE = 0.20
_MIN_GRAMS = 12
_COMMON = 0.02  # n-grams in more than this share of the tunes say nothing
_GRID = dict(duple=4, jig=6, slip=9, triple=6)
_GRID['double jig'] = 12

SHARES = dict(train=0.90, validation=0.04, test=0.06)


def note_grams(tune):
  """The set of n-grams of (interval, quantised log2 duration ratio)."""
  pitch = tune.notes[:, 2].astype(int)
  step = np.diff(pitch)
  ratio = np.round(2 * np.diff(np.log2(tune.notes[:, 1]))).astype(int)
  items = list(zip(step.tolist(), ratio.tolist()))
  return {tuple(items[i:i + _NOTE_GRAM])
          for i in range(len(items) - _NOTE_GRAM + 1)}


def grid_grams(tune):
  """The set of interval n-grams between the notes sounding on the grid."""
  per_bar = _GRID[tune.metre]
  times = np.arange(tune.num_bars * per_bar) / per_bar
  index = np.searchsorted(tune.notes[:, 0], times + 1e-6, side='right') - 1
  pitch = tune.notes[np.maximum(index, 0), 2].astype(int)
  step = np.diff(pitch)
  grams = {tuple(step[i:i + _GRID_GRAM].tolist())
           for i in range(len(step) - _GRID_GRAM + 1)}
  # Held notes look alike in every tune.
  return {gram for gram in grams if np.count_nonzero(gram) >= 5}


def share_matrix(gram_sets):
  """[n, n] sparse: shared n-grams over those of the smaller set."""
  vocabulary, rows, columns = {}, [], []
  for row, grams in enumerate(gram_sets):
    for gram in grams:
      rows.append(row)
      columns.append(vocabulary.setdefault(gram, len(vocabulary)))
  matrix = sparse.csr_matrix(
      (np.ones(len(rows), np.float32), (rows, columns)),
      shape=(len(gram_sets), max(len(vocabulary), 1)))
  frequency = np.asarray(matrix.sum(axis=0)).ravel()
  limit = max(20, _COMMON * len(gram_sets))
  matrix = matrix[:, frequency <= limit]
  size = np.asarray(matrix.sum(axis=1)).ravel()
  shared = (matrix @ matrix.T).tocoo()
  smaller = np.minimum(size[shared.row], size[shared.col])
  share = shared.data / np.maximum(smaller, _MIN_GRAMS)
  return shared.row, shared.col, share


def assign(tunes, min_share=_MIN_SHARE):
  """The cluster of each tune.

  Args:
    tunes: Tunes.
    min_share: share of common n-grams from which two tunes are one melody.

  Returns:
    Names, one a tune: the smallest id among the cluster's tunes.
  """
  pairs = []
  for grams in (note_grams, grid_grams):
    rows, columns, share = share_matrix([grams(t) for t in tunes])
    keep = (rows < columns) & (share >= min_share)
    pairs += zip(rows[keep].tolist(), columns[keep].tolist())
  found = graphs.components(len(tunes), pairs)
  names = {}
  for cluster, tune in zip(found, tunes):
    names[cluster] = min(names.get(cluster, tune.id), tune.id)
  return [names[cluster] for cluster in found]


def split_of(cluster):
  """The split of a cluster: by a hash of its name, the same in every corpus."""
  digest = hashlib.sha256(f'folk_gm/{cluster}'.encode()).digest()
  u = int.from_bytes(digest[:8], 'big') / 2**64
  for split, share in SHARES.items():
    if u < share:
      return split
    u -= share
  return 'test'
