"""What the protocols of captions and folders have in common: options, outcome."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import html
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation import measures as measures_lib
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import published
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import tables

_HEARD = 6  # clips that the page plays


@dataclasses.dataclass(frozen=True)
class TableSection(report.Section):
  """A whole table where other evaluations have lines."""

  table: tables.Table = tables.Table((), ())

  def text(self) -> str:
    return f'{self.title}\n{self.table.text()}'

  def html(self) -> str:
    return f'<h2>{html.escape(self.title)}</h2>{_html(self.table)}'


def _html(table: tables.Table) -> str:
  """A table whose rows are figures, since there are many, and columns sets."""
  notes = tables.Footnotes()
  cell = lambda value: f'<td class="number">{html.escape(value)}</td>'
  head = ''.join(f'<th>{html.escape(row.name)}</th>' for row in table.rows)
  rows = ''.join(
      f'<tr><td>{html.escape(name)} <span class="note">'
      f'{html.escape(table.better(name))}</span></td>' + ''.join(
          cell(notes.cell(row.figures.get(name))) for row in table.rows) +
      '</tr>' for name in table.columns)
  below = [f'({n}) {note}' for n, note in notes.listed()]
  below += [f'{name} was not measured: {why}'
            for name, why in table.not_measured.items()]
  below += table.notes
  return (f'<table><tr><th></th>{head}</tr>{rows}</table>' + ''.join(
      f'<p class="note">{html.escape(line)}</p>' for line in below))


def listeners(options: Any) -> dict[str, tuple[str, ...]]:
  """{kind: names} of --embedder, --classifier and --joint, where given."""
  found = {}
  for kind in ('embedder', 'classifier', 'joint'):
    given = getattr(options, kind, None)
    if given:
      found[kind] = tuple(n.strip() for n in given.split(',') if n.strip())
  return found


def measured(
    asked: runnable.Asked, rows: Sequence[comparison.Row],
    reference: clip_sets.ClipSet | None, title: str, judged: str,
    statistics: Any = None, notes: Sequence[str] = (),
    folder: pathlib.Path | None = None,
    about: Mapping[str, Any] | None = None,
    after: Callable[[measures_lib.Context], None] = lambda context: None
) -> runnable.Outcome:
  """Compares the rows and makes an Outcome of the table.

  Args:
    asked: of the evaluation.
    rows: comparison.Rows.
    reference: recordings, or None.
    title: of the page.
    judged: what was judged, in words.
    statistics: of a reference, saved, or None.
    notes: lines below the table.
    folder: where the JSON's clips are relative to, or None.
    about: what else the JSON says.
    after: is given the Context once everything is measured.
  """
  options = asked.options
  context = measures_lib.Context(
      reference=reference, statistics=statistics, bundle=asked.bundle,
      listeners=listeners(options), seed=options.seed, say=asked.say)
  table = comparison.compare(
      rows, context, comparison.chosen(options.measures), notes)
  # Clips turn out to be unusable while they are read.
  table = dataclasses.replace(
      table, notes=(*table.notes, *refusals(rows, reference)))
  after(context)
  section = TableSection(title, (), table=table)
  asked.show(section)
  sets = {row.name: row.clips for row in rows}
  if reference is not None:
    sets['reference'] = reference
  figures = {f'{row.name}_{name}'.replace(' ', '_'): figure.value
             for row in table.rows for name, figure in row.figures.items()
             if figure.value is not None}
  return runnable.Outcome(
      figures, [section], dict(
          about or {}, table=table.to_json(), published=published.table(),
          clips=players(rows, folder),
          provenance=provenance.of(
              asked.bundle, options.seed, sets, listeners=context.provenance)),
      title, judged, sounds=heard(rows))


def refusals(rows: Sequence[comparison.Row],
             reference: clip_sets.ClipSet | None) -> list[str]:
  """A line for each set of which clips were left out, and for lost pairs."""
  sets = [(row.name, row.clips) for row in rows]
  if reference is not None:
    sets.append(('reference', reference))
  lines = []
  for name, clips in sets:
    if clips.refused:
      reasons = ', '.join(f'{count} {reason}' for reason, count
                          in sorted(clips.counted().items()))
      lines.append(f'{name}: {len(clips.refused)} of {len(clips)} clips left '
                   f'out ({reasons})')
  if reference is not None:
    for row in rows:
      if row.reference is None:
        alone = sum(c.id not in reference for c in row.clips.clips)
        if alone:
          lines.append(f'{row.name}: {alone} of {len(row.clips)} clips belong '
                       f'to no recording')
  for name, clips in sets:
    without = sum(not c.caption for c in clips.clips)
    if 0 < without < len(clips):
      lines.append(f'{name}: {without} of {len(clips)} clips have no caption')
  return lines


def players(rows: Sequence[comparison.Row], folder: pathlib.Path | None
            ) -> list[dict[str, Any]]:
  """[{id, caption, sounds: {row: path}}] of clips that are files."""
  if folder is None or not rows:
    return []
  found = []
  for clip in rows[0].clips.clips[:_HEARD * 4]:
    sounds = {}
    for row in rows:
      if row.reference is None and clip.id in row.clips:
        path = pathlib.Path(row.clips.clip(clip.id).where)
        if path.is_file():
          sounds[row.name] = str(path.resolve())
    found.append(dict(id=clip.id, caption=clip.caption, sounds=sounds))
  return found


def heard(rows: Sequence[comparison.Row], rate: int = 24_000) -> list[Any]:
  """The page's players: the first clips of each row."""
  made = []
  for clip in rows[0].clips.clips[:_HEARD] if rows else ():
    columns = []
    for row in rows:
      if row.reference is None and clip.id in row.clips:
        try:
          columns.append((row.name, row.clips.read(clip.id, rate), rate))
        except clip_sets.Refused:
          pass
    # A row of the page has the columns of the first one.
    if not made or len(columns) == len(made[0][1]):
      made.append((clip.caption or clip.id, columns))
  return made


def check_captions(clips: clip_sets.ClipSet, what: str) -> clip_sets.ClipSet:
  """Those with captions; UserError where there are none."""
  named = clips.only(c.id for c in clips.clips if c.caption)
  if not len(named):
    raise errors.UserError(
        f'none of the {len(clips)} clips of {what} has a caption; give a CSV '
        f'with the columns id and caption.')
  return named
