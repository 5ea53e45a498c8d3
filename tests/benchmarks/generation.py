"""Decoding and training speed of the stages at a leaf's size, random weights.

  python tests/benchmarks/generation.py [--size demo] [--seconds 10] [--json F]
  python tests/benchmarks/generation.py --train

Prints tokens/s of each stage with one row, the time of a whole clip without the
codec and its ratio to real time. `--train` times training steps instead. On a
machine with other work the CPU time says more than the wall time; both are
printed.
"""

import argparse
import platform
import statistics
import subprocess
import time

import jax
import numpy as np

from musiclm_jax import configs
from musiclm_jax import records
from musiclm_jax.generation import long
from musiclm_jax.generation import sampler
from musiclm_jax.stages import model

RUNS = 3


def timed(function):
  """Median (wall, CPU) seconds of `function`, after one run to compile."""
  function()
  walls, cpus = [], []
  for _ in range(RUNS):
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
  return statistics.median(walls), statistics.median(cpus)


def trainable(name, size):
  settings = {'MODEL_DIR': 'unused', 'CACHE_DIR': 'unused'}
  config = configs.load(f'{name}_{size}', settings)
  return config.arguments['trainable'], config.arguments['source'].batch_size


def random_codes(layout, rows):
  rng = np.random.default_rng(0)
  return {s.name: rng.integers(
      0, s.codebook_size, (rows, s.num_frames, s.num_codebooks))
          for s in layout.placed}


def draw(made, request):
  """One stage of a request, from the start."""
  request.codes.pop(made.stage.spec.target, None)
  track = long.Track(made, request)
  while track.done < request.seconds:
    track.advance(request.seconds)


def decode(size, seconds):
  """{figure: value} of generating one clip of `seconds`."""
  figures, total = {}, 0.0
  request = long.Request(seconds, 0, np.zeros(1, int), {})
  request.codes['mulan'] = np.zeros((1, 1, 12), np.int32)
  for name in sampler.STAGES:
    stage_model = trainable(name, size)[0].model
    params = jax.jit(stage_model.init)(jax.random.key(0))
    made = sampler.Sampler(model.TrainedStage(stage_model, params))
    wall, cpu = timed(lambda: draw(made, request))  # pylint: disable=cell-var-from-loop
    tokens = request.codes[name].size
    figures[f'{name}_tokens_per_s'] = tokens / wall
    figures[f'{name}_wall_s'], figures[f'{name}_cpu_s'] = wall, cpu
    total += wall
    print(f'{name}: {tokens} tokens in {wall:.2f} s ({cpu:.2f} s CPU), '
          f'{tokens / wall:.0f} tokens/s', flush=True)
  figures['stages_xrt'] = seconds / total
  print(f'{seconds} s of tokens in {total:.2f} s: {seconds / total:.2f} x real '
        f'time, codec not counted')
  return figures


def train(size):
  """{figure: value} of a training step of each stage."""
  figures = {}
  for name in sampler.STAGES:
    stage, rows = trainable(name, size)
    layout = stage.model.layout
    tokens = layout.build(random_codes(layout, rows))
    batch = dict(
        decoder_input_tokens=np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
        decoder_target_tokens=tokens,
        decoder_loss_weights=np.tile(layout.target_weights(), (rows, 1)))
    state = [jax.jit(stage.init)(jax.random.key(0), batch)]
    update = jax.jit(stage.update, donate_argnums=0)

    def step():
      state[0], metrics = update(state[0], batch, jax.random.key(0))  # pylint: disable=cell-var-from-loop
      jax.block_until_ready(metrics)

    wall, cpu = timed(step)
    count = rows * layout.target.length
    figures[f'{name}_train_tokens_per_s'] = count / wall
    print(f'{name}: batch {rows}, {wall:.2f} s a step ({cpu:.2f} s CPU), '
          f'{count / wall:.0f} target tokens/s', flush=True)
  return figures


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--size', default='demo')
  parser.add_argument('--seconds', type=int, default=10)
  parser.add_argument('--train', action='store_true')
  parser.add_argument('--json')
  args = parser.parse_args()
  figures = (train(args.size) if args.train else
             decode(args.size, args.seconds))
  if args.json:
    commit = subprocess.run(
        ['git', 'rev-parse', 'HEAD'], capture_output=True, text=True,
        check=False).stdout.strip()
    records.write_json(args.json, dict(
        figures, size=args.size, machine=platform.platform(),
        jax=jax.__version__, commit=commit))


if __name__ == '__main__':
  main()
