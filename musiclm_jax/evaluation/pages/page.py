"""The page: what to look at first, then each evaluation, trainings, sounds."""

from __future__ import annotations

import os
import pathlib

from musiclm_jax import files
from musiclm_jax.evaluation.pages import beside
from musiclm_jax.evaluation.pages import cells
from musiclm_jax.evaluation.pages import charts
from musiclm_jax.evaluation.pages import folder as folder_lib
from musiclm_jax.evaluation.pages import markup
from musiclm_jax.evaluation.pages import measured
from musiclm_jax.evaluation.pages import players
from musiclm_jax.evaluation.pages import runs as runs_lib
from musiclm_jax.evaluation.pages import style

tag = markup.tag

_MOST_SKIPPED = 50  # that are listed
_MOST_VERDICTS = 4  # of one evaluation in the summary
# What all figures of a page should share.
_SHARED = {'git_commit': 'commits', 'bundle_fingerprint': 'bundles'}


def write(path: str | os.PathLike, found: folder_lib.Folder,
          other: folder_lib.Folder | None = None, clips: int = 12,
          tokens: players.Tokens | None = None) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: ends in .html; its folder exists.
    found: what the page shows.
    other: what it is held against, or None.
    clips: at most so many clips have players, over the whole page.
    tokens: what makes token maps of sounds, or None.
  """
  title = f'Evaluation of {found.label}'
  against, told = beside.html(found, other) if other else (None, None)
  groups = players.items(found.sounds)
  shares = _shares([len(e.items) for e in found.evaluations] +
                   [len(items) for _, items in groups], clips)
  body = [tag('h1', title),
          tag('p', counted(found), class_='note'),
          _first(found, told), _mixed(found), against]
  body += [_evaluation(e, i, shares.pop(0), tokens)
           for i, e in enumerate(found.evaluations)]
  body += [_runs(found.runs)]
  body += [tag('section', tag('h2', f'Sounds: {name}'),
               players.html(items, shares.pop(0), tokens))
           for name, items in groups]
  body += [_skipped(found)]
  files.write_text(path, '<!doctype html>\n' + tag(
      'html', tag('head', tag('meta', charset='utf-8'),
                  tag('meta', name_='viewport',
                      content='width=device-width, initial-scale=1'),
                  tag('title', title), tag('style', markup.Html(style.CSS))),
      tag('body', tag('main', *body)), lang='en') + '\n')


def _shares(sizes: list[int], most: int) -> list[int]:
  """How many clips of each group the page has room for.

  >>> _shares([100, 2, 100], 12), _shares([5, 5, 5], 2)
  ([5, 2, 5], [1, 1, 0])
  """
  shares = [0] * len(sizes)
  while sum(shares) < min(most, sum(sizes)):
    for i, size in enumerate(sizes):
      if shares[i] < size and sum(shares) < most:
        shares[i] += 1
  return shares


def counted(found: folder_lib.Folder) -> str:
  """What there is, in words."""
  return ', '.join(markup.count(len(part), what) for part, what in (
      (found.evaluations, 'evaluation'), (found.runs, 'training run'),
      (found.sounds, 'sound folder'), (found.skipped, 'skipped file'))
                   if part)


def _first(found, told):
  """What to look at first: a line for each evaluation, and where it is."""
  lines = [tag('li', tag('a', told, href='#against'))] if told else []
  for i, evaluation in enumerate(found.evaluations):
    verdicts = evaluation.verdicts[:_MOST_VERDICTS]
    more = len(evaluation.verdicts) - len(verdicts)
    lines.append(tag(
        'li', tag('a', evaluation.name, href=f'#e{i}'), ': ',
        '; '.join(verdicts) or _size(evaluation),
        f' (and {more} more)' if more else None))
  for run in found.runs:
    held_out = run.about.get('loss, held out') or run.about.get(
        'loss, training', 'no loss')
    lines.append(tag('li', tag('a', run.name, href='#runs'),
                     f': loss {held_out}'))
  return tag('div', tag('b', 'What it comes to'), tag('ul', *lines),
             class_='first') if lines else None


def _size(evaluation):
  """Of an evaluation that says nothing of itself."""
  table = evaluation.table
  parts = [f'{markup.count(len(table.rows), "row")} of '
           f'{markup.count(len(table.columns), "figure")}' if table else '',
           markup.count(len(evaluation.charts), 'curve')
           if evaluation.charts else '',
           markup.count(len(evaluation.figures), 'figure')
           if evaluation.figures else '']
  return ', '.join(filter(None, parts))


def _mixed(found):
  """Says so where evaluations are of different commits or bundles."""
  lines = []
  for key, what in _SHARED.items():
    values = {}
    for e in found.evaluations:
      if e.provenance.get(key):
        values.setdefault(str(e.provenance[key]), []).append(e.name)
    if len(values) > 1:
      lines.append(tag('li', f'{what}: ' + '; '.join(
          f'{value[:12]} in {", ".join(names)}'
          for value, names in values.items())))
  return tag('div', tag('b', 'These evaluations are not of one state: '),
             tag('ul', *lines), class_='warning') if lines else None


def _evaluation(e: measured.Evaluation, index, most, tokens):
  parts = [tag('h2', e.name)]
  about = ' · '.join(filter(None, (e.title if e.title != e.name else '',
                                   e.judged)))
  parts.append(tag('p', about, class_='note') if about else None)
  told = e.table or e.sections or e.text
  if e.table:
    parts += [tag('p', v, class_='verdict') for v in e.verdicts]
    parts.append(cells.table(e.table))
  if e.published:
    parts.append(cells.published(e.published))
  if e.charts:
    parts.append(tag('div', *map(charts.figure, e.charts), class_='charts'))
  # A verdict that stands above a table need not stand below it again.
  parts += [cells.section(s) for s in e.sections if s.lines or not e.table]
  if e.text and not e.sections:
    parts.append(markup.scrolled(tag('pre', e.text)))
  if e.figures:
    parts.append(markup.folded(
        markup.count(len(e.figures), 'figure') + ' by name',
        cells.flat(e.figures), open_=not told and not e.charts))
  if e.items:
    parts += [tag('h3', 'Listen'), players.html(e.items, most, tokens)]
  parts.append(markup.folded('where these figures come from',
                             cells.provenance(e.provenance)))
  return tag('section', *parts, id=f'e{index}')


def _runs(found: tuple[runs_lib.Run, ...]):
  if not found:
    return None
  parts = [tag('h2', 'Training runs')]
  for run in found:
    parts += [tag('h3', run.name), cells.provenance(run.about)]
    if run.loss:
      parts.append(charts.figure(run.loss))
    if run.others:
      parts.append(markup.folded(
          f'{markup.count(len(run.others), "more curve")}',
          tag('div', *map(charts.figure, run.others), class_='charts')))
  return tag('section', *parts, id='runs')


def _skipped(found):
  """Files that the page has nothing of, and why."""
  lines = [tag('li', tag('code', name), ': ', why)
           for name, why in found.skipped[:_MOST_SKIPPED]]
  if len(found.skipped) > _MOST_SKIPPED:
    lines.append(tag('li', f'{len(found.skipped) - _MOST_SKIPPED:,} more'))
  lines += [tag('li', note) for note in found.notes]
  return tag('section', tag('h2', 'Not shown'), tag('ul', *lines)) if lines else (
      None)


def size(path: str | os.PathLike) -> str:
  """Of a file, in words."""
  count = pathlib.Path(path).stat().st_size
  return f'{count / 1e6:.1f} MB' if count >= 1e5 else f'{count / 1e3:.0f} kB'
