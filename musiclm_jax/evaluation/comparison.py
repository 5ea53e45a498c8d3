"""All measures over all rows: one table.

  reference ──> begin of each measure, once
  row: drawn, other half, codec, retrieved, noise ──> each measure ──> figures

A measure that has nothing to measure by (no captions, no such package) is listed
with the reason; the table goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures as measures_lib
from musiclm_jax.evaluation import tables


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    name: such as 'drawn'.
    clips: what is measured.
    note: what it is, for readers.
    reference: what it is held against in place of the table's own, or None.
      Only measures of whole sets are taken then: there are no pairs.
  """

  name: str
  clips: clip_sets.ClipSet
  note: str = ''
  reference: clip_sets.ClipSet | None = None


def chosen(names: str | None) -> dict[str, Any]:
  """{name: module} of the measures of a comma-separated list; None: all."""
  known = measures_lib.known()
  if names is None:
    return known
  found = {}
  for name in filter(None, (n.strip() for n in names.split(','))):
    if name not in known:
      raise errors.choice('measure', name, known)
    found[name] = known[name]
  if not found:
    raise errors.UserError(
        f'--measures names none; known: {", ".join(known)}.')
  return found


def compare(
    rows: Sequence[Row], context: measures_lib.Context,
    measures: dict[str, Any],
    notes: Sequence[str] = ()) -> tables.Table:
  """Takes every measure of every row.

  Args:
    rows: what is measured, in the order of the table.
    context: what it is held against; its provenance grows.
    measures: as of `chosen`.
    notes: lines below the table, after those of the rows.

  Returns:
    A tables.Table.
  """
  found: dict[str, dict[str, measures_lib.Figure]] = {r.name: {} for r in rows}
  not_measured = {}
  for name, module in measures.items():
    lacks = _lacks(module.WANTS, context, rows)
    if lacks:
      not_measured[name] = lacks
      continue
    context.say(f'{name}: {module.HELP}')
    try:
      measure = module.begin(context)
    except measures_lib.Unavailable as error:
      not_measured[name] = str(error)
      continue
    for row in rows:
      taken = _take(module, measure, row, context)
      found[row.name].update({figure.name: figure for figure in taken})
  return tables.Table.of(
      {name: row.values() for name, row in found.items()}, not_measured,
      [*(f'{r.name}: {r.note}' for r in rows if r.note), *notes])


def _take(module: Any, measure: Callable, row: Row,
          context: measures_lib.Context) -> Sequence[measures_lib.Figure]:
  """The figures of a row."""
  if row.reference is None:
    return measure(row.clips)
  if set(module.WANTS) - {'reference'}:
    return ()
  # What measures keep for one another is about the reference, so it is apart.
  own = dataclasses.replace(
      context, reference=row.reference, statistics=None,
      shared=context.shared.setdefault(('row', row.name), {}))
  return module.begin(own)(row.clips)


def _lacks(wants: Sequence[str], context: measures_lib.Context,
           rows: Sequence[Row]) -> str:
  """Why a measure that wants these things has nothing to measure; '' if not."""
  reference = context.reference
  clips = [c for row in rows for c in row.clips.clips]
  if 'reference' in wants and reference is None and context.statistics is None:
    return 'there are no recordings to hold the clips against'
  if 'pairs' in wants:
    if reference is None:
      return 'there are no recordings that belong to the clips'
    if not any(c.id in reference for c in clips):
      return 'no clip has the id of a recording'
  if 'captions' in wants and not any(c.caption for c in clips):
    return 'the clips have no captions'
  if 'facts' in wants and not any(c.facts for c in clips):
    return 'nothing is known of the clips'
  if 'melody' in wants and (reference is None and not any(
      c.facts.get('melody') for c in clips)):
    return 'there are no melodies that belong to the clips'
  return ''


def halves(reference: clip_sets.ClipSet) -> tuple[clip_sets.ClipSet,
                                                 clip_sets.ClipSet] | None:
  """The reference's tracks in two halves, every other one; None of one track."""
  tracks = sorted({c.track for c in reference.clips})
  if len(tracks) < 2:
    return None
  first = set(tracks[::2])
  of = lambda ours: reference.only(
      c.id for c in reference.clips if (c.track in first) == ours)
  return of(True), of(False)
