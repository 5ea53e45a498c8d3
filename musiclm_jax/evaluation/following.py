"""Is what was asked for heard? Melodies that are given, drums that are named.

  24 held-out recordings ──> --melody ──> ten seconds each: is each nearer to its
                                          own melody than to those of the others?
  24 prompts, "... with hand drums" and "... with no percussion", one seed
                         ──> two clips each: which has more drums in it?

A melody is compared by contour and chroma (evaluation/adherence.py), at the best
transposition. The prompt beside it is another recording's caption, so that
nothing but the melody tells of it. Drums are heard as onsets of the percussive
part of the spectrum above 2 kHz; the same measure on recordings with and
without drums says how far it can be trusted.

  musiclm evaluate following [--bundle DIR] [--corpus DIR] [--clips 24]

Without --corpus a small folk_gm is made once and kept in the user's cache.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import adherence
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.listeners import drums as drums_lib
from musiclm_jax.metrics import retrieval
from musiclm_jax.metrics import tagging
from musiclm_jax.systems.musiclm import steering as steering_lib

EVALUATION = {
    'help': 'are melodies followed, and drums heard that were asked for?',
    'components': ['codec', 'mulan', 'semantic', 'coarse', 'fine'],
    'clips': 24,
    'clips_help': 'melodies, and as many pairs of prompts',
}

SECONDS = 10
_OTHERS = 4  # melodies of others that a clip is compared with
_LEADS = ('fiddle', 'flute', 'accordion', 'harp', 'piano', 'banjo')
_KINDS = ('a lively reel', 'a cheerful jig', 'a slow waltz', 'a steady march')
DRUMS, NO_DRUMS = 'with hand drums', 'with no percussion'


def prompts(count: int) -> list[tuple[str, str]]:
  """`count` pairs of prompts that differ in the drums alone."""
  subjects = [f'{kind} on {lead}' for lead, kind in itertools.product(
      _LEADS, _KINDS)]
  return [(f'{subject} {DRUMS}', f'{subject} {NO_DRUMS}')
          for subject in itertools.islice(itertools.cycle(subjects), count)]


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 24, seed: int = 0,
    say: report.Say | None = None, show: report.Show | None = None,
    **settings: Any) -> report.Evaluation:
  """Draws for melodies and for drums, and compares.

  Args:
    bundle: a whole bundle.Bundle.
    corpus: a corpus's directory; melodies are recordings of its held-out split.
    clips: melodies, and pairs of prompts.
    seed: of the first clip; others count on.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.
    **settings: of systems.musiclm.settings.Settings, for all of them.

  Returns:
    A `report.Evaluation`.
  """
  from musiclm_jax.systems.musiclm import model as model_lib  # pylint: disable=g-import-not-at-top
  say, show = say or (lambda line: None), show or (lambda section: None)
  model = model_lib.Model(bundle)
  rate = model.sample_rate_hz
  data = held_out.load(corpus, clips, SECONDS, 0, rate)
  generate = lambda prompt, number, **more: model.generate(
      prompt, seconds=SECONDS, seed=seed + number, **settings, **more)
  result = report.Evaluation({'following_clips': float(len(data.clips))}, [])
  if steering_lib.takes_melody(bundle):
    if not all(data.clips.captions):
      raise errors.UserError(
          f'some recordings of {corpus} have no caption to be prompted with; '
          f'choose another --corpus.')
    prompted = np.roll(data.clips.captions, 1)
    sounds = []
    for number, (prompt, tune) in enumerate(zip(prompted, data.clips.audio)):
      say(f'melody {number + 1} of {len(prompted)}')
      sounds.append(generate(str(prompt), number, melody=tune))
    result.add(show, *melodies(sounds, data.clips.audio, rate))
  asked = prompts(clips)
  pairs = []
  for number, pair in enumerate(asked):
    say(f'drums {number + 1} of {len(asked)}')
    pairs.append([generate(prompt, number) for prompt in pair])
  result.add(show, *drums(pairs, rate, _drum_judge(corpus, rate)))
  return result


def melodies(
    sounds: Sequence[np.ndarray], tunes: Sequence[np.ndarray],
    rate: int) -> report.Told:
  """(Section, figures): each sound beside its own tune and those of others."""
  count = len(sounds)
  own, others = {'contour': [], 'chroma': []}, {'contour': [], 'chroma': []}
  heard = lambda i, j: dataclasses.asdict(
      adherence.measure(sounds[i], tunes[j], rate))
  for i in range(count):
    mine = heard(i, i)
    rest = [heard(i, (i + k) % count)
            for k in range(1, min(_OTHERS, count - 1) + 1)]
    for name in own:
      own[name].append(mine[name])
      known = [r[name] for r in rest if r[name] is not None]
      others[name].append(np.mean(known) if known else None)
  figures, lines, followed = {}, [], []
  for name in own:
    kept = [(a, b) for a, b in zip(own[name], others[name])
            if a is not None and b is not None]
    if not kept:
      continue
    mine, rest = (np.array(x, np.float64) for x in zip(*kept))
    intervals = [retrieval.bootstrap_interval(x) for x in (mine, rest)]
    apart = retrieval.bootstrap_interval(mine - rest)
    figures.update({
        f'melody_{name}_own': mine.mean(), f'melody_{name}_shuffled': rest.mean(),
        f'melody_{name}_own_low': intervals[0][0],
        f'melody_{name}_shuffled_high': intervals[1][1],
        f'melody_{name}_difference_low': apart[0],
        f'melody_{name}_difference_high': apart[1]})
    lines.append(report.Line(
        name, f'{mine.mean():.3f}',
        '{:.3f} to {:.3f}; to others {:.3f}, {:.3f} to {:.3f}'.format(
            *intervals[0], rest.mean(), *intervals[1]),
        'difference {:.3f}, {:.3f} to {:.3f}'.format(
            (mine - rest).mean(), *apart)))
    followed.append(apart[0] > 0)
  verdict = ('melodies are followed' if followed and all(followed) else
             'melodies are followed in part' if any(followed) else
             'melodies are not followed')
  return report.Section(
      f'Melodies: {count} clips beside the melody that was given',
      tuple(lines), verdict), figures


def drums(
    pairs: Sequence[Sequence[np.ndarray]], rate: int,
    judge: float | None = None) -> report.Told:
  """(Section, figures) of [(with drums, without)] sounds.

  `judge` is the measure's own area under the ROC curve on recordings.
  """
  levels = np.array([[drums_lib.onsets(sound, rate) for sound in pair]
                     for pair in pairs])
  right = levels[:, 0] > levels[:, 1]
  low, high = retrieval.bootstrap_interval(right.astype(float))
  figures = dict(drums_right=right.mean(), drums_right_low=low,
                 drums_right_high=high, drums_asked=levels[:, 0].mean(),
                 drums_not_asked=levels[:, 1].mean())
  lines = [report.Line(
      'more where they are asked for', f'{right.mean():.0%}',
      f'95 % interval {low:.0%} to {high:.0%}, chance 50%'),
           report.Line('onsets, asked for', f'{levels[:, 0].mean():.3f}',
                       f'not asked for {levels[:, 1].mean():.3f}')]
  if judge is not None:
    figures['drums_judge_auc'] = judge
    lines.append(report.Line('the judge itself', f'{judge:.2f}',
                             'chance 0.50', 'recordings with and without'))
  verdict = ('drums can be asked for' if low > 0.5 else
             'whether drums are asked for cannot be heard')
  return report.Section(
      f'Drums: {len(pairs)} pairs of prompts, {DRUMS} and {NO_DRUMS}',
      tuple(lines), verdict), figures


def _drum_judge(corpus, rate):
  """The measure's area under the ROC curve on held-out recordings, or None."""
  opened, name = held_out.open_corpus(corpus, rate)
  split = opened.split(name)
  tracks = [t for t in split if 'drums' in t.meta and not held_out.is_hummed(t)
            and t.num_samples >= SECONDS * rate][:60]
  has = np.array([bool(t.meta['drums']) for t in tracks])
  if not has.any() or has.all():
    return None
  return tagging.roc_auc([
      drums_lib.onsets(split.read(t, 0, SECONDS * rate), rate) for t in tracks], has)


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate following`."""
  clips, seed = asked.options.clips, asked.options.seed
  result = evaluate(
      asked.bundle, asked.corpus, clips, seed, asked.say, asked.show)
  return runnable.Outcome(
      result.figures, result.sections,
      dict(corpus=str(asked.corpus), seed=seed),
      f'What {asked.bundle.identity} follows',
      f'{clips} melodies of {asked.corpus} and as many pairs of prompts, seed '
      f'{seed}')
