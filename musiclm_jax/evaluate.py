"""Says how good a bundle is.

  musiclm evaluate quick [--bundle DIR] [--corpus DIR] [--clips 24]

quick: on held-out music, which part is weak? Codec, stage losses against
unigram and bigram, the oracle ladder, retrieval, prompts, instruments. Writes
spectrograms and token maps beside the numbers. Without --corpus a small folk_gm
is made once and kept in the user's cache.
"""

import pathlib
import sys
import time

from musiclm_jax import errors

EVALUATIONS = ('quick',)
MIN_CLIPS, MAX_CLIPS = 2, 500
RECORD = 'evaluation.json'
_LISTEN_CLIPS = 4


def add_arguments(parser):
  """The options of `musiclm evaluate`."""
  parser.add_argument('what', choices=EVALUATIONS)
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')
  parser.add_argument('--corpus', metavar='DIR',
                      help='music to judge on, its test or validation split')
  parser.add_argument('--clips', type=int, default=24,
                      help='held-out clips (default: %(default)s)')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('-o', '--out', default='evaluation', metavar='DIR',
                      help='where the pictures go (default: %(default)s)')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')
  parser.add_argument('--report', metavar='FILE.html',
                      help='write a page with figures, pictures and sounds')
  parser.add_argument('--record', action='store_true',
                      help='keep the figures in the bundle, for `musiclm '
                      'inspect bundle`')


def run(args):
  """Checks what can be checked, evaluates, writes."""
  if not MIN_CLIPS <= args.clips <= MAX_CLIPS:
    raise errors.UserError(
        f'--clips is {args.clips}; expected {MIN_CLIPS} to {MAX_CLIPS}.')
  for option, value, suffix in (('--json', args.json, ''),
                                ('--report', args.report, '.html')):
    _check_output(option, value, suffix)
  out = pathlib.Path(args.out)
  if out.exists() and not out.is_dir():
    raise errors.UserError(f'--out {out} is a file; choose another folder.')
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  from musiclm_jax.evaluation import held_out  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import pictures  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import quick  # pylint: disable=g-import-not-at-top
  start = time.monotonic()
  say = lambda line: print(
      f'[{time.monotonic() - start:4.0f} s] {line}', file=sys.stderr,
      flush=True)
  corpus = args.corpus or held_out.default_corpus(say)
  result = quick.evaluate(
      bundle, corpus, args.clips, args.seed, say,
      lambda section: print(section.text() + '\n', flush=True))
  out.mkdir(parents=True, exist_ok=True)
  drawn = pictures.draw(out, result.data.clips, result.ladder, result.stages)
  result.figures['wall_seconds'] = time.monotonic() - start
  for _, path in drawn:
    print(path)
  _write(args, bundle, result, drawn)
  say('done')


def _write(args, bundle, result, drawn):
  """The files that were asked for."""
  from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
  about = dict(
      bundle=bundle.identity, bundle_fingerprint=bundle.weights_fingerprint(),
      corpus=result.data.corpus, split=result.data.split, seed=args.seed)
  if args.json:
    figures.write(args.json, {**result.figures, **about})
  if args.record:
    figures.write(bundle.directory / RECORD, {
        **result.figures, **about,
        'text': '\n\n'.join(s.text() for s in result.sections)})
  if args.report:
    from musiclm_jax.evaluation import report  # pylint: disable=g-import-not-at-top
    context = figures.context()
    report.write(
        args.report, f'Quick evaluation of {bundle.identity}', result.sections,
        drawn, _sounds(bundle, result),
        [f'{len(result.data.clips)} clips of {result.data.corpus}, split '
         f'{result.data.split}, seed {args.seed}; '
         f'{result.figures["wall_seconds"]:.0f} s on {context["machine"]}; '
         f'jax {context["version_jax"]}, commit {context["git_commit"][:7]}'])
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


def _check_output(option, value, suffix):
  """UserError where a file could not be written."""
  if value is None:
    return
  path = pathlib.Path(value)
  if suffix and path.suffix != suffix:
    raise errors.UserError(
        f'{option} {value} has extension {path.suffix!r}; expected {suffix}.')
  if not path.parent.is_dir():
    raise errors.UserError(
        f'{option}: the folder {path.parent} does not exist; create it first.')
