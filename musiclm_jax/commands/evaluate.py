"""Says how good a bundle is.

  musiclm evaluate quick [--bundle DIR] [--corpus DIR] [--clips 24]
  musiclm evaluate codec --data DIR [--data DIR2] [--bundle DIR] [--clips 12]
                         [--modelability]
  musiclm evaluate melody --bundle DIR --corpus DIR [--clips 24]
  musiclm evaluate semantic [--bundle DIR] [--corpus DIR] [--clips 300]
  musiclm evaluate joint [--bundle DIR] [--corpus DIR] [--clips 200]
  musiclm evaluate conditions [--bundle DIR] [--corpus DIR] [--clips 64]
  musiclm evaluate following [--bundle DIR] [--corpus DIR] [--clips 24]

quick: on held-out music, which part is weak? Codec, stage losses against
unigram and bigram, the oracle ladder, retrieval, prompts, instruments. --out or
--report has spectrograms and token maps beside the numbers. Without --corpus a
small folk_gm is made once and kept in the user's cache.

codec: ViSQOL, Zimtohrli, SI-SDR and mel distance of the codec at 0.5, 1.5, 3
and 6 kbps beside Opus at 6, 12 and 24, and how much of its bits carry
information. --data is a corpus, of which the test split counts, or a folder of
audio files. With --modelability also how many nats a second one small decoder
of a fixed size and training needs for the codec's tokens, by level; --data are
then corpora with a train split.

melody: does the melody embedder find a tune again that another instrument
plays, in another key, or that is hummed? Among 500 tunes, beside chance and
chroma-DTW. --corpus has tunes in several versions, as folk_gm has.

semantic: what do w2v-BERT's features and tokens know? Linear classifiers of
instrument family, rhythm type and the melody's pitch class, beside log-mel, the
network before its training, and chance. --corpus says what they are, as folk_gm
does; without it, as for quick. Beside the tokens stands a k-means of log-mel
frames with as many clusters. A run is judged like a bundle, once `musiclm
export` has made it one.

joint: do captions and recordings find each other in MuLan's space? Retrieval in
both directions and zero-shot tags beside chance, the RVQ's distortion by level,
the gap between both clouds. --corpus is a corpus, of which the test split
counts, or a folder of audio files with captions; without it, as for quick.

conditions: is text where audio is, and do the stages heed it? Equal codes and
variance left of recordings and their captions; nats of the semantic and coarse
stages under M of the recording, of its caption, of others and under none, in
the first second and in all.

following: is a melody that is given followed, and are drums heard where they are
asked for? Clips are drawn for held-out melodies, each beside its own and others',
and for prompts with hand drums and with no percussion.
"""

import contextlib
import dataclasses
import pathlib
import sys
import tempfile
import time

from musiclm_jax import errors
from musiclm_jax import files

EVALUATIONS = ('quick', 'codec', 'melody', 'semantic', 'joint', 'conditions',
               'following')
MIN_CLIPS, MAX_CLIPS = 2, 500
RECORD = 'evaluation.json'
_CLIPS = dict(quick=24, codec=12, melody=24, semantic=300, joint=200,
              conditions=64, following=24)
_TRAIN_CLIPS = 1_500
_LISTEN_CLIPS = 4
# Which evaluation an option belongs to, where it is not for all.
_ONLY = dict(corpus=('quick', 'melody', 'semantic', 'joint', 'conditions',
                     'following'),
             record=('quick',), data=('codec',), train_clips=('semantic',),
             modelability=('codec',), modelability_levels=('codec',),
             modelability_steps=('codec',), out=('quick', 'codec'))


def add_arguments(parser):
  """The options of `musiclm evaluate`."""
  parser.add_argument('what', choices=EVALUATIONS)
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')
  parser.add_argument('--corpus', metavar='DIR',
                      help='all but codec: music to judge on, its test or '
                      'validation split')
  parser.add_argument('--data', metavar='DIR', action='append',
                      help='codec: a corpus or a folder of audio files; may be '
                      'given again')
  parser.add_argument('--clips', type=int, default=None,
                      help='held-out clips; melody: queries that chroma-DTW is '
                      'tried on (default: ' + ', '.join(
                          f'{c} for {e}' for e, c in _CLIPS.items()) + ')')
  parser.add_argument('--train-clips', type=int, default=None, metavar='N',
                      help='semantic: clips that the classifiers learn from '
                      f'(default: {_TRAIN_CLIPS})')
  parser.add_argument('--modelability', action='store_true',
                      help='codec: train a small decoder on the codes')
  parser.add_argument('--modelability-steps', type=int, metavar='N',
                      help='its steps (default: 300)')
  parser.add_argument('--modelability-levels', type=int, metavar='Q',
                      help='codebooks that it predicts (default: the coarse '
                      'ones)')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('-o', '--out', metavar='DIR',
                      help='quick, codec: where the pictures go, made if it is '
                      'not there (default: nowhere; --report holds them too)')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')
  parser.add_argument('--report', metavar='FILE.html',
                      help='write a page with figures, pictures and sounds')
  parser.add_argument('--record', action='store_true',
                      help='quick: keep the figures in the bundle, for '
                      '`musiclm inspect bundle`')


def run(args):
  """Checks what can be checked, evaluates, writes."""
  for option, what in _ONLY.items():
    if getattr(args, option) and args.what not in what:
      raise errors.UserError(
          f'--{option.replace("_", "-")} goes with `musiclm evaluate '
          f'{what[0]}`, not with {args.what}.')
  if args.what == 'codec' and not args.data:
    raise errors.UserError(
        '`musiclm evaluate codec` wants --data DIR: a corpus (`musiclm data '
        'debian_music` makes one of real recordings) or a folder of audio '
        'files.')
  if args.what == 'melody' and not args.corpus:
    raise errors.UserError(
        '`musiclm evaluate melody` wants --corpus DIR, tunes in several '
        'versions; `musiclm data folk_gm` makes one.')
  _check_modelability(args)
  args.clips = _CLIPS[args.what] if args.clips is None else args.clips
  if not MIN_CLIPS <= args.clips <= MAX_CLIPS:
    raise errors.UserError(
        f'--clips is {args.clips}; expected {MIN_CLIPS} to {MAX_CLIPS}.')
  if args.train_clips is None:
    args.train_clips = _TRAIN_CLIPS
  if args.train_clips < MIN_CLIPS:
    raise errors.UserError(
        f'--train-clips is {args.train_clips}; expected at least {MIN_CLIPS}.')
  for option, value, suffixes in (('--json', args.json, ()),
                                  ('--report', args.report, ('.html',))):
    if value is not None:
      errors.check_output(value, suffixes, option)
  out = pathlib.Path(args.out) if args.out else None
  if out:
    files.check_folder(out, '--out')
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  start = time.monotonic()
  say = lambda line: print(
      f'[{time.monotonic() - start:4.0f} s] {line}', file=sys.stderr,
      flush=True)
  show = lambda section: print(section.text() + '\n', flush=True)
  evaluate = dict(quick=_quick, codec=_codec, melody=_melody,
                  semantic=_semantic, joint=_joint,
                  conditions=_conditions, following=_following)[args.what]
  with contextlib.ExitStack() as stack:
    if out is None and args.report:  # which has the pictures in it
      out = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    done = evaluate(args, bundle, out, say, show)
    done.figures['wall_seconds'] = time.monotonic() - start
    _write(args, bundle, done)
  say('done')


def _drawn(out, draw):
  """What `draw` makes in a folder, which is made; nothing without one."""
  if out is None:
    return []
  out.mkdir(parents=True, exist_ok=True)
  return draw(out)


@dataclasses.dataclass(frozen=True)
class _Done:
  """What an evaluation leaves to be written.

  Attributes:
    figures: {name: number}.
    sections: report.Sections.
    about: what stands beside the figures.
    title: of the page.
    judged: what was judged, in words.
    drawn: (caption, path) of each picture.
    sounds: rows of the page's players.
  """

  figures: dict
  sections: list
  about: dict
  title: str
  judged: str
  drawn: list = ()
  sounds: list = ()


def _corpus(args, say):
  """What --corpus names, or the small folk_gm, made once."""
  from musiclm_jax.evaluation import held_out  # pylint: disable=g-import-not-at-top
  return args.corpus or held_out.default_corpus(say)


def _quick(args, bundle, out, say, show):
  """All parts of a bundle, briefly."""
  from musiclm_jax.evaluation import pictures  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import quick  # pylint: disable=g-import-not-at-top
  corpus = _corpus(args, say)
  result = quick.evaluate(bundle, corpus, args.clips, args.seed, say, show)
  data = result.data
  return _Done(
      result.figures, result.sections,
      dict(corpus=data.corpus, split=data.split, seed=args.seed),
      f'Quick evaluation of {bundle.identity}',
      f'{len(data.clips)} clips of {data.corpus}, split {data.split}, seed '
      f'{args.seed}',
      _drawn(out, lambda folder: pictures.draw(
          folder, data.clips, result.ladder, result.stages)),
      _sounds(bundle, result))


def _codec(args, bundle, out, say, show):
  """The codec alone, beside Opus."""
  from musiclm_jax.evaluation import codec  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import codec_clips  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import codec_report  # pylint: disable=g-import-not-at-top
  result = codec.evaluate(bundle, args.data, args.clips, say, show,
                          modelability=_modelability(args))
  judged = result.judged
  return _Done(
      result.figures, result.sections,
      dict(data=[j.label for j in judged],
           split=[j.clips.split for j in judged]),
      f'The codec of {bundle.identity}',
      f'{sum(len(j.clips) for j in judged)} clips of {codec_clips.SECONDS} s',
      _drawn(out, lambda folder: codec_report.draw(folder, judged)),
      codec_report.sounds(judged, _LISTEN_CLIPS))


def _modelability(args):
  """How the codes are predicted, or None."""
  if not args.modelability:
    return None
  from musiclm_jax.metrics import modelability  # pylint: disable=g-import-not-at-top
  settings = dict(steps=args.modelability_steps,
                  levels=args.modelability_levels, seed=args.seed)
  return modelability.Config(
      **{name: value for name, value in settings.items() if value is not None})


def _melody(args, bundle, out, say, show):
  """The melody embedder alone, beside chroma-DTW."""
  del out  # there is nothing to draw
  from musiclm_jax.evaluation import melody  # pylint: disable=g-import-not-at-top
  result = melody.evaluate(
      bundle, args.corpus, args.clips, args.seed, say, show)
  return _Done(
      result.figures, result.sections,
      dict(corpus=args.corpus, seed=args.seed),
      f'The melody embedder of {bundle.identity}',
      f'{result.figures["melody_queries"]:.0f} queries of {args.corpus}, seed '
      f'{args.seed}')


def _semantic(args, bundle, out, say, show):
  """The semantic tokenizer alone, beside log-mel."""
  del out  # there is nothing to draw
  from musiclm_jax.evaluation import semantic  # pylint: disable=g-import-not-at-top
  bundle.require('w2vbert')
  corpus = _corpus(args, say)
  result = semantic.evaluate(bundle, corpus, args.clips, args.train_clips,
                             args.seed, say, show)
  return _Done(
      result.figures, result.sections, dict(corpus=str(corpus), seed=args.seed),
      f'The semantic tokens of {bundle.identity}',
      f'{result.figures["semantic_test_clips"]:.0f} clips of {corpus}, seed '
      f'{args.seed}')


def _joint(args, bundle, out, say, show):
  """The joint embedding alone, beside chance."""
  del out  # there is nothing to draw
  from musiclm_jax.evaluation import joint  # pylint: disable=g-import-not-at-top
  bundle.require('mulan')
  corpus = _corpus(args, say)
  result = joint.evaluate(bundle, corpus, args.clips, say, show)
  return _Done(
      result.figures, result.sections,
      dict(corpus=str(corpus), split=result.pairs.name),
      f'The joint embedding of {bundle.identity}',
      f'{len(result.pairs.tracks)} recordings of {corpus}, split '
      f'{result.pairs.name}')


def _conditions(args, bundle, out, say, show):
  """What the stages' conditions are worth."""
  del out  # there is nothing to draw
  from musiclm_jax.evaluation import conditions  # pylint: disable=g-import-not-at-top
  bundle.require('mulan')
  corpus = _corpus(args, say)
  result = conditions.evaluate(bundle, corpus, args.clips, say, show)
  return _Done(
      result.figures, result.sections, dict(corpus=str(corpus)),
      f'The conditions of {bundle.identity}',
      f'{result.figures["conditions_clips"]:.0f} clips of {corpus}')


def _following(args, bundle, out, say, show):
  """Melodies and drums that were asked for."""
  del out  # there is nothing to draw
  from musiclm_jax.evaluation import following  # pylint: disable=g-import-not-at-top
  bundle.require('codec', 'mulan', 'semantic', 'coarse', 'fine')
  corpus = _corpus(args, say)
  result = following.evaluate(
      bundle, corpus, args.clips, args.seed, say, show)
  return _Done(
      result.figures, result.sections, dict(corpus=str(corpus), seed=args.seed),
      f'What {bundle.identity} follows',
      f'{args.clips} melodies of {corpus} and as many pairs of prompts, seed '
      f'{args.seed}')


def _write(args, bundle, done):
  """The files that were asked for."""
  from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
  if args.out:
    for _, path in done.drawn:
      print(path)
  found = dict(done.figures, bundle=bundle.identity,
               bundle_fingerprint=bundle.weights_fingerprint(), **done.about)
  if args.json:
    figures.write(args.json, found)
  if args.record:
    figures.write(bundle.directory / RECORD, dict(
        found, text='\n\n'.join(s.text() for s in done.sections)))
  if args.report:
    from musiclm_jax.evaluation import report  # pylint: disable=g-import-not-at-top
    context = figures.context()
    report.write(
        args.report, done.title, done.sections, done.drawn, done.sounds,
        [f'{done.judged}; {done.figures["wall_seconds"]:.0f} s on '
         f'{context["machine"]}; jax {context["version_jax"]}, commit '
         f'{context["git_commit"][:7]}'])
    print(args.report)


def _sounds(bundle, result):
  """Rows for the report's players."""
  if result.ladder is None:
    return ()
  rate = bundle.tokens.audio.sample_rate_hz
  columns = [('recording', result.ladder.real)] + [
      (name, rung.audio) for name, rung in result.ladder.rungs.items()]
  clips = result.data.clips
  return [(clips.captions[i] or clips.ids[i],
           [(title, audio[i], rate) for title, audio in columns])
          for i in range(min(_LISTEN_CLIPS, len(clips)))]


def _check_modelability(args):
  """UserError where its options have nothing to say or make no sense."""
  for option in ('modelability_levels', 'modelability_steps'):
    value = getattr(args, option)
    if value is None:
      continue
    shown = f'--{option.replace("_", "-")}'
    if not args.modelability:
      raise errors.UserError(f'{shown} goes with --modelability; add it.')
    if value < 1:
      raise errors.UserError(f'{shown} is {value}; expected at least 1.')
