"""MAUVE of embeddings: what one set lacks of the other, or has beyond it."""

from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import measures
from musiclm_jax.metrics import mauve

HELP = 'MAUVE of embeddings beside those of the reference'
WANTS = ('reference',)
_LEAST = 10  # ours: clusters, below which a histogram says little


def begin(context: measures.Context) -> measures.Measure:
  """Loads the embedders and listens to the reference."""
  return embeddings.each(
      context, lambda *found: _figures(*found, context.seed))


def _figures(embedder, reference, row, seed):
  name = f'mauve_{embedder.name}'
  few = embeddings.too_few(row, name, better='higher')
  if few:
    return few
  found = mauve.measure(row.vectors, reference.vectors, row.tracks, seed)
  note = f'{found.clusters} clusters'
  if found.clusters < _LEAST:
    note += ', too few to tell rows apart'
  return [measures.Figure(
      name, found.value, found.low, found.high, row.clips, 'higher', note)]
