"""The JSON of an evaluation as what pages show."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import math
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import tables
from musiclm_jax.evaluation.pages import charts

MOST_BYTES = 64 << 20  # of a JSON file
_ENDS = ('_low', '_high')
# What says where figures come from, at the top level of any evaluation's JSON.
_FACTS = ('command', 'git_commit', 'bundle', 'bundle_fingerprint', 'corpus',
          'split', 'seed', 'machine', 'python', 'wall_seconds')
# What some evaluation wrote has one of these. Other commands' figures have a
# commit as well, but no time that an evaluation took.
_SIGNS = ('wall_seconds', 'provenance', 'table', 'curves', 'sections')


class Foreign(errors.UserError):
  """A file that no evaluation wrote; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Item:
  """A clip to hear in several forms.

  Attributes:
    id: of the clip.
    caption: '' where there is none.
    sounds: {row name: file}.
  """

  id: str
  caption: str
  sounds: Mapping[str, pathlib.Path]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One evaluation's JSON.

  Attributes:
    name: of the file, with its folder in the report's folder, without suffix.
    title: of the page that the evaluation itself would write, or the name.
    judged: what was judged, in words, or ''.
    sections: report.Sections, of newer files.
    text: what the terminal showed, of recorded ones without sections.
    table: tables.Table, or None.
    published: tables.Published, or None.
    charts: of the curves.
    items: clips to hear.
    figures: the flat ones, with their intervals.
    provenance: what they rest on.
  """

  name: str
  title: str
  judged: str
  sections: tuple[report.Section, ...]
  text: str
  table: tables.Table | None
  published: tables.Published | None
  charts: tuple[charts.Chart, ...]
  items: tuple[Item, ...]
  figures: Mapping[str, measures.Figure]
  provenance: Mapping[str, Any]

  @property
  def verdicts(self) -> tuple[str, ...]:
    """What its sections come to, a line each."""
    if self.sections:
      return tuple(s.verdict for s in self.sections if s.verdict)
    return tuple(line.strip().removeprefix('-> ')
                 for line in self.text.splitlines()
                 if line.strip().startswith('-> '))

  def every(self) -> dict[tuple[str, str], measures.Figure]:
    """{(row or '', figure): Figure}, of the table and the flat ones."""
    found = {('', name): figure for name, figure in self.figures.items()}
    for row in self.table.rows if self.table else ():
      found.update({(row.name, k): f for k, f in row.figures.items()})
    return found


def read(path: pathlib.Path, name: str) -> Evaluation:
  """What is in a JSON file.

  Raises:
    Foreign: no evaluation wrote it.
    UserError: it is damaged.
  """
  with errors.of_files(path):
    size = path.stat().st_size
    if size > MOST_BYTES:
      raise errors.UserError(
          f'it has {size >> 20} MiB; at most {MOST_BYTES >> 20} are read.')
    content = path.read_bytes()
  try:
    found = json.loads(content)
  except (ValueError, RecursionError) as error:
    raise errors.UserError(f'it is no JSON ({error}).') from error
  if not isinstance(found, dict) or not any(sign in found for sign in _SIGNS):
    raise Foreign('no evaluation wrote it.')
  made = _of(found, path, name)
  if not (made.figures or made.table or made.charts or made.sections or
          made.items):
    raise Foreign('it has no figures.')
  return made


def _of(found, path, name):
  flat, facts = _split(found)
  published = found.get('published')
  return Evaluation(
      name, str(found.get('title') or name), str(found.get('judged') or ''),
      tuple(_section(s, i) for i, s in enumerate(_listed(found, 'sections'))),
      str(found.get('text') or ''),
      tables.Table.from_json(found['table'], 'table')
      if found.get('table') else None,
      tables.Published.from_json(published, 'published') if published else None,
      charts.from_json(found.get('curves') or {}, 'curves'),
      tuple(_item(c, i, path.parent)
            for i, c in enumerate(_listed(found, 'clips'))),
      grouped(flat), facts)


def _split(found):
  """(the numbers at the top level that are figures, the provenance)."""
  facts = {key: value for key, value in found.items()
           if key in _FACTS or key.startswith('version_')}
  flat = {key: tables.checked_number(value, key) for key, value in found.items()
          if isinstance(value, (int, float)) and not isinstance(value, bool)
          and key not in facts}
  told = found.get('provenance')
  if isinstance(told, dict):
    facts = {**facts, **told}
  return flat, facts


def grouped(flat: Mapping[str, float]) -> dict[str, measures.Figure]:
  """Figures, those named like another with _low and _high as its interval.

  >>> list(grouped(dict(a=1.0, a_low=0.5, a_high=2.0, b_low=3.0)))
  ['a', 'b_low']
  """
  whole = {name for name in flat if all(name + end in flat for end in _ENDS)}
  ends = {name + end for name in whole for end in _ENDS}
  return {name: measures.Figure(name, value, *(
      flat[name + end] if name in whole else None for end in _ENDS))
          for name, value in flat.items() if name not in ends}


def _listed(found, key):
  value = found.get(key) or []
  # Before clips were to be heard, some evaluations counted them by this name.
  if key == 'clips' and isinstance(value, (int, float)):
    return []
  return tables.check(value, list, key)


def _section(found, index):
  where, lines = f'sections: {index + 1}', []
  tables.check(found, dict, where)
  for line in tables.check(found.get('lines') or [], list, where):
    line = tables.check(line, dict, where)
    lines.append(report.Line(*(str(line.get(key) or '') for key in (
        'name', 'value', 'against', 'note'))))
  return report.Section(str(found.get('title') or ''), tuple(lines),
                        str(found.get('verdict') or ''))


def _item(found, index, folder):
  where = f'clips: {index + 1}'
  tables.check(found, dict, where)
  sounds = tables.check(found.get('sounds') or {}, dict, f'{where}: sounds')
  return Item(str(found.get('id', index + 1)), str(found.get('caption') or ''),
              {str(k): folder / str(v) for k, v in sounds.items()})



def finite(figure: measures.Figure) -> bool:
  """Whether it has a value to count with."""
  return figure.value is not None and math.isfinite(figure.value)
