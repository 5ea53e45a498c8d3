"""Says what a bundle, a corpus, a token cache or an audio file holds.

  musiclm inspect bundle [DIR]       (default: the shipped one)
  musiclm inspect corpus DIR [--check]      --check reads all of it
  musiclm inspect cache DIR [--picture FILE.png]
  musiclm inspect cache DIR --decode SEED [--bundle DIR] -o FILE.wav
  musiclm inspect audio FILE
"""

import argparse
import collections
import json
import pathlib

from musiclm_jax import errors
from musiclm_jax import files

KINDS = ('bundle', 'corpus', 'cache', 'audio')
_SHOWN_REASONS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm inspect`."""
  parser.add_argument('kind', choices=KINDS)
  parser.add_argument('path', nargs='?')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')
  parser.add_argument('--check', action='store_true',
                      help='corpus: read every record; exit code 2 if any is bad')
  parser.add_argument('--picture', metavar='FILE.png',
                      help='cache: how its codes are used, drawn')
  parser.add_argument('--decode', type=int, metavar='SEED',
                      help='cache: decode a part of it, drawn with this seed')
  parser.add_argument('--bundle', metavar='DIR',
                      help='cache: whose codec made it (default: the shipped one)')
  parser.add_argument('-o', '--output', metavar='FILE',
                      help='cache: .wav or .flac, what was decoded')


def run(args: argparse.Namespace) -> None:
  """Prints the figures of one thing, and writes them as JSON if asked."""
  if args.path is None and args.kind != 'bundle':
    raise errors.UserError(f'inspect {args.kind} needs a path.')
  _check_cache_options(args)
  if args.json:
    files.check_output(args.json, what='--json')
  checked = _checked(args) if args.check else {}
  figures = globals()[f'print_{args.kind}'](args.path) | checked
  if args.kind == 'cache':
    figures |= _print_use(args)
  if args.json:
    _write_json(args.json, figures)


def _write_json(path, figures):
  from musiclm_jax import figures as figures_lib  # pylint: disable=g-import-not-at-top
  figures_lib.write(path, figures)


def _checked(args):
  """Figures of a corpus that was read whole; UserError where any of it is bad."""
  figures = check_corpus(args.path)
  if figures['bad']:
    if args.json:
      _write_json(args.json, figures)
    raise errors.UserError(
        f'{args.path}: {figures["bad"]} faults in {figures["checked"]} records; '
        f'make or copy the corpus again.')
  return figures


def _check_cache_options(args):
  """UserError before any work where options do not fit together."""
  if args.check and args.kind != 'corpus':
    raise errors.UserError(
        f'--check goes with `inspect corpus`, not with {args.kind}.')
  given = [option for option in ('picture', 'decode', 'bundle', 'output')
           if getattr(args, option) is not None]
  if given and args.kind != 'cache':
    raise errors.UserError(
        f'--{given[0]} goes with `inspect cache`, not with {args.kind}.')
  if (args.decode is None) != (args.output is None):
    raise errors.UserError(
        '--decode SEED and -o FILE.wav go together; give both or none.')
  if args.decode is not None and args.decode < 0:
    raise errors.UserError(
        f'--decode is {args.decode}; expected a seed of 0 or more.')
  if args.picture:
    files.check_output(args.picture, ('.png',), '--picture')
  if args.output:
    from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
    audio.check_output(args.output)


def print_bundle(path: str | pathlib.Path | None = None) -> dict[str, float]:
  """Components, parameters, sizes and what they were trained on."""
  import numpy as np  # pylint: disable=g-import-not-at-top

  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(path or bundle_lib.shipped())
  print(f'{bundle.directory}: {bundle.identity}')
  figures = {}
  for name in bundle_lib.COMPONENTS:
    if not bundle.has(name):
      optional = name in bundle_lib.OPTIONAL
      print(f'  {name:<12} {"not part of it" if optional else "missing"}')
      continue
    component = bundle_lib.load_component(bundle.directory / name)
    count = sum(int(np.size(w)) for w in component.weights.values())
    size = sum(f.stat().st_size
               for f in (bundle.directory / name).iterdir() if f.is_file())
    figures[f'{name}_parameters'], figures[f'{name}_bytes'] = count, size
    about = component.metadata
    on = f' on {about["corpus"]}' if 'corpus' in about else ''
    print(f'  {name:<12} {count / 1e6:7.2f} M values  {size / 1e6:6.2f} MB  '
          f'{about.get("steps", "?")} steps{on}')
  figures['bundle_bytes'] = sum(
      f.stat().st_size for f in bundle.directory.rglob('*') if f.is_file())
  print(f'  {"total":<12} {figures["bundle_bytes"] / 1e6:.2f} MB')
  figures.update(_print_evaluation(bundle))
  return figures


def _print_evaluation(bundle):
  """What `musiclm evaluate quick --record` found; its figures."""
  from musiclm_jax.commands import evaluate  # pylint: disable=g-import-not-at-top
  path = bundle.directory / evaluate.RECORD
  command = f'musiclm evaluate quick --bundle {bundle.directory} --record'
  if not path.is_file():
    print(f'not evaluated yet; run `{command}`')
    return {}
  from musiclm_jax import files  # pylint: disable=g-import-not-at-top
  remedy = f'run `{command}` again'
  recorded = files.read_json(path, remedy)
  files.require(path, recorded, remedy, bundle_fingerprint=str, corpus=str,
                  clips=(int, float), text=str, git_commit=str)
  if recorded['bundle_fingerprint'] != bundle.weights_fingerprint():
    print(f'the recorded evaluation is of other weights; run `{command}` again')
    return {}
  print(f'\nQuick evaluation: {recorded["clips"]:.0f} clips of '
        f'{recorded["corpus"]}, split {recorded.get("split")}, seed '
        f'{recorded.get("seed")}, at commit {recorded["git_commit"][:7]}\n')
  print(recorded['text'])
  return {k: v for k, v in recorded.items() if isinstance(v, (int, float))}


def print_corpus(path: str | pathlib.Path) -> dict[str, float]:
  """Splits, hours, captions and licence."""
  from musiclm_jax import records  # pylint: disable=g-import-not-at-top
  corpus = records.Corpus(path)
  manifest = corpus.manifest
  print(f'{path}: {corpus.name}, {corpus.sample_rate_hz} Hz mono, licence: '
        f'{manifest.get("licence", "not stated")}')
  figures = {}
  for name in corpus.splits:
    split = corpus.split(name)
    captioned = sum(bool(t.captions) for t in split)
    figures[f'{name}_tracks'] = len(split)
    figures[f'{name}_hours'] = split.seconds / 3600
    figures[f'{name}_captioned'] = captioned
    print(f'  {name:<11} {len(split):6d} tracks  {split.seconds / 3600:7.2f} h'
          f'  {captioned} with captions')
  return figures


def check_corpus(path: str | pathlib.Path) -> dict[str, float]:
  """Reads every record of a corpus; a line for each that is bad."""
  from musiclm_jax import progress as progress_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import record_check  # pylint: disable=g-import-not-at-top
  from musiclm_jax import records  # pylint: disable=g-import-not-at-top
  corpus = records.Corpus(path)
  total = sum(said['tracks'] for said in corpus.manifest['splits'].values()
              if isinstance(said, dict) and isinstance(said.get('tracks'), int))
  read = bad = 0
  with progress_lib.Progress() as progress:
    def reached(count):
      nonlocal read
      read = count
      progress.show('check', count, max(total, count), ' records')

    for fault in record_check.faults(corpus, reached):
      bad += 1
      print(fault, flush=True)
  if not bad:
    blind = record_check.without_checksum(corpus)
    print(f'{path}: {read} records, all as they were written' + (
        f'; of {blind} there is no checksum, only their places are known'
        if blind else ''))
  return dict(checked=read, bad=bad)


def print_cache(path: str | pathlib.Path) -> dict[str, float]:
  """The fingerprint and contents of a token cache."""
  from musiclm_jax.tokens import cache  # pylint: disable=g-import-not-at-top
  description = cache.describe(path)
  print(json.dumps(description, indent=2))
  return {k: v for k, v in description.items() if isinstance(v, (int, float))}


def _print_use(args):
  """How a cache's codes are used, what is left out of it, a part of it decoded.
  """
  import importlib.util  # pylint: disable=g-import-not-at-top

  from musiclm_jax.tokens import cache as cache_lib  # pylint: disable=g-import-not-at-top
  cache = cache_lib.Cache(args.path)
  reasons = collections.Counter(
      left['reason'] for left in cache.left_out)
  for reason, count in reasons.most_common(_SHOWN_REASONS):
    print(f'left out: {count} ({reason.rstrip(".")})')
  if importlib.util.find_spec('tensorflow') is None and not (
      args.picture or args.output):
    print('how codes are used is told where TensorFlow is installed: pip '
          'install "musiclm_jax[train]"')
    return {}
  from musiclm_jax.evaluation import token_cache  # pylint: disable=g-import-not-at-top
  found = token_cache.use(cache)
  print(token_cache.table(found))
  if args.picture:
    token_cache.draw(pathlib.Path(args.picture), found)
    print(f'wrote {args.picture}')
  if args.output:
    _decode(cache, args)
  return token_cache.figures(found)


def _decode(cache, args):
  from musiclm_jax import audio as audio_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax.evaluation import token_cache  # pylint: disable=g-import-not-at-top
  bundle = bundle_lib.Bundle(args.bundle or bundle_lib.shipped())
  audio, text = token_cache.example(cache, bundle, args.decode)
  audio_lib.write(args.output, audio, cache.tokens.audio.sample_rate_hz)
  print(f'wrote {args.output}: {text}')


def print_audio(path: str | pathlib.Path, rate_hz: int | None = None
                ) -> dict[str, float]:
  """Length, level and spectrum of a sound file, read at `rate_hz`.

  None stands for the rate of MusicLM.
  """
  import numpy as np  # pylint: disable=g-import-not-at-top

  from musiclm_jax import audio  # pylint: disable=g-import-not-at-top
  from musiclm_jax import specs  # pylint: disable=g-import-not-at-top
  rate = rate_hz or specs.AudioSpec.sample_rate_hz
  sound = audio.read(pathlib.Path(path), rate)
  spectrum = np.abs(np.fft.rfft(sound)) ** 2
  hz = np.fft.rfftfreq(len(sound), 1 / rate)
  figures = {
      'seconds': len(sound) / rate,
      'peak': float(np.max(np.abs(sound))),
      'rms': float(np.sqrt(np.mean(sound ** 2))),
      'silent_share': float(np.mean(np.abs(sound) < 1e-4)),
      'spectral_centroid_hz': float(
          (hz * spectrum).sum() / max(spectrum.sum(), 1e-20)),
  }
  for name, value in figures.items():
    print(f'  {name:<22} {value:.4f}')
  return figures
