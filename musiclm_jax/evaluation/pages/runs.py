"""A training run's folder as loss curves."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation.pages import charts
from musiclm_jax.training import metrics_writer

METRICS, RECORD = 'metrics.csv', 'run.json'
_MOST_POINTS = 300  # of a line; beyond it, means of neighbouring steps
_MOST_CHARTS = 12
# Held-out targets' losses beside what guessing by frequency costs.
_LOSS, _GUESS = 'loss', 'unigram_entropy'
_UNSEEN = ('step', 'split')
_NAMES = {'train': 'training', 'eval': 'held out'}


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run wrote.

  Attributes:
    name: of its folder.
    about: what was trained, the last step and losses.
    loss: the Chart of its loss, or None.
    others: Charts of what else it measured.
  """

  name: str
  about: dict[str, Any]
  loss: charts.Chart | None
  others: tuple[charts.Chart, ...]


def read(folder: pathlib.Path, name: str) -> Run:
  """A run's folder, which has metrics.csv.

  Raises:
    UserError: there is no row in it.
  """
  with errors.of_files(folder / METRICS):
    try:
      rows = metrics_writer.read(folder)
    except UnicodeDecodeError as error:
      raise errors.UserError(f'it is no CSV in UTF-8 ({error}).') from error
  if not rows:
    raise errors.UserError('it has no row with a step and a split.')
  series = _series(rows)
  loss = None
  if _LOSS in series:
    lines = {_NAMES.get(s, s): points for s, points in series[_LOSS].items()}
    guess = series.get(_GUESS, {}).get('eval')
    if guess:
      lines['guessing by frequency'] = guess
    loss = _chart(f'{name}: loss', 'loss', lines)
  others = [_chart(key, key, {_NAMES.get(s, s): p for s, p in lines.items()})
            for key, lines in series.items() if key not in (_LOSS, _GUESS)]
  return Run(name, _about(folder, rows, series), loss,
             tuple(others[:_MOST_CHARTS]))


def _series(rows):
  """{metric: {split: [(step, value)]}}; metrics with losses first."""
  found = {}
  for row in rows:
    for key, value in row.items():
      if key not in _UNSEEN:
        try:
          number = float(value)
        except (TypeError, ValueError):
          continue
        found.setdefault(key, {}).setdefault(row['split'], []).append(
            (int(row['step']), number))
  order = sorted(found, key=lambda k: (not k.startswith(_LOSS), k))
  return {key: found[key] for key in order}


def _chart(title, what, lines):
  thinned = max(-(-len(points) // _MOST_POINTS) for points in lines.values())
  note = '' if thinned == 1 else (
      f'Where a line has more than {_MOST_POINTS} rows, each point is the mean '
      f'of up to {thinned} neighbours.')
  return charts.Chart(title, 'steps', what, {
      name: _thinned(points) for name, points in lines.items()}, note)


def _thinned(points):
  every = -(-len(points) // _MOST_POINTS)
  edges = np.arange(0, len(points), every)
  values = np.asarray(points, np.float64)
  sums = np.add.reduceat(values, edges)
  sizes = np.diff(np.append(edges, len(points)))[:, None]
  return tuple(charts.Point(float(x), float(y)) for x, y in sums / sizes)


def _about(folder, rows, series):
  about = dict(trained=_trained(folder), steps=int(rows[-1]['step']))
  for split, points in series.get(_LOSS, {}).items():
    values = [(y, x) for x, y in points if math.isfinite(y)]
    if values:
      least = min(values)
      about[f'loss, {_NAMES.get(split, split)}'] = (
          f'{points[-1][1]:.4g} at step {points[-1][0]:,}, least '
          f'{least[0]:.4g} at step {least[1]:,}')
  return {key: value for key, value in about.items() if value != ''}


def _trained(folder):
  """The class of what was trained, as run.json has it; '' without."""
  try:
    found = json.loads((folder / RECORD).read_bytes())
    return str(found['trainable']['type']).rpartition('.')[2]
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    return ''
