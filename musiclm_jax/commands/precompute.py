"""Audio to tokens, once: the frozen tokenizers of a bundle over a whole corpus.

  musiclm precompute --bundle DIR --corpus DIR --cache DIR
  musiclm precompute --codec hf:DIR --semantic hf:DIR:layer=7 --joint hf:DIR ...
  musiclm precompute ... --runner beam --workers 8

Tracks are cut to whole seconds; those under one second are left out. A run that
was stopped goes on with the shards that are missing, on whichever engine. What
is written is described in tokens/cache.py, how in tokens/precompute.py.
"""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import os
import pathlib
import shlex
import sys
import time
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import places
from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokenizers.adapters import registry
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import precompute as precompute_lib


def precompute(
    bundle_dir: str | pathlib.Path | None, corpus_dir: str | pathlib.Path,
    cache_dir: str | pathlib.Path,
    progress: Callable[[str], None] | None = None, replace: bool = False,
    adapters: Mapping[str, Any] | None = None,
    options: workers.Options = workers.Options()) -> cache_lib.Cache:
  """Tokenises every split of a corpus into a token cache.

  Args:
    bundle_dir: a bundle with codec, w2vbert and mulan.
    corpus_dir: a corpus as `records.Writer` leaves it.
    cache_dir: where the cache goes; a finished one of the same bundle and corpus
      is left as it is, a half-finished one is continued.
    progress: a function of one line of text, called every few seconds.
    replace: whether a cache of other parts in cache_dir is removed.
    adapters: {kind: options} of `adapters.registry.parse`: models in place of
      the bundle's.
    options: where the work is done; workers see all folders by these names.

  Returns:
    The finished `cache.Cache`.

  Raises:
    UserError: a part is missing, cache_dir holds another cache, or shards
      failed.
  """
  corpus = records.Corpus(corpus_dir)
  precompute_lib.refuse_file(cache_dir)
  with files.claimed(cache_dir, 'the token cache'):
    corpus_hash = precompute_lib.corpus_hash(corpus) if adapters else ''
    adapted = () if not adapters else (registry.adapt(
        adapters, corpus, corpus_hash, cache_dir, progress, replace),)
    recipe = loading.Recipe(
        bundle_dir and os.path.abspath(bundle_dir),
        tuple((adapters or {}).items()), os.path.abspath(corpus_dir),
        corpus_hash, os.path.abspath(cache_dir))
    return precompute_lib.tokenize(
        loading.Tokenizers.load(bundle_dir, *adapted), corpus, cache_dir,
        progress, replace, options=options, load=recipe.load,
        origin=dict(command=_command(bundle_dir, corpus_dir, adapters)))


def _command(bundle_dir, corpus_dir, adapters):
  """What makes the same cache, wherever and on whichever engine."""
  words = ['musiclm', 'precompute', '--corpus', str(corpus_dir)]
  if bundle_dir:
    words += ['--bundle', str(bundle_dir)]
  for kind, options in sorted((adapters or {}).items()):
    words += [f'--{kind}', str(options)]
  return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm precompute`."""
  parser.add_argument('--bundle', metavar='DIR', help=(
      'holds codec, w2vbert and mulan; not needed where all three are '
      'replaced'))
  registry.add_arguments(parser)
  parser.add_argument('--corpus', required=True, metavar='DIR')
  parser.add_argument('--cache', required=True, metavar='DIR',
                      help='where the tokens go; a stopped run is continued')
  parser.add_argument('--replace', action='store_true',
                      help='replace a cache of another bundle or corpus')
  workers.add_arguments(parser)
  parser.add_argument('--json', metavar='FILE', help='write the figures there')


def run(args: argparse.Namespace) -> None:
  """Tokenises a corpus and says what the cache holds."""
  start = time.monotonic()
  say = lambda line: print(line, file=sys.stderr, flush=True)
  adapters = registry.parse(args)
  if not args.bundle and len(adapters) < len(registry.COMPONENTS):
    missing = sorted(set(registry.COMPONENTS) - set(adapters))
    raise errors.UserError(
        f'no --bundle; give one, or --{" and --".join(missing)} as well.')
  if args.json:
    files.check_output(args.json, what='--json')
  if places.is_remote(args.cache):
    raise errors.UserError(
        f'--cache {args.cache} is a URL; a cache is a folder that all workers '
        f'see, such as a mounted bucket. Copy it where it is wanted afterwards.')
  files.check_folder(args.cache, '--cache')
  if os.path.exists(os.path.join(args.cache, records.MANIFEST)):
    raise errors.UserError(
        f'--cache {args.cache} is a corpus or a bundle (it has '
        f'{records.MANIFEST}); choose another folder.')
  precompute(args.bundle, args.corpus, args.cache, say, args.replace, adapters,
             workers.from_arguments(args))
  described = cache_lib.describe(args.cache)
  for split in described['splits']:
    unusable = described.get(f'{split}_unusable', 0)
    short = described[f'{split}_left_out'] - unusable
    print(f'{split}: {described[f"{split}_tracks"]} tracks, '
          f'{described[f"{split}_seconds"]} s'
          + (f'; {short} under a second left out' if short else '')
          + (f'; {unusable} unusable, see {cache_lib.LEFT_OUT}'
             if unusable else ''))
  if args.json:
    from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
    figures.write(args.json, dict(
        {k: v for k, v in described.items() if isinstance(v, int)},
        wall_seconds=time.monotonic() - start))


if __name__ == '__main__':
  from musiclm_jax.commands import cli
  cli.main(['precompute'] + sys.argv[1:])
