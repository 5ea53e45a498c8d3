"""Is what the caption says heard? Tempo, key, mode, family, percussion, register.

  facts of the clips (a CSV's columns, folk_gm's metadata) ──┐
  clips ──> judges that know nothing of our models ──────────┴─> share right

A judge errs, so each figure's note says what the recordings themselves get from
the same judge, and what knowing nothing gets: the same answers in another order
(shuffled), and the best single answer for all clips (constant). The p-value is
that of permuted tracks.

`evaluation/fact_columns.py` says which columns are read, and
`evaluation/fact_judges.py` who judges.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import fact_columns
from musiclm_jax.evaluation import fact_judges
from musiclm_jax.evaluation import measures
from musiclm_jax.metrics import pairing

HELP = 'are tempo, key, family, percussion and register those of the caption?'
WANTS = ('facts',)

MIN_CLIPS = 8  # ours: with fewer, judges are neither fitted nor figures given


def begin(context: measures.Context) -> measures.Measure:
  """Chooses the judges, and lets them hear the recordings.

  Raises:
    Unavailable: the recordings have no facts.
    UserError: a judge that was asked for is unknown or not installed.
  """
  judges = fact_judges.choose(context.listeners)
  facts = _Facts(context, judges)
  reference = context.reference
  if reference is not None:
    known = fact_columns.known(reference.clips)
    context.say(known.line())
    if not any(known.values.values()):
      columns = sorted({c for f in fact_columns.FACTS.values()
                        for c in f.columns})
      raise measures.Unavailable(
          f'the {len(reference)} recordings have no facts; give columns such as '
          f'{", ".join(columns)} beside their captions.')
    facts.hear_recordings(known)
    context.provenance['facts'] = dict(
        clips=known.count, known={k: len(v) for k, v in known.values.items()},
        not_understood={k: list(v) for k, v in known.odd.items() if v},
        judges={name: dict(about=judge.about, rate_hz=fact_judges.RATE_HZ)
                for judge in judges for name in judge.scores})
  return facts.measure


class _Facts:
  """Judges that have heard the recordings."""

  def __init__(self, context, judges):
    self._context, self._judges = context, judges
    self._ears = {}
    self._missing = {}  # {ear: why}
    self._answers = {}  # {judge: Answer}
    self._recordings = {}  # {figure: pairing.Agreement}
    self._reference_facts = {}
    self._reference_heard = None

  def hear_recordings(self, known: fact_columns.Known) -> None:
    """Fits what has to be fitted, and judges the recordings."""
    reference = self._context.reference
    self._reference_facts = {c.id: c.facts for c in reference.clips}
    heard = self._reference_heard = self._hear(reference, known)
    for judge in self._judges:
      asked, values, tracks = _of(judge, reference, known, heard)
      if judge.recordings:
        if len(asked) < MIN_CLIPS or len(set(asked.tolist())) < 2:
          continue
        try:
          self._answers[judge] = judge.settle(values, asked, tracks)
        except ValueError as error:
          self._context.say(f'facts: no {judge.fact} by {judge.about}: {error}')
          continue
      for name, found in self._judged(judge, asked, values, tracks).items():
        self._recordings[name] = found

  def measure(self, clips: clip_sets.ClipSet) -> list[measures.Figure]:
    """The figures of one row; [] where its clips have no facts."""
    known = fact_columns.known(clips.clips, self._reference_facts)
    if not any(known.values.values()):
      self._context.say(f'{clips.name}: {known.line()}')
      return []
    heard = (self._reference_heard if clips is self._context.reference else
             self._hear(clips, known))
    figures = []
    for judge in self._judges:
      if not known.values[judge.fact]:
        continue
      asked, values, tracks = _of(judge, clips, known, heard)
      count = len(_rows(judge, asked))
      why = self._why_not(judge, count)
      if why:
        figures += [measures.Figure(name, None, count=count, better='higher',
                                    note=why) for name in judge.scores]
        continue
      figures += [self._figure(judge, name, found) for name, found in
                  self._judged(judge, asked, values, tracks).items()]
    return figures

  def _why_not(self, judge, count):
    """Why a judge says nothing of so many clips; '' where it does."""
    if judge.ear in self._missing:
      return self._missing[judge.ear]
    if judge.recordings and judge not in self._answers:
      return ('has to be fitted on recordings: a --reference with two kinds of '
              f'{judge.fact} and {MIN_CLIPS} clips or more')
    if count < MIN_CLIPS:
      return f'{count} clips to judge; expected at least {MIN_CLIPS}'
    return ''

  def _figure(self, judge, name, found):
    parts = []
    recordings = self._recordings.get(name)
    if recordings is not None:
      parts.append(f'recordings {recordings.value:.2f}')
    parts += [f'shuffled {found.shuffled:.2f}',
              f'constant {found.constant:.2f}', f'p {found.p_value:.4f}',
              judge.about]
    if recordings is not None and recordings.low <= recordings.chance:
      parts.append('a weak judge: recordings are not told from chance')
    return measures.Figure(
        name, found.value, found.low, found.high, found.count, 'higher',
        '; '.join(parts))

  def _judged(self, judge, asked, values, tracks):
    """{figure: Agreement} of clips; {} of too few."""
    rows = _rows(judge, asked)
    if len(rows) < MIN_CLIPS:
      return {}
    answers = values
    if judge.settle is not None:
      if judge not in self._answers:
        self._answers[judge] = judge.settle(values, asked, tracks)
      answers = self._answers[judge](values, tracks)
    return {name: pairing.agreement(
        score, asked[rows], answers[rows], [tracks[row] for row in rows],
        self._context.seed) for name, score in judge.scores.items()}

  def _hear(self, clips, known):
    """{ear: {id: what it hears}} of the clips whose facts want it."""
    wanted = {}
    for judge in self._judges:
      for clip_id in known.values[judge.fact]:
        wanted.setdefault(clip_id, set()).add(judge.ear)
    ears = {ear: self._ear(ear) for ear in set().union(*wanted.values())}
    heard, short = {ear: {} for ear in ears}, 0
    for number, (clip_id, names) in enumerate(wanted.items()):
      if number and not number % 50:
        self._context.say(f'facts: {clips.name}, {number} of {len(wanted)}')
      try:
        audio = clips.read(clip_id, fact_judges.RATE_HZ)
      except clip_sets.Refused:
        continue
      if len(audio) < fact_judges.MIN_SECONDS * fact_judges.RATE_HZ:
        short += 1
        continue
      for name in names:
        if ears[name] is not None:
          heard[name][clip_id] = ears[name](audio)
    if short:
      self._context.say(
          f'facts: {short} clips of {clips.name} are under '
          f'{fact_judges.MIN_SECONDS:g} s and are not judged')
    return heard

  def _ear(self, name):
    """The ear, made once; None where it cannot be had."""
    if name not in self._ears:
      try:
        self._ears[name] = fact_judges.make_ear(name)
      except errors.UserError as error:
        self._ears[name], self._missing[name] = None, str(error)
        self._context.say(f'facts: {error}')
    return self._ears[name]


def _of(judge: fact_judges.Judge, clips: clip_sets.ClipSet,
        known: fact_columns.Known, heard: Mapping[str, Mapping[str, Any]]):
  """([n] facts, [n, ...] heard, [n] tracks) of clips with both."""
  facts, values = known.values[judge.fact], heard.get(judge.ear, {})
  ids = [c.id for c in clips.clips if c.id in facts and c.id in values]
  return (_array(facts[i] for i in ids), _array(values[i] for i in ids),
          [clips.clip(i).track for i in ids])


def _rows(judge, asked):
  """Of [n] facts those that the judge can hear."""
  return np.arange(len(asked)) if judge.judged is None else np.flatnonzero(
      judge.judged(asked))


def _array(values: Iterable[Any]) -> np.ndarray:
  values = list(values)
  return np.array(values) if values else np.zeros(0)
