"""Audio to tokens, once: the frozen tokenizers of a bundle over a whole corpus.

  musiclm precompute --bundle DIR --corpus DIR --cache DIR
  musiclm precompute --codec hf:DIR --semantic hf:DIR:layer=7 --joint hf:DIR ...

Tracks are cut to whole seconds; those under one second are left out. A run that
was stopped goes on with the next shard. What is written is described in
tokens/cache.py, how in tokens/precompute.py.
"""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
import pathlib
import sys
import time
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokenizers.adapters import registry
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import precompute as precompute_lib


def precompute(
    bundle_dir: str | pathlib.Path | None, corpus_dir: str | pathlib.Path,
    cache_dir: str | pathlib.Path,
    progress: Callable[[str], None] | None = None, replace: bool = False,
    adapters: Mapping[str, Any] | None = None) -> cache_lib.Cache:
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

  Returns:
    The finished `cache.Cache`.

  Raises:
    UserError: a part is missing, or cache_dir holds another cache.
  """
  corpus = records.Corpus(corpus_dir)
  precompute_lib.refuse_file(cache_dir)
  with files.claimed(cache_dir, 'the token cache'):
    adapted = () if not adapters else (registry.adapt(
        adapters, corpus, precompute_lib.corpus_hash(corpus), cache_dir,
        progress, replace),)
    return precompute_lib.tokenize(
        loading.Tokenizers.load(bundle_dir, *adapted), corpus, cache_dir,
        progress, replace)


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
  files.check_folder(args.cache, '--cache')
  precompute(args.bundle, args.corpus, args.cache, say, args.replace, adapters)
  described = cache_lib.describe(args.cache)
  for split in described['splits']:
    left_out = described[f'{split}_left_out']
    print(f'{split}: {described[f"{split}_tracks"]} tracks, '
          f'{described[f"{split}_seconds"]} s'
          + (f'; {left_out} under a second left out' if left_out else ''))
  if args.json:
    from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
    figures.write(args.json, dict(
        {k: v for k, v in described.items() if isinstance(v, int)},
        wall_seconds=time.monotonic() - start))


if __name__ == '__main__':
  from musiclm_jax.commands import cli
  cli.main(['precompute'] + sys.argv[1:])
