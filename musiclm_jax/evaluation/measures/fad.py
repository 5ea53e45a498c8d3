"""Frechet audio distance: of a row, of its halves, and without its size's bias."""

from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import measures
from musiclm_jax.metrics import frechet

HELP = 'Frechet distance of embeddings to those of the reference'
WANTS = ('reference',)
# ours: points that lie so far off the line, as a share of the distance, are
# mentioned where R^2 is below the other. A flat line has a low R^2 by itself.
_OFF, _FIT = 0.1, 0.5


def begin(context: measures.Context) -> measures.Measure:
  """Loads the embedders and listens to the reference."""
  return embeddings.each(
      context, lambda *found: _figures(*found, context.seed))


def _figures(embedder, reference, row, seed):
  name = f'fad_{embedder.name}'
  names = name, f'fad_half_{embedder.name}', f'fad_inf_{embedder.name}'
  few = embeddings.too_few(row, *names)
  if few:
    return few
  moments = frechet.Moments.of(row.vectors)
  value = reference.normal.distance(moments)
  note = _ranks(moments, reference.moments)
  tracks = len(set(row.tracks))
  if tracks < frechet.LEAST_TRACKS:
    short = (f'{tracks} tracks; an interval, halves and the extrapolation need '
             f'{frechet.LEAST_TRACKS}')
    return [measures.Figure(
        n, value if n == name else None, count=row.clips, better='lower',
        note='; '.join(filter(None, (note, short)))) for n in names]
  line = frechet.to_infinity(reference.normal, row.vectors, row.tracks, seed)
  edges = frechet.interval(
      reference.normal, row.vectors, row.tracks, (value, line.value), seed)
  whole, infinite = edges or ((None, None), (None, None))
  if edges is None:
    note = '; '.join(filter(None, (note, (
        f'no interval: {row.vectors.shape[1]} dimensions would take too long'))))
  poor = line.fit < _FIT and line.rest > _OFF * value
  fit = (f'line in 1/n from half the tracks to all, R^2 {line.fit:.2f}'
         f'{": poor, do not rely on it" if poor else ""}')
  return [
      measures.Figure(name, value, *whole, row.clips, 'lower', note),
      measures.Figure(names[1], line.half, count=row.clips // 2,
                      better='lower', note=note),
      measures.Figure(names[2], line.value, *infinite, row.clips, 'lower',
                      '; '.join(filter(None, (fit, note))))]


def _ranks(row, reference):
  """What to know where a covariance is not of full rank."""
  short = [f'the {title} has {moments.count} vectors'
           for title, moments in (('row', row), ('reference', reference))
           if not moments.full_rank]
  if not short:
    return ''
  return (f'{" and ".join(short)} for {len(row.mean)} dimensions, too few for a '
          f'covariance of full rank: see KAD')
