"""Kernel audio distance: unbiased, so that small sets can be held side by side."""

from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import measures

HELP = 'kernel distance (MMD) of embeddings to those of the reference'
WANTS = ('reference',)


def begin(context: measures.Context) -> measures.Measure:
  """Loads the embedders and listens to the reference."""
  return embeddings.each(
      context, lambda *found: _figures(*found, context.seed))


def _figures(embedder, reference, row, seed):
  name = f'kad_{embedder.name}'
  few = embeddings.too_few(row, name)
  if few:
    return few
  value = reference.kernel.distance(row.vectors)
  edges = reference.kernel.interval(row.vectors, row.tracks, value, seed)
  return [measures.Figure(
      name, value, *(edges or (None, None)), row.clips, 'lower',
      '' if edges else 'too few tracks for an interval')]
