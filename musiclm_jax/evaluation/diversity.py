"""How much do clips of one prompt differ, and what makes them differ?

  a caption ──> M ──> S ──> A, A, A, A       M and S held: another sound
                 └──> S, A; S, A; S, A ...   M held: other music to the caption

Pairs of clips of one caption, beside pairs of different captions and pairs of
recordings. A model that heeds its prompt and is not stuck has them grow from
row to row: the same tokens S leave less to differ than the same caption, and
that less than other captions. Distances are those of log-mels at the same time,
of MuLan's embeddings and, where it is installed, of musicnn's.

  musiclm evaluate diversity [--bundle DIR] [--corpus DIR | --data FOLDER
                             --captions CSV] [--clips 8] [--draws 4]
                             [--prompt TEXT]

Captions are those of held-out recordings unless --prompt, which may be given
again, says others.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import ladder
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.listeners import musicnn
from musiclm_jax.metrics import diversity as metric
from musiclm_jax.metrics import intervals
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

EVALUATION = {
    'help': 'how much do clips of one prompt differ, and by what?',
    'order': 3,
    'components': ['codec', 'mulan', 'semantic', 'coarse'],
    'clips': 8,
    'clips_help': 'captions, and recordings to hold the clips against',
    'groups': ['folder'],
    'arguments': {
        '--draws': {
            'type': 'int', 'default': 4, 'metavar': 'N',
            'help': 'clips for each caption (default: %(default)s)'},
        '--prompt': {
            'action': 'append', 'metavar': 'TEXT',
            'help': 'a caption to draw for in place of the recordings\''}},
}

SECONDS = 10
MIN_DRAWS, MAX_DRAWS = 2, 64
_BATCH = 8
# Distance -> what it is called, and how it is written.
KINDS = dict(mel=('log-mel distance in dB', '.1f'),
             mulan=('MuLan, 1 less the cosine', '.3f'),
             musicnn=('musicnn, 1 less the cosine', '.3f'))
ROWS = dict(
    held_both='M and S held, A drawn again', held_prompt='M held, S and A '
    'drawn again', prompts='different captions', recordings='recordings')


def evaluate(
    bundle: Any, music: any_music.Music, draws: int = 4,
    prompts: Sequence[str] | None = None, seed: int = 0,
    say: report.Say | None = None,
    show: report.Show | None = None) -> report.Evaluation:
  """Draws for each caption in two ways, and compares pairs.

  Args:
    bundle: a bundle.Bundle with what EVALUATION names.
    music: recordings of `SECONDS`; their captions are drawn for.
    draws: clips for each caption, in each way.
    prompts: other captions to draw for.
    seed: of the draws.
    say: takes a line of progress.
    show: takes each finished Section.

  Raises:
    UserError: fewer than two captions, or no S in what is drawn.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  named = list(zip(music.clips.captions, music.tracks))
  if prompts:
    named = [(text, text) for text in prompts]
  named = [(text, track) for text, track in named if text]
  if len(named) < 2:
    raise errors.UserError(
        f'{len(named)} captions to draw for; expected two or more, from '
        f'--corpus, --captions or --prompt.')
  if 'semantic' not in bundle.get('coarse').spec.conditions:
    raise errors.UserError(
        f'the coarse stage of {bundle.directory} takes no semantic tokens that '
        f'could be held; choose another --bundle.')
  groups = np.repeat(np.arange(len(named)), draws)
  tagger = _tagger(say)
  audio = draw(bundle, [text for text, _ in named], draws, seed, say)
  audio['recordings'] = music.clips.audio
  say('distances')
  found = {row: distances(bundle, sound, tagger)
           for row, sound in audio.items()}
  values = {}
  for kind in found['held_both']:
    values[kind] = dict(
        held_both=metric.within(found['held_both'][kind], groups),
        held_prompt=metric.within(found['held_prompt'][kind], groups),
        prompts=metric.across(found['held_prompt'][kind], groups),
        recordings=metric.across(
            found['recordings'][kind], np.arange(len(music.clips))))
  tracks = {row: [track for _, track in named] for row in ROWS}
  tracks['recordings'] = music.tracks
  result = report.Evaluation(dict(
      diversity_prompts=float(len(named)), diversity_draws=float(draws)), [])
  for kind, rows in values.items():
    result.add(show, *section(kind, rows, tracks))
  return result


def draw(bundle: Any, texts: Sequence[str], draws: int, seed: int,
         say: report.Say = lambda line: None) -> dict[str, np.ndarray]:
  """{'held_prompt', 'held_both': [n * draws, N]}, a caption's draws together.

  Draws with S held have that of their caption's first clip.
  """
  joint, usual = bundle.get('mulan'), settings_lib.make(defaults=bundle.defaults)
  codes = np.asarray(joint.quantize(joint.embed_text(list(texts))))[:, None]
  codes = {'mulan': np.repeat(codes, draws, axis=0)}
  pipeline, made = pipeline_lib.Pipeline(bundle), {}
  for row in ('held_prompt', 'held_both'):
    say(f'{len(texts) * draws} clips: {ROWS[row]}')
    drawn, audio = pipeline.complete(
        codes, SECONDS, seed, draws=usual.draws(melody=False),
        levels=usual.levels)
    made[row] = audio
    if row == 'held_prompt':
      codes['semantic'] = np.repeat(
          drawn['semantic'][::draws], draws, axis=0)
  return made


def distances(bundle: Any, audio: np.ndarray,
              tagger: Any) -> dict[str, np.ndarray]:
  """{kind: [n, n]} of [n, N] clips; musicnn's where `tagger` is not None."""
  rate = bundle.tokens.audio.sample_rate_hz
  found = dict(
      mel=metric.mean_distances(np.stack(
          [ladder.mel_image(sound) for sound in audio])),
      mulan=metric.cosine_distances(streams_lib.by_batch(
          bundle.get('mulan').embed_audio, audio, _BATCH)))
  if tagger is not None:
    found['musicnn'] = metric.cosine_distances(
        tagger.embed(audio, rate).mean(axis=1))
  return found


def _tagger(say):
  return musicnn.MusicNN.load_if_there(say, 'without musicnn')


def section(kind: str, rows: Mapping[str, np.ndarray],
            tracks: Mapping[str, Sequence[str]]) -> report.Told:
  """(Section, figures) of one distance.

  Args:
    kind: of KINDS.
    rows: {row of ROWS: [g] a mean for each caption or recording}.
    tracks: {row: [g] what intervals resample}.
  """
  title, form = KINDS[kind]
  figures, lines = {}, []
  usual = rows['recordings'].mean()
  for row, values in rows.items():
    low, high = intervals.of_mean(values, tracks[row])
    key = f'diversity_{kind}_{row}'
    figures.update({key: values.mean(), f'{key}_low': low,
                    f'{key}_high': high})
    lines.append(report.Line(
        ROWS[row], f'{values.mean():{form}}', f'{low:{form}} to {high:{form}}',
        f'{values.mean() / usual:.0%} of recordings' if usual else ''))
  # Pairs of one caption beside pairs of others: the same captions in both.
  lost = rows['prompts'] - rows['held_prompt']
  low, high = intervals.of_mean(lost, tracks['prompts'])
  figures.update({f'diversity_{kind}_prompt_worth': lost.mean(),
                  f'diversity_{kind}_prompt_worth_low': low,
                  f'diversity_{kind}_prompt_worth_high': high})
  verdict = ('clips of one caption are no nearer to each other than to those '
             'of others' if low <= 0 else
             f'a caption brings its clips nearer by {lost.mean():{form}} '
             f'({low:{form}} to {high:{form}})')
  return report.Section(
      f'Diversity: {title}, pairs of {len(rows["prompts"])} captions',
      tuple(lines), verdict), figures


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate diversity`."""
  options, bundle = asked.options, asked.bundle
  any_music.check(options.corpus, options.data, options.captions)
  if not MIN_DRAWS <= options.draws <= MAX_DRAWS:
    raise errors.UserError(
        f'--draws is {options.draws}; expected {MIN_DRAWS} to {MAX_DRAWS}.')
  place = options.data or asked.corpus
  music = any_music.load(
      place, options.data, options.captions, options.clips, SECONDS,
      bundle.tokens.audio.sample_rate_hz)
  result = evaluate(bundle, music, options.draws, options.prompt, options.seed,
                    asked.say, asked.show)
  return runnable.Outcome(
      result.figures, result.sections,
      dict(provenance=provenance.of(
          bundle, options.seed, {'recordings': music.set}, music=str(place),
          split=music.split,
          prompts=options.prompt or list(music.clips.captions),
          settings=dict(bundle.defaults))),
      f'Diversity of {bundle.identity}',
      f'{result.figures["diversity_prompts"]:.0f} captions, {options.draws} '
      f'draws each, recordings of {place}, seed {options.seed}')
