"""The first embeddings of a stage: what its codes stand for (ours).

A code is the name of a vector: of the codec's and MuLan's residual codebooks, of
the k-means over w2v-BERT, of the melody's. Where a stage begins with random
embeddings, a small one spends most of a short training on finding out which
codes are alike; here that is where it begins:

  vectors [Q, K, D] -> centred and scaled, level by level -> a random matrix
  [D, E], the same for all levels of a codebook -> embeddings, logits' rows

each with a vector for its level and some noise, so that no two codes are one.
The papers say nothing of it; their sizes begin at random.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.tokens import layout as layout_lib

# Of an embedding's variance: what the vector says, its level, noise (ours).
_SHARES = np.sqrt([0.65, 0.25, 0.10])


def embeddings(params: Mapping[str, Any], layout: layout_lib.Layout,
               codebooks: Mapping[str, np.ndarray], stddev: float,
               rng: jax.Array, sources: Sequence[str]) -> dict[str, Any]:
  """The parameters with embeddings that begin from codebooks.

  Args:
    params: fresh ones of a `decoder.Decoder`.
    layout: its tokens.Layout.
    codebooks: {source: [Q, K, D]}, of `cache.Cache.codebooks`. A segment of a
      source that is not in it keeps its random embeddings.
    stddev: of the input embeddings.
    rng: random key.
    sources: of all streams of the system, in order: stages that begin from one
      key share the matrix of a source.

  Returns:
    The parameters, of the same shapes and dtypes.

  Raises:
    ValueError: a codebook is not of its segment's size.
  """
  table, rows = params['token_embedding'], params['logits_embedding']
  target, width = layout.target, table.shape[1]
  for index, segment in enumerate(layout.placed):
    vectors = _vectors(segment, codebooks)
    if vectors is None:
      continue
    own = jax.random.fold_in(rng, index)
    shared = jax.random.fold_in(
        rng, len(layout.placed) + sources.index(segment.stream.source))
    matrix = jax.random.normal(shared, (vectors.shape[-1], width))
    known = (vectors.reshape(-1, vectors.shape[-1]) @ matrix
             / vectors.shape[-1]**0.5)
    level = jnp.repeat(
        jax.random.normal(own, (segment.num_codebooks, width)),
        segment.codebook_size, axis=0)
    ids = slice(segment.first_id, segment.last_id)
    mixed = lambda noise: (
        _SHARES[0] * known + _SHARES[1] * level + _SHARES[2] * noise)
    table = table.at[ids].set(stddev * mixed(table[ids] / stddev))
    if segment == target:
      place = ids if len(rows) > segment.num_ids else slice(None)
      scale = width**-0.5  # of logits_embedding; what a level shares says nothing
      rows = rows.at[place].set(
          _SHARES[0] * scale * known + _SHARES[2] * rows[place])
  return dict(params, token_embedding=table, logits_embedding=rows)


def _vectors(segment, codebooks):
  """[Q, K, D] of mean 0 and mean square 1 at each level; None: not known."""
  vectors = codebooks.get(segment.stream.source)
  if vectors is None:
    return None
  first = segment.first_level
  vectors = np.asarray(vectors, np.float32)[
      first:first + segment.num_codebooks]
  expected = (segment.num_codebooks, segment.codebook_size)
  if vectors.shape[:2] != expected:
    raise ValueError(
        f'{segment.name} has codebooks of shape {vectors.shape}; expected '
        f'{expected} and a dimension.')
  vectors = vectors - vectors.mean(axis=1, keepdims=True)
  size = np.sqrt(np.square(vectors).mean(axis=(1, 2), keepdims=True))
  return vectors / np.maximum(size, 1e-9)
