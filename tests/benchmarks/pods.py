"""What MusicLM at the paper's size needs on pods, by `musiclm preflight`.

  python tests/benchmarks/pods.py                   seven models on four pods
  python tests/benchmarks/pods.py semantic_base --pods v5e_256    one of them
  python tests/benchmarks/pods.py --scaling         1 to 256 v5e chips

Needs no TPU, but its compiler: pip install 'musiclm_jax[tpu]'. Prints Markdown.
Each compile is a process of its own, whose command and seconds stand on stderr;
--kernels waits for what is expected of the kernels as well, which takes many
times as long. --out DIR keeps the figures of each as JSON, and what is there
already is not made again.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

from musiclm_jax.commands import preflight as command

LEAVES = ('soundstream_base', 'framecodec_base', 'w2vbert_base', 'mulan_base',
          'semantic_base', 'coarse_base', 'fine_base')
PODS = {'v4_128': 'v4:4x4x8', 'v5e_256': 'v5e:16x16',
        'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:16x16'}
# For the codecs' batches of 64 rows, one for each chip.
CODECS = ('soundstream_base', 'framecodec_base')
SMALLER = {'v4_128': 'v4:4x4x4', 'v5e_256': 'v5e:8x8',
           'v5p_64': 'v5p:4x4x4', 'v6e_256': 'v6e:8x8'}
SLICES = ('1x1', '2x2', '4x4', '8x8', '16x16')  # of v5e
_SCALED = 'semantic_base'
_ROWS = 4  # whose gradient a chip computes at a time: what one chip can hold
_GIB = 2**30
_DAY_SECONDS = 86_400.0


def figures(path, kernels, *arguments):
  """Of one `musiclm preflight`, which is run unless `path` holds them.

  Those with what the kernels should take are kept apart: the kernels themselves
  lie in the memory too.
  """
  if kernels:
    path = path.with_suffix('.kernels.json')
  if path.is_file():
    return json.loads(path.read_text(encoding='utf-8'))
  path.parent.mkdir(parents=True, exist_ok=True)
  more = [] if kernels else ['--roofline']
  command_line = [
      'preflight', *arguments, *more, '--no-advice', '--json', str(path)]
  print('musiclm', ' '.join(command_line), file=sys.stderr)
  began = time.monotonic()
  subprocess.run([sys.executable, '-m', 'musiclm_jax.commands.cli', *command_line],
                 check=True, stdout=subprocess.DEVNULL)
  print(f'{time.monotonic() - began:.0f} s', file=sys.stderr)
  return json.loads(path.read_text(encoding='utf-8'))


def of_pod(leaf, pod, folder, kernels):
  """The figures of a model on a pod."""
  path = folder / f'{leaf}.{pod}.json'
  if leaf in CODECS:
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
  """Prints a table of all, and one of kernels; `found`: {(leaf, pod): figures}.
  """
  print('| | ' + ' | '.join(PODS[p] for p in pods) + ' |')
  print('|---|' + '---|' * len(pods))
  for leaf in leaves:
    print(f'| `{leaf}` | ' + ' | '.join(
        _cell(found[leaf, p]) for p in pods) + ' |')
  if len(leaves) > 1:
    print('| together | ' + ' | '.join(
        f'{sum(_days(found[leaf, p]) for leaf in leaves):,.0f}'
        for p in pods) + ' |')
  show_kernels({k: f for k, f in found.items() if 'expected_seconds' in f})


def _cell(found):
  """Time of a step and what it waits for, memory of a chip, chip-days."""
  memory = f'{found["peak_bytes"] / _GIB:.1f} GiB'
  if not found['fits']:
    return f'{memory} of {found["usable_bytes"] / _GIB:.1f}: does not fit'
  return (f'{_time(found["step_seconds"])} ({_slowest(found)}), {memory}, '
          f'{_days(found):,.3g}')


def show_kernels(found):
  """Prints a row of each, and their sum; `found`: {(leaf, pod): figures}."""
  if not found:
    return
  print('\n| | memory of a chip | step at least | kernels expected | '
        'MFU expected | chip-days, so |\n|---|---|---|---|---|---|')
  for (leaf, pod), f in found.items():
    share = f'{f["mfu_expected"]:.0%}' if 'mfu_expected' in f else ''
    print(' | '.join([
        f'| `{leaf}`, {PODS[pod]}', f'{f["peak_bytes"] / _GIB:.1f} GiB',
        _time(f['step_seconds']), _time(f['expected_seconds']), share,
        f'{_days(f, "expected_seconds"):,.3g} |']))
  for pod in dict.fromkeys(p for _, p in found):
    rows = [f for (_, p), f in found.items() if p == pod]
    if len(rows) > 1:
      print(f'| together, {PODS[pod]} | | | | | '
            f'{sum(_days(f, "expected_seconds") for f in rows):,.0f} |')


def show_scaling(found):
  """Prints a row of each slice; `found`: a list of figures."""
  times = [name for name in ('step', 'compute', 'memory', 'network', 'expected')
           if f'{name}_seconds' in found[0]]
  titles = dict(step='step at least', expected='kernels expected')
  columns = ['chips', 'memory of a chip', *(titles.get(t, t) for t in times),
             'sent by a chip']
  print('| ' + ' | '.join(columns) + ' |\n|' + '---|' * len(columns))
  for f in found:
    print(f'| {f["chips"]} | {f["peak_bytes"] / _GIB:.1f} GiB | ' + ' | '.join(
        _time(f.get(f'{name}_seconds')) for name in times) +
          f' | {f.get("wire_bytes", 0) / _GIB:.1f} GiB |')


def _time(seconds):
  """Milliseconds, '' for None.

  >>> _time(3.27345), _time(0.0182)
  ('3,273 ms', '18.2 ms')
  """
  if seconds is None:
    return ''
  return f'{1e3 * seconds:{",.0f" if seconds >= 1 else ".3g"}} ms'


def _slowest(found):
  return max(('compute', 'memory', 'network'),
             key=lambda part: found[f'{part}_seconds'])


def _days(found, name='step_seconds'):
  """Chip-days of the leaf's whole run."""
  return found['steps'] * found.get(name, 0.0) * found['chips'] / _DAY_SECONDS


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
