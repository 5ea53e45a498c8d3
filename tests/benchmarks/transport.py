"""How fast costs of transport are; prints, and never asserts.

  python tests/benchmarks/transport.py [--pairs 10000] [--json FILE]

  seconds_64, 96, 128    pairs with so many bins in use on either side, compiled
                         before; the target is 10,000 pairs of 64 in a minute
  error_64 ...           by how much the marginals were missed, at most
"""

import argparse
import time

import numpy as np

from musiclm_jax import figures
from musiclm_jax.metrics import transport

_SIZE, _TOKENS = 1024, 125


def pairs(count, bins, seed=0):
  """Two [count, 1024] shares with `bins` bins in use, of 125 tokens or more."""
  rng = np.random.default_rng(seed)
  made = []
  for _ in range(2):
    tokens = rng.integers(0, bins, (count, max(_TOKENS, bins)))
    tokens[:, :bins] = np.arange(bins)  # all of them are in use
    places = np.argsort(rng.random((count, _SIZE)), axis=1)[:, :bins]
    made.append(transport.shares(
        np.take_along_axis(places, tokens, axis=1), _SIZE))
  return made


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--pairs', type=int, default=10_000)
  parser.add_argument('--json')
  args = parser.parse_args()
  ground = transport.distances(
      np.random.default_rng(1).standard_normal((_SIZE, 128)))
  found = {'pairs': args.pairs}
  for bins in transport.BUCKETS:
    one, other = pairs(args.pairs, bins)
    transport.between(one[:2], other[:2], ground)  # compiles
    start, cpu = time.monotonic(), time.process_time()
    result = transport.between(one, other, ground)
    found[f'seconds_{bins}'] = time.monotonic() - start
    found[f'cpu_seconds_{bins}'] = time.process_time() - cpu
    found[f'error_{bins}'] = float(result.error.max())
    print(f'{args.pairs} pairs of {bins} bins: '
          f'{found[f"seconds_{bins}"]:.1f} s, '
          f'{found[f"cpu_seconds_{bins}"]:.1f} s of processors', flush=True)
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
