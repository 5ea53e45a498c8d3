"""What MusicLM at the paper's size needs on pods, by `musiclm preflight`.

  python tests/benchmarks/pods.py                   the table: leaves x pods
  python tests/benchmarks/pods.py --scaling coarse_base   1 to 256 v5e chips

Needs no TPU, but its compiler: pip install 'musiclm_jax[tpu]'. Each compile takes
minutes on two cores. Prints Markdown; --json FILE writes the figures.
"""

import argparse

from musiclm_jax import figures
from musiclm_jax import preflight as command
from musiclm_jax.training import preflight

LEAVES = ('soundstream_base', 'w2vbert_base', 'mulan_base', 'semantic_base',
          'coarse_base', 'fine_base')
PODS = (('v4_128', 'v4:4x4x8'), ('v5e_256', 'v5e:16x16'),
        ('v5p_64', 'v5p:4x4x4'), ('v6e_256', 'v6e:16x16'))
SLICES = ('1x1', '2x2', '4x4', '8x8', '16x16')  # of v5e
_GIB = 2**30
_DAY_SECONDS = 86_400.0


def table(leaves):
  """Prints a row for every leaf and pod; returns the figures."""
  found, days = {}, {}
  print('| leaf | chips | GiB of memory | step at least | chip-days |')
  print('|---|---|---|---|---|')
  for leaf in leaves:
    for pod, topology in PODS:
      setup, steps = command.load([leaf, f'pods/{pod}'], topology=topology)
      report = preflight.measure(setup)
      memory = f'{report.peak / _GIB:.1f} of {report.usable / _GIB:.1f}'
      if report.counts is None:
        print(f'| {leaf} | {topology} | {memory}, does not fit | | |')
        continue
      step = report.step_seconds()
      cost = steps * step * report.chips / _DAY_SECONDS
      days[pod] = days.get(pod, 0.0) + cost
      print(f'| {leaf} | {topology} | {memory} | {step:.3g} s | {cost:,.0f} |',
            flush=True)
      found.update({f'{leaf}_{pod}_{k}': v
                    for k, v in report.figures().items()})
  for pod, cost in days.items():
    print(f'| all | {pod} | | | {cost:,.0f} |')
    found[f'all_{pod}_chip_days'] = cost
  return found


def scaling(leaf):
  """Prints the same batch on ever more chips; returns the figures."""
  found, first = {}, None
  print('| chips | step at least | sent by a chip | speed over one chip |')
  print('|---|---|---|---|')
  for name in SLICES:
    topology = f'v5e:{name}'
    setup, _ = command.load([leaf], topology=topology, mesh={'fsdp': -1})
    report = preflight.measure(setup)
    if report.counts is None:
      print(f'| {report.chips} | does not fit: {report.peak / _GIB:.0f} GiB '
            f'| | |', flush=True)
      continue
    step = report.step_seconds()
    first = first or step * report.chips
    print(f'| {report.chips} | {step:.3g} s | '
          f'{report.counts.wire_bytes / _GIB:.2f} GiB | '
          f'{first / step:.1f} |', flush=True)
    found.update({f'scaling_{report.chips}_{k}': v
                  for k, v in report.figures().items()})
  return found


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('leaves', nargs='*', default=LEAVES)
  parser.add_argument('--scaling', metavar='LEAF', default='')
  parser.add_argument('--json', metavar='FILE', default='')
  args = parser.parse_args()
  found = scaling(args.scaling) if args.scaling else table(args.leaves)
  if args.json:
    figures.write(args.json, found)


if __name__ == '__main__':
  main()
