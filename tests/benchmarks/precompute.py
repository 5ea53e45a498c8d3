"""What precomputing costs; prints, and never asserts.

  python -m tests.benchmarks.precompute [--bundle DIR] [--records N] [--json FILE]

  precompute_xrt_per_core  tokenising with the bundle on one core, x real time;
                           the first minute, which compiles, is not counted
  long_xrt_per_core        the same of one long track, by stretches
  long_peak_mb             resident memory while that was done, at its most
  RUNNER_W_ms_N            with W workers and toy tokenizers, milliseconds a
                           record of a corpus of N records; what a corpus of one
                           shard takes is the start, and is taken off
"""

import argparse
import itertools
import os
import pathlib
import resource
import tempfile
import time

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import figures
from musiclm_jax import records
from musiclm_jax import workers
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import shards
from tests.helpers import fake_tokens

_RECORD_SECONDS = 30
_SHARD_SECONDS = 300
_LONG_SECONDS = shards.LONG_SECONDS + 240
_WORKERS = (1, 2, 4)


def write_corpus(directory, count, rate_hz, seconds=_RECORD_SECONDS):
  """Noise under a new loudness each second; no two tracks are alike."""
  rng = np.random.default_rng(count)
  with records.Writer(directory, 'noise', rate_hz, licence='CC0') as writer:
    for number in range(count):
      loud = np.repeat(rng.integers(1, 30_000, seconds), rate_hz)
      noise = rng.uniform(-1, 1, len(loud)) if rate_hz > 2000 else 1
      writer.add('train', f'{number}', (loud * noise).astype(np.int16),
                 captions=['noise'])
  return records.Corpus(directory)


def with_bundle(root, bundle_dir):
  """x real time of the real tokenizers on one core."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
  tokenizers = loading.Tokenizers.load(bundle_dir)
  rate = tokenizers.tokens.audio.sample_rate_hz
  found = {}
  for name, count, seconds in (
      ('warm', 10, _RECORD_SECONDS), ('precompute', 20, _RECORD_SECONDS),
      ('long_warm', 1, _LONG_SECONDS), ('long', 1, _LONG_SECONDS)):
    corpus = write_corpus(root / name, count, rate, seconds)
    start = time.perf_counter()
    precompute.tokenize(tokenizers, corpus, root / f'{name}_cache')
    found[name] = count * seconds / (time.perf_counter() - start)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  yield 'precompute_xrt_per_core', found['precompute']
  yield 'long_xrt_per_core', found['long']
  yield 'long_peak_mb', peak


def with_workers(root, count):
  """Milliseconds a record, by engine, workers and size of the corpus."""
  sizes = (_SHARD_SECONDS // _RECORD_SECONDS, count, 10 * count)
  corpora = [write_corpus(root / f'toy{size}', size, fake_tokens.RATE_HZ)
             for size in sizes]
  # What this process imports is no engine's cost.
  precompute.tokenize(fake_tokens.tokenizers(), corpora[0], root / 'warm_toy')
  for runner, number in [('local', 1)] + [('beam', n) for n in _WORKERS]:
    walls = []
    for size, corpus in zip(sizes, corpora):
      start = time.perf_counter()
      precompute.tokenize(
          fake_tokens.tokenizers(), corpus, root / f'{runner}{number}_{size}',
          shard_seconds=_SHARD_SECONDS, load=fake_tokens.tokenizers,
          options=workers.Options(runner, number))
      walls.append(time.perf_counter() - start)
    yield f'{runner}_{number}_start_s', walls[0]
    for size, wall in zip(sizes[1:], walls[1:]):
      yield f'{runner}_{number}_ms_{size}', (
          1000 * (wall - walls[0]) / (size - sizes[0]))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--bundle', default=str(bundle_lib.shipped()))
  parser.add_argument('--records', type=int, default=300, metavar='N',
                      help='of the smaller corpus; the other has ten times more')
  parser.add_argument('--json', metavar='FILE')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    # The second part keeps to one core from then on.
    parts = (with_workers(root, args.records), with_bundle(root, args.bundle))
    found = {}
    for name, value in itertools.chain(*parts):
      print(f'{name}: {value:.4g}', flush=True)
      found[name] = value
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
