"""Does the semantic stage say its training set by heart?

  training examples ──> M_A and the first T tokens of S ──> the stage, greedy
                    ──> 125 tokens (5 s) ──> are they those of S? near them?

MusicLM's analysis, section 5: T is 0 to 250 tokens (0 to 10 s), as far as the
stage's crop reaches. A continuation matches exactly where all 125 tokens are
the true ones, and approximately where turning its tokens into the true ones, a
token's centroid into another's, costs less than a threshold. The threshold is
one that continuations and the targets of other examples pass at a rate of 1e-4.
Matches of little entropy are long notes and silence, which anyone would guess;
so do the same questions on held-out examples say what is no memory.

  musiclm evaluate memorization [--bundle DIR] [--corpus DIR] [--clips 64]
                                [--split train] [--out DIR]

--corpus is what the stage has been trained on.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.evaluation import continuations
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import pictures
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import memorization as metric
from musiclm_jax.metrics import transport

EVALUATION = {
    'help': 'does the semantic stage know its training set by heart?',
    'order': 3,
    'components': ['w2vbert', 'mulan', 'semantic'],
    'corpus_help': 'what the stage was trained on; its held-out split is '
                   'asked as well',
    'clips': 64,
    'clips_help': 'examples of each split, one a track',
    'most_clips': 10_000,
    'pictures': True,
    'arguments': {
        '--split': {
            'default': 'train', 'metavar': 'NAME',
            'help': 'what may have been memorised (default: %(default)s)'}},
}

NEGATIVES = 20_000  # ours: of all prompts together, at most
_TOKENS = continuations.TARGET_TOKENS


def negatives(
    found: Sequence[continuations.Point], tracks: Sequence[str],
    ground: np.ndarray, most: int = NEGATIVES, seed: int = 0) -> np.ndarray:
  """[m] costs of continuations beside the targets of other tracks."""
  costs = []
  for point in found:
    pairs = metric.others(
        tracks, max(1, most // len(found)), seed + point.prompt)
    if len(pairs):
      costs.append(continuations.cost_between(
          point.generated[pairs[:, 0]], point.target[pairs[:, 1]], ground))
  if not costs:
    raise errors.UserError(
        'all examples are of one track, so that none is the negative of '
        'another; choose a larger --corpus.')
  return np.concatenate(costs)


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 64,
    split: str = 'train', seed: int = 0, say: report.Say | None = None,
    show: report.Show | None = None) -> tuple[report.Evaluation, dict]:
  """Continues examples of a split and of the held-out one.

  Args:
    bundle: a bundle.Bundle with what EVALUATION names.
    corpus: a corpus's directory.
    clips: examples of each split.
    split: what may have been memorised.
    seed: of the choice of examples.
    say: takes a line of progress.
    show: takes each finished Section.

  Returns:
    (report.Evaluation, what else there is: `points` {split: Points},
    `negatives` [m], `threshold`, `examples` {split: Examples}).

  Raises:
    UserError: no room for 125 tokens in the stage's crop, a tokenizer without
      centroids, or a corpus without enough to continue.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  stage, rate = bundle.get('semantic'), bundle.tokens.semantic.frame_rate_hz
  if not continuations.prompts_within(rate, stage.spec.crop_seconds):
    raise errors.UserError(
        f'the semantic stage of {bundle.directory} has crops of '
        f'{stage.spec.crop_seconds} s; expected at least '
        f'{_TOKENS // rate} s, which are drawn.')
  centroids = bundle.get('w2vbert').centroids
  if centroids is None:
    raise errors.UserError(
        f'the semantic tokenizer of {bundle.directory} tells no centroids to '
        f'measure approximate matches by; choose another --bundle.')
  data = held_out.corpus_at(corpus, bundle.tokens.audio.sample_rate_hz)
  held = next((s for s in held_out.SPLITS if s in data.splits and s != split),
              None)
  say(f'tokens of {split}')
  examples = {split: continuations.cut(bundle, data, split, clips, seed)}
  if held:
    say(f'tokens of {held}')
    examples[held] = continuations.cut(bundle, data, held, clips, seed)
  ground = transport.distances(np.asarray(centroids))
  sampler = sampler_lib.Sampler(stage)
  found = {name: continuations.points(
      sampler, those, ground, lambda line, name=name: say(f'{name}: {line}'))
           for name, those in examples.items()}
  say('negatives')
  costs = negatives(found[split], examples[split].tracks, ground, seed=seed)
  threshold = metric.threshold(costs)
  result = report.Evaluation(dict(
      memorization_clips=float(len(examples[split])),
      memorization_threshold=threshold.value,
      memorization_negatives=float(threshold.count),
      memorization_false_positive_rate=threshold.rate,
      memorization_epsilon=transport.EPSILON), [])
  for name in found:
    result.add(show, *section(
        name, found[name], examples[name].tracks, threshold,
        'memorization' if name == split else 'memorization_held_out'))
  result.add(show, *_matches(
      found[split], threshold, float(np.median(costs))))
  return result, dict(points=found, negatives=costs, threshold=threshold,
                      examples=examples)


def curve(found: Sequence[continuations.Point], tracks: Sequence[str],
          threshold: metric.Threshold) -> dict[str, list]:
  """{'prompt_tokens': [...], 'exact': [...], 'exact_low': ...} for JSON."""
  made = {'prompt_tokens': [point.prompt for point in found]}
  for point in found:
    kinds = dict(exact=point.exact, approximate=_near(point, threshold))
    for kind, match in kinds.items():
      low, high = intervals.of_mean(match, tracks)
      for name, value in ((kind, match.mean()), (f'{kind}_low', low),
                          (f'{kind}_high', high)):
        made.setdefault(name, []).append(float(value))
    made.setdefault('cost', []).append(float(point.cost.mean()))
    made.setdefault('equal_tokens', []).append(float(
        metric.equal_at_first(point.generated, point.target).mean()))
  return made


def charted(made: Mapping[str, list]) -> dict[str, Any]:
  """A `curve` with what a report draws of it (pages/charts.py)."""
  lines = {kind: [list(point) for point in zip(
      made['prompt_tokens'], *(
          [100 * value for value in made[f'{kind}{end}']]
          for end in ('', '_low', '_high')))]
           for kind in ('exact', 'approximate')}
  return dict(made, x='tokens of S in the prompt', y='% of examples',
              lines=lines)


def _near(point, threshold):
  """[n] bool: approximate matches, exact ones among them."""
  return point.exact | (point.cost < threshold.value)


def section(
    name: str, found: Sequence[continuations.Point], tracks: Sequence[str],
    threshold: metric.Threshold, prefix: str) -> report.Told:
  """(Section, figures) of one split."""
  made, lines, figures = curve(found, tracks, threshold), [], {}
  for at, point in enumerate(found):
    figures.update({
        f'{prefix}_{key}_{point.prompt}': values[at]
        for key, values in made.items() if key != 'prompt_tokens'})
    get = lambda key, at=at: made[key][at]
    lines.append(report.Line(
        f'T = {point.prompt}', f'{get("exact"):.1%}',
        f'{get("exact_low"):.1%} to {get("exact_high"):.1%}',
        f'approximate {get("approximate"):.1%} ({get("approximate_low"):.1%} '
        f'to {get("approximate_high"):.1%}); cost {get("cost"):.2f}; equal for '
        f'{get("equal_tokens"):.1f} tokens'))
  most = int(max(point.exact.sum() for point in found))
  return report.Section(
      f'Memorisation: exact matches of {_TOKENS} tokens, {len(tracks)} '
      f'examples of {name}', tuple(lines),
      f'{most} of {len(tracks)} are continued word for word' if most else
      'none is continued word for word'), figures


def _matches(found, threshold, usual):
  """The threshold, and whether what matches is more than a long note."""
  target = np.concatenate([point.target for point in found])
  match = np.concatenate([_near(point, threshold) for point in found])
  bits = metric.entropy_bits(target)
  figures = dict(memorization_entropy_bits=bits.mean())
  lines = [
      report.Line('threshold', f'{threshold.value:.2f}',
                  f'negatives usually {usual:.2f}', threshold.line()),
      report.Line('entropy of targets', f'{bits.mean():.1f} bits', '',
                  f'all {len(bits)}')]
  if match.any():
    figures['memorization_entropy_bits_matches'] = bits[match].mean()
    lines.append(report.Line(
        'of those matched', f'{bits[match].mean():.1f} bits', '',
        f'{match.sum()}, approximate or exact'))
  return report.Section('Approximate matches', tuple(lines)), figures


def draw(folder: pathlib.Path, found: Mapping[str, Any], split: str,
         rate_hz: int) -> list[tuple[str, pathlib.Path]]:
  """Writes the curve as PNG; nothing without matplotlib."""
  if importlib.util.find_spec('matplotlib') is None:
    return []
  figure, axes = pictures.panels(1, 3, 13.0, 3.6)
  for name, those in found['points'].items():
    made = curve(those, found['examples'][name].tracks, found['threshold'])
    seconds = np.array(made['prompt_tokens']) / rate_hz
    for axis, kind in zip(axes[0], ('exact', 'approximate')):
      line, = axis.plot(seconds, 100 * np.array(made[kind]), marker='o',
                        label=name)
      axis.fill_between(
          seconds, 100 * np.array(made[f'{kind}_low']),
          100 * np.array(made[f'{kind}_high']), alpha=0.15,
          color=line.get_color(), linewidth=0)
  for axis, kind in zip(axes[0], ('exact', 'approximate')):
    axis.set(title=f'{kind} matches', xlabel='prompt, seconds of S',
             ylabel='% of examples')
    axis.set_ylim(bottom=0, top=max(1.0, axis.get_ylim()[1]))
    axis.legend()
  axis, threshold = axes[0, 2], found['threshold']
  costs = {'other targets': found['negatives'], **{
      f'own, {name}': np.concatenate([point.cost for point in those])
      for name, those in found['points'].items()}}
  edges = np.linspace(0, max(c.max() for c in costs.values()) or 1.0, 40)
  for label, values in costs.items():
    axis.hist(values, edges, density=True, histtype='step', label=label)
  axis.axvline(threshold.value, color='grey', linestyle=':',
               label=f'threshold {threshold.value:.2f}')
  axis.set(title='cost of transport, all prompts', xlabel='cost',
           ylabel='density')
  axis.legend(fontsize=7)
  path = pictures.save(figure, pathlib.Path(folder) / 'memorization.png')
  return [(f'Continuations of {split} beside held-out ones: exact and '
           f'approximate matches by length of the prompt with 95 % intervals, '
           f'and what the threshold lies between.', path)]


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate memorization`."""
  options, bundle = asked.options, asked.bundle
  result, found = evaluate(
      bundle, asked.corpus, options.clips, options.split, options.seed,
      asked.say, asked.show)
  curves = {name: charted(curve(those, found['examples'][name].tracks,
                                found['threshold']))
            for name, those in found['points'].items()}
  about = provenance.of(
      bundle, options.seed,
      {name: those.clips for name, those in found['examples'].items()},
      corpus=str(asked.corpus), split=options.split,
      transport=dict(
          epsilon=f'{transport.EPSILON} of a pair\'s median distance',
          tolerance=transport.TOLERANCE, iterations=transport.ITERATIONS,
          centroids='of the bundle\'s semantic tokenizer'))
  return runnable.Outcome(
      result.figures, result.sections, dict(provenance=about, curves=curves),
      f'Memorisation of {bundle.identity}',
      f'{len(found["examples"][options.split])} examples of {options.split} of '
      f'{asked.corpus}, seed {options.seed}',
      lambda folder: draw(folder, found, options.split,
                          bundle.tokens.semantic.frame_rate_hz))
