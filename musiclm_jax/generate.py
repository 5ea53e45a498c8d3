"""Makes music from a description.

  musiclm generate "a lively irish jig on fiddle with hand drums" -o jig.wav

The shipped bundle is used unless --bundle names another. The same seed, prompt
and settings give the same file on the same machine.
"""

import pathlib
import sys

from musiclm_jax import errors

MAX_SECONDS = 600
MAX_SAMPLES = 64


def add_arguments(parser):
  """The options of `musiclm generate`."""
  parser.add_argument('prompt', help='what the music should be like')
  parser.add_argument('-o', '--output', default='music.wav', metavar='FILE',
                      help='.wav or .flac (default: %(default)s)')
  parser.add_argument('--seconds', type=float, default=10.0,
                      help='length, 1 to 600 (default: %(default)s)')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--samples', type=int, default=1, metavar='K',
                      help='how many; K > 1 writes FILE-1, FILE-2, ...')
  parser.add_argument('--bundle', metavar='DIR',
                      help='trained components (default: the shipped ones)')
  for stage, value in (('semantic', 1.0), ('coarse', 0.95), ('fine', 0.4)):
    parser.add_argument(f'--temperature-{stage}', type=float, default=value,
                        metavar='T', help='default: %(default)s')


def run(args):
  """Checks everything that can be checked, then loads, samples and writes."""
  prompt = check_prompt(args.prompt)
  seconds = check_seconds(args.seconds)
  paths = output_paths(args.output, args.samples)
  temperatures = {
      stage: check_temperature(stage, getattr(args, f'temperature_{stage}'))
      for stage in ('semantic', 'coarse', 'fine')}
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  directory = args.bundle or bundle_lib.shipped()
  bundle = bundle_lib.Bundle(directory)
  bundle.require('soundstream', 'mulan', 'semantic', 'coarse', 'fine')
  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  from musiclm_jax.generation import pipeline  # pylint: disable=g-import-not-at-top
  result = pipeline.Pipeline(bundle).generate(
      [prompt], seconds=seconds, seed=args.seed, temperatures=temperatures,
      samples=args.samples, progress=_progress)
  rate = bundle.tokens.audio.sample_rate_hz
  for path, sound in zip(paths, result.audio):
    audio.write(path, sound, rate, metadata={
        'title': prompt, 'software': 'musiclm_jax',
        'comment': f'seed={args.seed} bundle={bundle.identity}'})
    print(f'{path}: {len(sound) / rate:.1f} s of "{prompt}", '
          f'seed {args.seed}')


def check_prompt(prompt):
  """The prompt without surrounding space; UserError when nothing is left."""
  if not prompt.strip():
    raise errors.UserError(
        'the prompt is empty; describe the music, for example '
        '"a slow waltz on accordion".')
  return prompt.strip()


def check_seconds(seconds):
  """`seconds`, or UserError outside 1..600 (NaN included)."""
  if not 1 <= seconds <= MAX_SECONDS:
    raise errors.UserError(
        f'--seconds is {seconds:g}; expected 1 to {MAX_SECONDS}.')
  return seconds


def check_temperature(stage, value):
  """`value`, or UserError unless it is a positive finite number."""
  if not 0 < value < 100:
    raise errors.UserError(
        f'--temperature-{stage} is {value:g}; expected above 0 and below 100.')
  return value


def output_paths(output, samples):
  """The files to write; UserError where one could not be written."""
  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  if not 1 <= samples <= MAX_SAMPLES:
    raise errors.UserError(
        f'--samples is {samples}; expected 1 to {MAX_SAMPLES}.')
  path = pathlib.Path(output)
  audio.check_output(path)
  if samples == 1:
    return [path]
  return [path.with_name(f'{path.stem}-{i + 1}{path.suffix}')
          for i in range(samples)]


def _progress(stage, done, total):
  """One line a stage on stderr, rewritten in place on a terminal."""
  end = '\n' if done >= total or not sys.stderr.isatty() else ''
  start = '\r' if sys.stderr.isatty() else ''
  print(f'{start}{stage:<9} {done}/{total}', end=end, file=sys.stderr,
        flush=True)
