"""Decoding speed beside PyTorch's, and the shipped bundle against the clock.

  python tests/benchmarks/generation.py [--size base] [--rows 1,8] [--steps 32]
      [--runs 5] [--only decode,bundle] [--json FILE]

decode: tokens/s of the semantic stage at a size, random weights, float32,
bfloat16 and int8, taking turns with a decoder of the same shape in PyTorch and
with transformers' MusicGen decoder of as many parameters.
  decode_<type>_b<rows>_tokens_per_s     ours, `torch_` and `musicgen_` likewise
  decode_fp32_b1_vs_torch                above 1 ours is faster
  decode_fp32_b1_vs_musicgen             likewise
  decode_best_b1_vs_torch_bf16           our fastest type over its bfloat16
  bandwidth_share                        bytes of float32 weights a second, of
                                         those that a large product reads
  batch8_vs_batch1                       tokens/s of the best type of each

bundle: what ships, programs compiled.
  bundle_xrt, bundle_cpu_xrt             seconds of music in a second, of which
                                         the latter counts work on all cores
  first_chunk_s                          of a stream
  <stage>_int8_loss_difference           nats a token that int8 weights cost on
                                         what the float32 stage has drawn

--size base takes 9 GB and wants an idle machine. Without PyTorch (the `bench`
extra) the half that is there is printed.
"""

import argparse
import pathlib
import sys
import time

import side_by_side
import torch_decoder

# A neighbour of this file has the name of a package that others need.
HERE = pathlib.Path(__file__).parent
sys.path[:] = [p for p in sys.path if pathlib.Path(p).resolve() != HERE]

import jax
import jax.numpy as jnp
import numpy as np

import musiclm_jax
from musiclm_jax import configs
from musiclm_jax import figures as figures_lib
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import choices
from musiclm_jax.decoding import sampler
from musiclm_jax.systems.musiclm import settings
from musiclm_jax.systems.musiclm.stages import model

SHORT = dict(float32='fp32', bfloat16='bf16', int8='int8')


def random_stage(size):
  """The semantic stage of a leaf: its prompt is short."""
  stage = configs.load(f'semantic_{size}', {
      'MODEL_DIR': 'unused', 'CACHE_DIR': 'unused'}).arguments['trainable']
  return model.TrainedStage(
      stage.model, jax.jit(stage.model.init)(jax.random.key(0)))


def prompts(layout, rows):
  """[rows, L] tokens with conditions only."""
  rng = np.random.default_rng(0)
  return layout.build({s.name: rng.integers(
      0, s.codebook_size, (rows, s.num_frames, s.num_codebooks)) if (
          s is not layout.target) else np.full(
              (rows, s.num_frames, s.num_codebooks), -1)
                       for s in layout.placed})


def our_steps(made, rows, steps):
  """A call that draws `steps` tokens more for each row."""
  layout = made.layout
  keys = categorical.row_keys(0, 0, 0, np.arange(rows))
  decoding = made.begin(prompts(layout, rows), keys, layout.target.start)

  def call():
    made.advance(decoding, decoding.position + steps)
    jax.block_until_ready(decoding.tokens)

  return call


def measured_bandwidth(runs):
  """Bytes a second that a product of a vector with a large matrix reads."""
  matrix = jnp.ones((16_384, 8_192), jnp.float32)
  vector = jnp.ones(8_192, jnp.float32)
  product = jax.jit(lambda m, v: m @ v)
  seconds = side_by_side.alternate(
      {'read': lambda: jax.block_until_ready(product(matrix, vector))}, runs)
  return matrix.nbytes / seconds['read']


def decode(size, rows, steps, runs):
  """{figure: value} of decoding."""
  stage = random_stage(size)
  samplers = {w: sampler.Sampler(stage, w) for w in choices.WEIGHTS}
  config, found = stage.config, {}
  del stage
  for batch in rows:
    calls = {SHORT[w]: our_steps(made, batch, steps)
             for w, made in samplers.items()}
    calls.update(torch_decoder.steps(config, batch, steps))
    seconds = side_by_side.alternate(calls, runs)
    for name, value in seconds.items():
      rate = batch * steps / value
      found[f'decode_{name}_b{batch}_tokens_per_s'] = rate
      print(f'{name:<14} {batch} rows: {rate:8.1f} tokens/s, '
            f'{1e3 * value / steps:7.2f} ms a step', flush=True)
  layer = config.embed_dim * (4 * config.joined_kv + 3 * config.mlp_dim)
  print(f'{config.num_layers * layer / 1e6:.0f} M parameters in the layers')
  found.update(ratios(found, rows))
  if 1 in rows:
    bandwidth = measured_bandwidth(runs)
    read = 4 * config.num_layers * layer * found[
        'decode_fp32_b1_tokens_per_s']
    found.update(bandwidth_gb_per_s=bandwidth / 1e9,
                 bandwidth_share=read / bandwidth)
  return found


def ratios(found, rows):
  """{figure: value} of tokens/s against each other."""
  rate = lambda name, batch=1: found.get(f'decode_{name}_b{batch}_tokens_per_s')
  best = {b: max(rate(n, b) for n in SHORT.values()) for b in rows}
  result = {}
  if 1 in rows:
    for ours, peer, name in (
        (rate('fp32'), rate('torch_fp32'), 'fp32_b1_vs_torch'),
        (rate('fp32'), rate('musicgen_fp32'), 'fp32_b1_vs_musicgen'),
        (best[1], rate('torch_bf16'), 'best_b1_vs_torch_bf16')):
      if peer:
        result[f'decode_{name}'] = ours / peer
  if 1 in rows and 8 in rows:
    result['batch8_vs_batch1'] = best[8] / best[1]
  return result


def bundle(runs, seconds=10):
  """{figure: value} of what ships."""
  held = musiclm_jax.load()
  make = lambda: held.generate('a slow waltz on accordion', seconds=seconds)
  make()
  walls, cpus, firsts = [], [], []
  for _ in range(runs):
    wall, cpu = time.perf_counter(), time.process_time()
    make()
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
    wall = time.perf_counter()
    stream = held.stream('a slow waltz on accordion', seconds=60)
    next(stream)
    firsts.append(time.perf_counter() - wall)
    stream.close()
  found = dict(bundle_xrt=seconds / np.median(walls),
               bundle_cpu_xrt=seconds / np.median(cpus),
               first_chunk_s=np.median(firsts))
  for name in settings.STAGES:
    found[f'{name}_int8_loss_difference'] = int8_loss_difference(
        held.bundle.get(name))
  return {name: float(value) for name, value in found.items()}


def int8_loss_difference(stage):
  """Mean nats a token."""
  exact = sampler.Sampler(stage)
  layout = exact.layout
  tokens = exact.sample(
      prompts(layout, 1), categorical.row_keys(0, 0, 0, [0]),
      layout.target.start)
  rounded = sampler.Sampler(stage, 'int8')
  return float(np.mean(rounded.loss(tokens) - exact.loss(tokens)))


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--size', default='base')
  parser.add_argument('--rows', default='1,8')
  parser.add_argument('--steps', type=int, default=32)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--only', default='decode,bundle')
  parser.add_argument('--json', metavar='FILE')
  args = parser.parse_args()
  rows, found = [int(r) for r in args.rows.split(',')], {}
  if args.steps * (args.runs + 1) > 448:
    parser.error('--steps times --runs + 1 is more than 448, the first size of '
                 'the cache.')
  if 'decode' in args.only:
    found.update(decode(args.size, rows, args.steps, args.runs))
  if 'bundle' in args.only:
    found.update(bundle(args.runs))
  for name, value in found.items():
    if 'tokens_per_s' not in name:
      print(f'{name}: {value:.4g}')
  if args.json:
    figures_lib.write(args.json, dict(
        found, size=args.size, steps=args.steps, runs=args.runs))


if __name__ == '__main__':
  main()
