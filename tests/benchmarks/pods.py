"""What MusicLM at the paper's size needs on pods, by `musiclm preflight`.

  python tests/benchmarks/pods.py                   six models on four pods
  python tests/benchmarks/pods.py semantic_base --pods v5e_256    one of them
  python tests/benchmarks/pods.py --scaling         1 to 256 v5e chips

Needs no TPU, but its compiler: pip install 'musiclm_jax[tpu]'. Prints Markdown.
Each compile is a process of its own; --kernels waits for what is expected of
the kernels as well, which takes many times as long. --out DIR keeps the figures
of each as JSON, and what is there already is not made again.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from musiclm_jax import preflight as command

LEAVES = ('soundstream_base', 'w2vbert_base', 'mulan_base', 'semantic_base',
          'coarse_base', 'fine_base')
PODS = {'v4_128': 'v4:4x4x8', 'v5e_256': 'v5e:16x16',
        'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:16x16'}
# For a batch of 64 rows, one for each chip.
SMALLER = {'v4_128': 'v4:4x4x4', 'v5e_256': 'v5e:8x8',
           'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:8x8'}
SLICES = ('1x1', '2x2', '4x4', '8x8', '16x16')  # of v5e
_SCALED = 'semantic_base'
_ROWS = 4  # whose gradient a chip computes at a time: what one chip can hold
_GIB = 2**30
_DAY_SECONDS = 86_400.0


def figures(path, kernels, *arguments):
  """Of one `musiclm preflight`, which is run unless `path` holds them."""
  if path.is_file():
    found = json.loads(path.read_text(encoding='utf-8'))
    if not kernels or 'expected_seconds' in found or not found['fits']:
      return found
  path.parent.mkdir(parents=True, exist_ok=True)
  more = [] if kernels else ['--roofline']
  print(' '.join(['musiclm preflight', *arguments, *more]), file=sys.stderr)
  subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.cli', 'preflight', *arguments, *more,
       '--no-advice', '--json', str(path)],
      check=True, stdout=subprocess.DEVNULL)
  return json.loads(path.read_text(encoding='utf-8'))


def of_pod(leaf, pod, folder, kernels):
  """The figures of a model on a pod."""
  path = folder / f'{leaf}.{pod}.json'
  if leaf == 'soundstream_base':
    return figures(path, kernels, leaf, '--topology', SMALLER[pod])
  return figures(path, kernels, leaf, f'pods/{pod}', '--topology', PODS[pod])


def of_slice(name, folder, kernels):
  """The figures of one batch on a slice of v5e chips."""
  chips = math.prod(int(n) for n in name.split('x'))
  batch = command.load(
      [_SCALED], topology=f'v5e:{name}')[0].source.batch_size
  micro = _ROWS * chips if _ROWS * chips < batch else 0
  return figures(
      folder / f'scaling.{name}.json', kernels, _SCALED, '--topology',
      f'v5e:{name}', '--mesh', 'fsdp=-1', f'--gin.MICROBATCH={micro}')


def show_pods(found, leaves, pods):
  """Prints a table of each quantity; `found`: {(leaf, pod): figures}."""
  def table(title, cell, total=None):
    print(f'\n| {title} | ' + ' | '.join(PODS[p] for p in pods) + ' |')
    print('|---|' + '---|' * len(pods))
    for leaf in leaves:
      name = leaf.removesuffix('_base')
      print(f'| {name} | ' + ' | '.join(
          cell(found[leaf, p]) for p in pods) + ' |')
    if total and len(leaves) > 1:
      print('| together | ' + ' | '.join(
          f'{sum(total(found[leaf, p]) for leaf in leaves):,.0f}'
          for p in pods) + ' |')

  table('GiB of a chip', lambda f: f'{f["peak_bytes"] / _GIB:.1f} of '
        f'{f["usable_bytes"] / _GIB:.1f}' + ('' if f['fits'] else ': too much'))
  table('ms a step, at least', lambda f: _milliseconds(f, 'step_seconds'))
  table('which is the time of', _slowest)
  table('chip-days, at least', lambda f: f'{_chip_days(f):,.0f}', _chip_days)
  table('ms that the kernels should take', _expected)


def _milliseconds(found, name):
  return f'{1e3 * found[name]:.3g}' if name in found else ''


def _slowest(found):
  parts = ('compute', 'memory', 'network')
  return max(parts, key=lambda p: found.get(f'{p}_seconds', 0.0))


def _chip_days(found):
  return (found['steps'] * found.get('step_seconds', 0.0) * found['chips'] /
          _DAY_SECONDS)


def _expected(found):
  share = found.get('mfu_expected')
  return _milliseconds(found, 'expected_seconds') + (
      f' (MFU {share:.0%})' if share else '')


def show_scaling(found):
  """Prints a row of each slice; `found`: a list of figures."""
  print('| chips | GiB of a chip | ms a step, at least | ms that the kernels '
        'should take | GiB sent by a chip |\n|---|---|---|---|---|')
  for f in found:
    print(f'| {f["chips"]} | {f["peak_bytes"] / _GIB:.1f} | '
          f'{_milliseconds(f, "step_seconds")} | {_expected(f)} | '
          f'{f.get("wire_bytes", 0) / _GIB:.2f} |')


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('leaves', nargs='*', default=LEAVES)
  parser.add_argument('--pods', nargs='*', default=list(PODS), choices=PODS)
  parser.add_argument('--scaling', action='store_true')
  parser.add_argument('--slices', nargs='*', default=SLICES, choices=SLICES)
  parser.add_argument('--kernels', action='store_true')
  parser.add_argument('--out', metavar='DIR')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(args.out or temporary)
    if args.scaling:
      show_scaling([of_slice(s, folder, args.kernels) for s in args.slices])
    else:
      show_pods({(leaf, pod): of_pod(leaf, pod, folder, args.kernels)
                 for pod in args.pods for leaf in args.leaves},
                args.leaves, args.pods)


if __name__ == '__main__':
  main()
