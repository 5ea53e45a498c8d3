"""What MusicLM at the paper's size needs on pods, by `musiclm preflight`.

  python tests/benchmarks/pods.py                   the table: leaves x pods
  python tests/benchmarks/pods.py semantic_base --pods v5e_256    a row of it
  python tests/benchmarks/pods.py --scaling semantic_base   1 to 256 v5e chips

Needs no TPU, but its compiler: pip install 'musiclm_jax[tpu]'. Each compile takes
minutes on two cores. Prints Markdown; --json FILE writes the figures.
"""

import argparse
import math

from musiclm_jax import figures
from musiclm_jax import preflight as command
from musiclm_jax.training import preflight

LEAVES = ('soundstream_base', 'w2vbert_base', 'mulan_base', 'semantic_base',
          'coarse_base', 'fine_base')
PODS = {'v4_128': 'v4:4x4x8', 'v5e_256': 'v5e:16x16',
        'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:16x16'}
# For a batch of 64 rows, one for each chip.
SMALLER = {'v4_128': 'v4:4x4x4', 'v5e_256': 'v5e:8x8',
           'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:8x8'}
SLICES = ('1x1', '2x2', '4x4', '8x8', '16x16')  # of v5e
_ROWS = 4  # whose gradient a chip computes at a time: what one chip can hold
_GIB = 2**30
_DAY_SECONDS = 86_400.0


def table(leaves, pods):
  """Prints a row for every leaf and pod; returns the figures."""
  found, totals = {}, {}
  print('| leaf | chips | GiB of memory | step at least | kernels expected '
        '| MFU expected | chip-days at least |')
  print('|---|---|---|---|---|---|---|', flush=True)
  for pod in pods:
    for leaf in leaves:
      if leaf == 'soundstream_base':
        setup, steps = command.load([leaf], topology=SMALLER[pod])
      else:
        setup, steps = command.load([leaf, f'pods/{pod}'], topology=PODS[pod])
      report = preflight.measure(setup)
      cost = _row(leaf, report, steps)
      totals[pod] = totals.get(pod, 0.0) + cost
      found.update({f'{leaf}_{pod}_{k}': v
                    for k, v in report.figures().items()})
      found[f'{leaf}_{pod}_chip_days'] = cost
  for pod, cost in totals.items():
    if len(leaves) > 1:
      print(f'| all of these | {PODS[pod]} | | | | | {cost:,.0f} |')
  return found


def _row(leaf, report, steps):
  """Prints it; returns the chip-days of the run, at least."""
  start = (f'| {leaf} | {report.setup.topology.name} | '
           f'{report.peak / _GIB:.1f} of {report.usable / _GIB:.1f}')
  if report.counts is None:
    print(start + ', does not fit | | | | |', flush=True)
    return 0.0
  step, expected = report.step_seconds(), report.expected_seconds()
  share = f'{report.mfu(expected):.0%}' if report.needs else ''
  days = steps * max(step, expected) * report.chips / _DAY_SECONDS
  print(f'{start} | {1e3 * step:.3g} ms | {1e3 * expected:.3g} ms | {share} | '
        f'{days:,.0f} |', flush=True)
  return days


def scaling(leaf, slices):
  """Prints the same batch on ever more chips; returns the figures."""
  found = {}
  print('| chips | step at least | kernels expected | sent by a chip |')
  print('|---|---|---|---|', flush=True)
  for name in slices:
    topology = f'v5e:{name}'
    batch = command.load([leaf], topology=topology)[0].source.batch_size
    chips = math.prod(int(n) for n in name.split('x'))
    micro = _ROWS * chips if _ROWS * chips < batch else 0
    setup, _ = command.load([leaf], [f'MICROBATCH = {micro}'], topology,
                            {'fsdp': -1})
    report = preflight.measure(setup)
    if report.counts is None:
      print(f'| {chips} | {report.peak / _GIB:.0f} GiB do not fit | | |',
            flush=True)
      continue
    print(f'| {chips} | {1e3 * report.step_seconds():.3g} ms | '
          f'{1e3 * report.expected_seconds():.3g} ms | '
          f'{report.counts.wire_bytes / _GIB:.2f} GiB |', flush=True)
    found.update({f'scaling_{chips}_{k}': v
                  for k, v in report.figures().items()})
  return found


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('leaves', nargs='*', default=LEAVES)
  parser.add_argument('--pods', nargs='*', default=list(PODS), choices=PODS)
  parser.add_argument('--scaling', metavar='LEAF', default='')
  parser.add_argument('--slices', nargs='*', default=SLICES, choices=SLICES)
  parser.add_argument('--json', metavar='FILE', default='')
  args = parser.parse_args()
  found = (scaling(args.scaling, args.slices) if args.scaling else
           table(args.leaves, args.pods))
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
