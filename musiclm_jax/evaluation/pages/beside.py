"""Two reports side by side: what differs, and whether it can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import math
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation.pages import cells
from musiclm_jax.evaluation.pages import charts
from musiclm_jax.evaluation.pages import folder as folder_lib
from musiclm_jax.evaluation.pages import markup
from musiclm_jax.evaluation.pages import measured

tag = markup.tag

# What figures do not depend on, or only through what else is compared.
_LIGHT = frozenset({'command', 'machine', 'python', 'wall_seconds',
                    'refused_clips'})
_MOST_OPEN = 20  # figures that are not folded


@dataclasses.dataclass(frozen=True)
class Pair:
  """One figure in both.

  Attributes:
    row, name: of the figure.
    one, other: it.
    listener: that it comes from and that differs between the two, or ''.
  """

  row: str
  name: str
  one: measures.Figure
  other: measures.Figure
  listener: str = ''

  @property
  def difference(self) -> float | None:
    """one - other; None where one of them has no value."""
    if measured.finite(self.one) and measured.finite(self.other):
      return self.one.value - self.other.value
    return None

  @property
  def apart(self) -> bool:
    """Whether both have intervals, and these do not overlap.

    What different listeners heard is on different scales, and never apart.
    """
    ends = (self.one.low, self.one.high, self.other.low, self.other.high)
    if self.listener or self.difference is None or any(
        e is None or not math.isfinite(e) for e in ends):
      return False
    return ends[0] > ends[3] or ends[2] > ends[1]

  @property
  def verdict(self) -> str:
    """'better' or 'worse' of those apart where it is known, else ''."""
    better = self.one.better or self.other.better
    if not self.apart or not better:
      return ''
    return 'better' if (self.difference > 0) == (better == 'higher') else 'worse'


def pairs(one: measured.Evaluation, other: measured.Evaluation) -> list[Pair]:
  """Figures that both have, in the order of the first."""
  theirs = other.every()
  differ = _listeners(circumstances(one.provenance, other.provenance))
  return [Pair(*key, figure, theirs[key], next(
      (name for name in differ if name in key[1]), ''))
          for key, figure in one.every().items() if key in theirs]


def _listeners(found):
  """Names, as figures have them, of the listeners that differ.

  >>> _listeners({'seed': 0, 'listeners: /models/vggish.onnx: hop': 0})
  ['vggish']
  """
  names = (key.split(': ')[1] for key in found if key.startswith('listeners: '))
  return list(dict.fromkeys(pathlib.PurePath(name).stem for name in names))


def circumstances(one: Mapping[str, Any], other: Mapping[str, Any]
                  ) -> dict[str, tuple[Any, Any]]:
  """{what: (in one, in the other)} of provenance that figures depend on.

  >>> circumstances({'seed': 0, 'a': {'b': 1}}, {'seed': 0, 'a': {'b': 2}})
  {'a: b': (1, 2)}
  """
  ours, theirs = dict(_leaves(one)), dict(_leaves(other))
  return {key: (ours.get(key), theirs.get(key))
          for key in dict.fromkeys([*ours, *theirs])
          if ours.get(key) != theirs.get(key)}


def _leaves(found: Mapping[str, Any], path: str = ''
            ) -> Iterator[tuple[str, Any]]:
  for key, value in found.items():
    if key in _LIGHT or str(key).startswith('version_'):
      continue
    name = f'{path}: {key}' if path else str(key)
    if isinstance(value, Mapping):
      yield from _leaves(value, name)
    else:
      yield name, value


def check(one: folder_lib.Folder, other: folder_lib.Folder) -> None:
  """UserError unless there is something to hold side by side."""
  if _shared(one.evaluations, other.evaluations) or _shared(
      one.runs, other.runs):
    return
  names = lambda f: ', '.join(
      [x.name for x in (*f.evaluations, *f.runs)][:6]) or 'neither'
  raise errors.UserError(
      f'{one.directory} and {other.directory} have no evaluation and no '
      f'training of one name: {names(one)} here, {names(other)} there; give '
      f'files of the same evaluation the same name.')


def _shared(ones, others):
  """[(one, other)] of the same name."""
  theirs = {x.name: x for x in others}
  return [(x, theirs[x.name]) for x in ones if x.name in theirs]


def html(one: folder_lib.Folder, other: folder_lib.Folder
         ) -> tuple[markup.Html, str]:
  """(the section, what it comes to in a line)."""
  labels = (one.label, other.label)
  if labels[0] == labels[1]:
    labels = (str(one.directory), str(other.directory))
  parts, found, differ = [], [], {}
  for ours, theirs in _shared(one.evaluations, other.evaluations):
    both = pairs(ours, theirs)
    found += both
    states = circumstances(ours.provenance, theirs.provenance)
    differ.update(states)
    parts += [tag('h3', ours.name), _circumstances(states, labels),
              _tables(both, labels), _only(ours, theirs, labels),
              _charts(_overlaid(ours.charts, theirs.charts, labels))]
  for ours, theirs in _shared(one.runs, other.runs):
    if ours.loss and theirs.loss:
      loss = dataclasses.replace(theirs.loss, title=ours.loss.title)
      parts += [tag('h3', f'training: {ours.name}'),
                _charts(_overlaid([ours.loss], [loss], labels))]
  told = _summary(found, labels, differ)
  lone = [f'Only in {label}: {", ".join(names)}.'
          for label, names in zip(labels, _lone(one, other)) if names]
  return tag('section', tag('h2', f'{labels[0]} against {labels[1]}'),
             tag('p', told, class_='verdict'),
             tag('p', 'Differences are of what is shown first, less what is '
                 'shown second. Intervals that overlap do not show that two '
                 'are alike.', class_='note'),
             *(tag('p', line, class_='note') for line in lone), *parts,
             id='against'), told


def _summary(found, labels, differ):
  """One line."""
  apart = [p for p in found if p.apart]
  with_interval = sum(p.one.low is not None and p.other.low is not None
                      for p in found)
  told = (f'{labels[0]} against {labels[1]}: {markup.count(len(found), "figure")}'
          f' in both, {len(apart)} of {with_interval} with intervals apart')
  counts = [f'{sum(p.verdict == v for p in apart)} {v}'
            for v in ('better', 'worse') if any(p.verdict == v for p in apart)]
  told += f' ({", ".join(counts)})' if counts else ''
  kinds = list(dict.fromkeys(key.split(': ')[0] for key in differ))
  return told + (f'; they differ in {", ".join(kinds)}.' if kinds else '.')


def _circumstances(found, labels):
  if not found:
    return tag('p', 'Of the same circumstances, as far as the files say.',
               class_='note')
  rows = [tag('tr', tag('th', what), *(
      tag('td', tag('code', 'not said' if v is None else v)) for v in values))
          for what, values in found.items()]
  return tag('div', tag('p', tag('b', 'Not of the same: '), ', '.join(found),
                        '. What differs below may do so for that reason.'),
             markup.folded('what they are', markup.scrolled(tag(
                 'table', tag('tr', tag('td'), *(tag('th', x) for x in labels)),
                 *rows))), class_='warning')


def _tables(both, labels):
  """First those that are apart, then all, folded where they are many."""
  if not both:
    return tag('p', 'They have no figure in common.', class_='note')
  apart = [p for p in both if p.apart]
  parts = [tag('p', tag('b', markup.count(len(apart), 'figure')),
               ' with intervals that do not overlap.') if apart else
           tag('p', 'No two intervals are apart.')]
  if apart:
    parts.append(_table(apart, labels))
  if len(apart) < len(both):
    parts.append(markup.folded(
        f'{markup.count(len(both), "figure")} in both', _table(both, labels),
        open_=len(both) <= _MOST_OPEN))
  unlike = sorted({p.listener for p in both if p.listener})
  if unlike:
    parts.append(tag('p', f'Of {", ".join(unlike)} they had different '
                     f'listeners: those figures cannot be compared.',
                     class_='note'))
  return markup.joined(*parts)


def _table(both, labels):
  """Lines of figures, grouped by rows where there are any."""
  head = tag('tr', *(tag('th', t) for t in (
      'figure', *labels, 'difference')), tag('td'))
  lines, row = [], ''
  for p in both:
    if p.row != row:
      row = p.row
      lines.append(tag('tr', tag('th', row, colspan=5, class_='group')))
    lines.append(tag('tr', tag('td', cells.breakable(p.name)), *(
        tag('td', cells.number_or_count(f), class_='number')
        for f in (p.one, p.other)), _difference(p), _mark(p)))
  return markup.scrolled(tag('table', tag('thead', head),
                             tag('tbody', *lines)))


def _difference(pair):
  if not pair.difference:
    return tag('td', 'n/a' if pair.difference is None else '0', class_='number')
  like = max(abs(pair.one.value), abs(pair.other.value))
  shown = cells.tables.number(abs(pair.difference), like or None)
  sign = '+' if pair.difference > 0 else '−'
  return tag('td', sign + shown, class_='number')


def _mark(pair):
  if pair.listener:
    return tag('td', tag('small', 'another listener'))
  if not pair.apart:
    return tag('td')
  return tag('td', tag('span', f'apart{", " if pair.verdict else ""}'
                       f'{pair.verdict}', class_=pair.verdict or 'verdict'),
             class_='number')


def _only(ours, theirs, labels):
  """What one of them lacks."""
  mine, yours = ours.every().keys(), theirs.every().keys()
  told = [f'{markup.count(len(keys), "figure")} only in {label}'
          for label, keys in zip(labels, (mine - yours, yours - mine)) if keys]
  return tag('p', '; '.join(told), '.', class_='note') if told else None


def _overlaid(ones, others, labels):
  """Charts of one title, with the lines of both."""
  theirs, found = {c.title: c for c in others}, []
  for chart in ones:
    other = theirs.get(chart.title)
    if other is None:
      continue
    alike = chart.lines.keys() == other.lines.keys()
    lines = {f'{name}, {labels[0]}': points
             for name, points in chart.lines.items()}
    for name in chart.lines if alike else other.lines:
      lines[f'{name}, {labels[1]}'] = other.lines[name]
    found.append(dataclasses.replace(
        chart, lines=lines, firsts=len(chart.lines) if alike else 0))
  return found


def _charts(found):
  return tag('div', *map(charts.figure, found), class_='charts') if found else (
      None)


def _lone(one, other):
  """(names that only the first has, names that only the second has)."""
  names = [{x.name for x in (*f.evaluations, *f.runs)} for f in (one, other)]
  return sorted(names[0] - names[1]), sorted(names[1] - names[0])
