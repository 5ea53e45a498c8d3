"""What is the semantic stage worth? Two bundles, with and without it.

  a caption ──> M ──> semantic ──> S ──> coarse (M, S) ──> A     --bundle
                └──────────────────────> coarse (M) ─────> A     --without

MusicLM's and AudioLM's question, for two coarse stages that were trained alike:
one from gin/coarse_base.gin, one from gin/coarse_without_semantic_base.gin (or
their like at another size), each in a bundle with the same tokenizers. Both draw
for the same captions; one table says how near they come to their captions by
MuLan, how far they are from the captions' recordings, and whatever else can be
measured here (evaluation/measures). Below it stand the stages' losses on the
recordings' true tokens. They do not compare directly: with S given, less of A is
left to predict, and what S itself costs is the semantic stage's loss.

  musiclm evaluate ablation --without DIR [--bundle DIR] [--corpus DIR]
                            [--clips 24] [--measures NAME,NAME]
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import comparison
from musiclm_jax.evaluation import drawing
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import measures as measures_lib
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import stage_losses
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import retrieval

EVALUATION = {
    'help': 'what is the semantic stage worth?',
    'order': 3,
    'components': ['codec', 'w2vbert', 'mulan', 'semantic', 'coarse'],
    'clips': 24,
    'clips_help': 'captions, and their recordings',
    'arguments': {
        '--without': {
            'metavar': 'DIR', 'required': True,
            'help': 'a bundle whose coarse stage takes no semantic tokens'},
        '--measures': {
            'metavar': 'NAME,NAME', 'default': '',
            'help': 'further columns, of evaluation/measures; none: no '
                    'further ones (default: all that can be had here)'}},
}

SECONDS = 10
_BATCH = 8
ROWS = {'with': 'with the semantic stage', 'without': 'without it',
        'recordings': 'recordings'}


def check(ours: Any, other: Any) -> None:
  """UserError unless two bundles differ as this evaluation needs it.

  Args:
    ours: a bundle.Bundle whose coarse stage takes semantic tokens.
    other: one whose coarse stage takes none.
  """
  other.require('codec', 'mulan', 'coarse')
  lines = specs.difference(other.tokens, ours.tokens)
  if lines:
    raise errors.UserError(
        f'--without {other.directory} has other grids than {ours.directory}: '
        f'{"; ".join(lines)}. Train both on one token cache.')
  for bundle, wanted, option in ((ours, True, '--bundle'),
                                 (other, False, '--without')):
    found = bundle.stored_spec('coarse')['conditions']
    if ('semantic' in found) != wanted:
      raise errors.UserError(
          f'the coarse stage of {option} {bundle.directory} is conditioned on '
          f'{", ".join(found)}; expected one {"with" if wanted else "without"} '
          f'semantic tokens.')


def evaluate(
    ours: Any, other: Any, music: any_music.Music, seed: int = 0,
    names: Sequence[str] | None = None, say: report.Say | None = None,
    show: report.Show | None = None, seconds: int = SECONDS
) -> tuple[report.Evaluation, dict[str, Any]]:
  """Draws with both, and judges both alike.

  Args:
    ours: the bundle.Bundle with the semantic stage; its MuLan judges.
    other: the one without.
    music: recordings with captions, as long as the coarse stages' crops.
    seed: of the draws.
    names: measures beside; None: all that can be had.
    say: takes a line of progress.
    show: takes each finished Section.
    seconds: of each recording that are drawn and judged.

  Returns:
    (report.Evaluation, the measures' provenance).

  Raises:
    UserError: the bundles do not belong together, or captions are missing.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  check(ours, other)
  if not all(music.clips.captions):
    raise errors.UserError(
        f'some recordings of {music.name} have no caption to draw for; choose '
        f'another --corpus.')
  audio = {'recordings': music.clips.first(
      seconds, ours.tokens.audio.sample_rate_hz)}
  for row, bundle in (('with', ours), ('without', other)):
    say(f'{len(music.clips)} clips {ROWS[row]}')
    audio[row] = drawing.of_captions(
        bundle, music.clips.captions, seconds, seed)
  result = report.Evaluation(dict(
      ablation_clips=float(len(music.clips))), [])
  result.add(show, *_prompts(ours.get('mulan'), music, audio))
  result.add(show, *_mel(music, audio))
  about = {}
  for told in _measured(ours, music, audio, names, seed, about, say):
    result.add(show, *told)
  say('losses')
  result.add(show, *losses(ours, other, music))
  return result, about


def _prompts(joint, music, audio):
  """Similarity to the own caption and to others', row by row."""
  text = np.asarray(joint.embed_text(list(music.clips.captions)))
  figures, lines, worth = {}, [], {}
  for row, title in ROWS.items():
    drawn = streams_lib.by_batch(joint.embed_audio, audio[row], _BATCH)
    own, others = retrieval.own_and_shuffled(drawn @ text.T)
    low, high = intervals.of_mean(own, music.tracks)
    worth[row] = own - others
    figures.update({
        f'ablation_{row}_mulan': own.mean(), f'ablation_{row}_mulan_low': low,
        f'ablation_{row}_mulan_high': high,
        f'ablation_{row}_mulan_shuffled': others.mean()})
    lines.append(report.Line(
        title, f'{own.mean():.3f}', f'{low:.3f} to {high:.3f}, shuffled '
        f'{others.mean():.3f}', f'heeds its caption by {worth[row].mean():.3f}'))
  return report.Section(
      "Ablation: similarity to the own caption by MuLan, which the stages were "
      "trained on", tuple(lines),
      _difference(figures, 'mulan', worth['with'] - worth['without'], music,
                  '.3f', 'nearer to its caption')), figures


def _mel(music, audio):
  """Distance to the caption's recording, row by row."""
  figures, lines, found = {}, [], {}
  for row in ('with', 'without', 'recordings'):
    real = audio['recordings']
    other = np.roll(real, 1, axis=0) if row == 'recordings' else audio[row]
    found[row] = ladder.mel_distance_db(real, other[:, :real.shape[1]])
    low, high = intervals.of_mean(found[row], music.tracks)
    figures.update({f'ablation_{row}_mel_db': found[row].mean(),
                    f'ablation_{row}_mel_db_low': low,
                    f'ablation_{row}_mel_db_high': high})
    lines.append(report.Line(
        'other recordings' if row == 'recordings' else ROWS[row],
        f'{found[row].mean():.1f} dB', f'{low:.1f} to {high:.1f}'))
  return report.Section(
      "Ablation: log-mel distance to the caption's recording", tuple(lines),
      _difference(figures, 'mel_db', found['without'] - found['with'], music,
                  '.1f', 'nearer to the recording')), figures


def _difference(figures, name, gain, music, form, what):
  """The verdict on what the semantic stage gains; puts it into `figures`."""
  low, high = intervals.of_mean(gain, music.tracks)
  figures.update({f'ablation_{name}_gain': gain.mean(),
                  f'ablation_{name}_gain_low': low,
                  f'ablation_{name}_gain_high': high})
  return (f'with the semantic stage a clip is {what} by {gain.mean():{form}} '
          f'({low:{form}} to {high:{form}})' +
          ('' if low > 0 or high < 0 else ', which may be none'))


def _measured(ours, music, audio, names, seed, about, say):
  """Yields (Section, figures) of each measure that can be had."""
  known = measures_lib.known()
  for name in names or ():
    if name not in known:
      raise errors.choice('measure', name, known)
  rate = ours.tokens.audio.sample_rate_hz
  listed = [music.set.clip(name) for name in music.clips.ids]
  as_set = lambda row: clip_sets.of_arrays(ROWS[row], listed, audio[row], rate)
  context = measures_lib.Context(
      as_set('recordings'), bundle=ours, seed=seed, say=say, provenance=about)
  rows = [comparison.Row(row, as_set(row)) for row in ('with', 'without')]
  for name in known if names is None else names:
    table = comparison.compare(rows, context, {name: known[name]})
    if name in table.not_measured:
      say(f'without {name}: {table.not_measured[name]}')
      continue
    found = [(row.name, figure) for row in table.rows
             for figure in row.figures.values()]
    yield report.Section(
        f'Ablation: {name}', tuple(_line(*pair) for pair in found)), {
            f'ablation_{row}_{figure.name}': figure.value
            for row, figure in found if figure.value is not None}


def _line(row, figure):
  """A report.Line of a measures.Figure."""
  shown = 'none' if figure.value is None else f'{figure.value:.3f}'
  return report.Line(
      f'{figure.name}, {ROWS[row]}', shown,
      '' if figure.low is None else f'{figure.low:.3f} to {figure.high:.3f}',
      figure.note)


def losses(ours: Any, other: Any, music: any_music.Music) -> report.Told:
  """(Section, figures): nats a second of each stage on true tokens."""
  figures, lines = {}, []
  for row, bundle, stages in (('with', ours, ('semantic', 'coarse')),
                              ('without', other, ('coarse',))):
    streams = streams_lib.encode(bundle, music.clips)
    for name in stages:
      stage = bundle.get(name)
      found = stage_losses.report(stage, streams, None, bundle.get('mulan'))
      rate = stage.layout.target.stream.rate_hz
      per_second = found.loss.sum() * rate
      figures.update({f'ablation_{row}_{name}_nats': found.loss.mean(),
                      f'ablation_{row}_{name}_nats_per_second': per_second})
      levels = ' '.join(f'{nats:.2f}' for nats in found.loss)
      lines.append(report.Line(
          f'{name}, {ROWS[row]}', f'{found.loss.mean():.2f}',
          f'other conditions {found.loss_shuffled.mean():.2f}',
          f'{per_second:.0f} nats a second; by level {levels}'))
  return report.Section(
      'Ablation: nats a token on the recordings\' tokens', tuple(lines),
      'with S given, less of A is left to predict; S itself costs what the '
      'semantic stage says'), figures


def asked_measures(option: str) -> list[str] | None:
  """What --measures says: None for all.

  >>> [asked_measures(said) for said in ('', 'none', 'fad, kad')]
  [None, [], ['fad', 'kad']]
  """
  if not option:
    return None
  return [] if option == 'none' else [n.strip() for n in option.split(',')]


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate ablation`."""
  options, bundle = asked.options, asked.bundle
  other = bundle_lib.Bundle(options.without)
  check(bundle, other)
  longest = max(SECONDS, *(part.get(stage).spec.crop_seconds for part, stage in (
      (bundle, 'semantic'), (bundle, 'coarse'), (other, 'coarse'))))
  music = any_music.of_corpus(
      asked.corpus, options.clips, longest, bundle.tokens.audio.sample_rate_hz)
  result, about = evaluate(
      bundle, other, music, options.seed, asked_measures(options.measures),
      asked.say, asked.show)
  found: Mapping[str, Any] = provenance.of(
      bundle, options.seed, {'recordings': music.set},
      corpus=str(asked.corpus), split=music.split, listeners=about,
      without=dict(bundle=other.identity,
                   bundle_fingerprint=other.weights_fingerprint()))
  return runnable.Outcome(
      result.figures, result.sections, dict(provenance=found),
      f'{bundle.identity} beside {other.identity}',
      f'{len(music.clips)} captions of {asked.corpus}, seed {options.seed}')
