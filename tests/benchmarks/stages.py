"""A training step of each stage beside PyTorch's, and the data it eats.

  python tests/benchmarks/stages.py [--size demo] [--stages semantic,coarse]
      [--rows 2] [--runs 5] [--no-compile] [--json FILE]

  train_step_vs_torch   PyTorch's seconds over ours, all stages together; and
                        <stage>_vs_torch for each
  tokens_per_s          target tokens a second of our step, all stages; and
                        <stage>_tokens_per_s for each
  input_vs_step         sequences a second of the input pipeline over those of
                        the step: the least of all stages

Sizes and type are the leaf's, both sides take AdamW; `--rows` sequences to a
batch in place of the leaf's. The peer is a decoder of the same shape with fused
attention (scaled_dot_product_attention), fused AdamW and gradient clipping, in
the faster of eager and torch.compile. It has no relative bias and no padding
mask, which its fused attention has no gradient for on CPU: less work than ours.
bfloat16 is autocast there. Ours and the peer take turns; medians are compared,
above 1 is faster. Without PyTorch (the `bench` extra), or without seqio
(`train`), the half that is there is printed. Both keep freed memory, as
`musiclm train` does; it takes some steps until it lies as it stays, and those
are not counted. On a machine with other work, `taskset -c 0` gives both one
core, which is fairer than threads that wait for each other.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
import sys
import tempfile
import time

import side_by_side

# A neighbour of this file has the name of a package that others need.
HERE = pathlib.Path(__file__).parent
sys.path[:] = [p for p in sys.path if pathlib.Path(p).resolve() != HERE]

import jax
import numpy as np

from musiclm_jax import configs
from musiclm_jax import figures as figures_lib
from musiclm_jax import process
from musiclm_jax.nn import partitioning
from musiclm_jax.tokens import source as source_lib
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib

try:
  import torch  # pylint: disable=g-import-not-at-top
  from torch.nn import functional  # pylint: disable=g-import-not-at-top
  torch.set_num_threads(len(os.sched_getaffinity(0)))
except ImportError:
  torch = None

STAGES = ('semantic', 'coarse', 'fine')
_WARM_UP = 4  # steps


def trainable(name, size):
  """(trainable, rows of a batch) of a leaf."""
  arguments = configs.load(f'{name}_{size}', [
      "MODEL_DIR = 'unused'", "CACHE_DIR = 'unused'",
      "optim.OptimizerConfig.name = 'adamw'"]).arguments
  return arguments['trainable'], arguments['source'].batch_size


def random_batch(layout, rows):
  rng = np.random.default_rng(0)
  tokens = layout.build({s.name: rng.integers(
      0, s.codebook_size, (rows, s.num_frames, s.num_codebooks))
                         for s in layout.placed})
  return dict(
      decoder_input_tokens=np.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
      decoder_target_tokens=tokens,
      decoder_loss_weights=np.tile(layout.target_weights(), (rows, 1)).astype(
          np.float32))


def our_step(stage, batch):
  """A call that trains one step, as the loop does."""
  mesh, rules = mesh_lib.make_mesh((1, 1)), partitioning.with_rules(())
  with step_lib.context(mesh, rules):
    program = step_lib.build(stage, batch, mesh, rules, seed=0)
    state = [program.init(program.place(batch))]

  def step():
    with step_lib.context(mesh, rules):
      state[0], metrics = program.update(state[0], program.place(batch))
    jax.block_until_ready(metrics)

  return step


def torch_steps(stage, batch, compile_too):
  """{name: call} of PyTorch, eager and where that works compiled."""
  config, layout = stage.model.config, stage.model.layout
  twin = make_twin(config, layout)
  made = stage.optimizer
  optimizer = torch.optim.AdamW(
      twin.parameters(), lr=made.learning_rate, betas=(made.b1, made.b2),
      weight_decay=made.weight_decay, fused=True)
  inputs, labels = (torch.tensor(batch[f'decoder_{name}_tokens']).long()
                    for name in ('input', 'target'))

  def step(loss):
    def call():
      optimizer.zero_grad(set_to_none=True)
      with torch.autocast('cpu', torch.bfloat16,
                          enabled=config.dtype == 'bfloat16'):
        value = loss(inputs, labels)
      value.backward()
      torch.nn.utils.clip_grad_norm_(twin.parameters(), made.clip_norm)
      optimizer.step()
    return call

  calls = {'torch': step(twin)}
  if compile_too:
    try:
      compiled = step(torch.compile(twin))
      compiled()
      calls['torch_compiled'] = compiled
    except Exception as error:  # pylint: disable=broad-exception-caught
      print(f'torch.compile: {type(error).__name__}, eager only')
  return calls


def make_twin(config, layout):
  """(input ids, target ids) [B, L] -> mean loss of the target."""
  nn, target = torch.nn, layout.target
  dim, joined = config.embed_dim, config.joined_kv
  linear = lambda i, o: nn.Linear(i, o, bias=False)

  class Block(nn.Module):

    def __init__(self):
      super().__init__()
      self.norms = nn.ModuleList([nn.RMSNorm(dim), nn.RMSNorm(dim)])
      self.qkv, self.out = linear(dim, 3 * joined), linear(joined, dim)
      self.gate, self.up = (linear(dim, config.mlp_dim) for _ in range(2))
      self.down = linear(config.mlp_dim, dim)

    def forward(self, x):
      batch, length, _ = x.shape
      q, k, v = self.qkv(self.norms[0](x)).view(
          batch, length, 3, config.num_heads, config.head_dim).permute(
              2, 0, 3, 1, 4)
      y = functional.scaled_dot_product_attention(
          q, k, v, dropout_p=config.dropout_rate, is_causal=True)
      x = x + self._drop(self.out(y.transpose(1, 2).reshape(
          batch, length, joined)))
      y = self.norms[1](x)
      y = functional.gelu(self.gate(y), approximate='tanh') * self.up(y)
      return x + self._drop(self.down(self._drop(y)))

    def _drop(self, x):
      return functional.dropout(x, config.dropout_rate)

  class Twin(nn.Module):

    def __init__(self):
      super().__init__()
      self.embedding = nn.Embedding(layout.vocab_size, dim)
      self.blocks = nn.Sequential(
          *(Block() for _ in range(config.num_layers)), nn.RMSNorm(dim))
      rows = target.num_ids if config.head == 'target' else layout.vocab_size
      self.table = nn.Parameter(torch.randn(rows, dim) * dim**-0.5)
      first = torch.tensor(target.level_first_ids()).long()
      self.register_buffer('first', first.view(
          target.num_frames, target.num_codebooks))

    def forward(self, inputs, labels):
      x = self.blocks(self.embedding(inputs))[:, target.start:]
      labels = labels[:, target.start:]
      if config.head == 'vocab':
        return functional.cross_entropy(
            (x @ self.table.T).flatten(0, 1).float(), labels.flatten())
      shape = (target.num_codebooks, target.codebook_size, dim)
      x = x.view(len(x), target.num_frames, target.num_codebooks, dim)
      logits = torch.einsum('btqd,qkd->btqk', x, self.table.view(shape))
      labels = labels.view(logits.shape[:3]) - self.first
      return functional.cross_entropy(
          logits.flatten(0, 2).float(), labels.flatten())

  return Twin().train()


def input_rate(stage, rows, runs):
  """Sequences a second of the input pipeline, from tracks of three minutes."""
  sys.path.insert(0, str(HERE))
  import data  # pylint: disable=g-import-not-at-top
  sys.path.remove(str(HERE))
  with tempfile.TemporaryDirectory() as root:
    cache = data.random_cache(pathlib.Path(root), tracks=10)
    batches = source_lib.TaskBatches(
        str(cache), stage, rows).batches(0)
    list(itertools.islice(batches, 10))
    times = []
    for _ in range(runs):
      start = time.perf_counter()
      list(itertools.islice(batches, 20))
      times.append(time.perf_counter() - start)
  return 20 * rows / float(np.median(times))


def measure(name, args):
  """Prints and returns the figures of one stage."""
  stage, rows = trainable(name, args.size)
  rows = args.rows or rows
  batch = random_batch(stage.model.layout, rows)
  calls = {'ours': our_step(stage, batch)}
  if torch:
    calls.update(torch_steps(stage, batch, args.compile))
  seconds = side_by_side.alternate(calls, args.runs, _WARM_UP)
  ours = seconds['ours']
  tokens = rows * stage.model.layout.target.length
  found = {f'{name}_step_s': ours, f'{name}_tokens_per_s': tokens / ours}
  line = (f'{name}: {rows} x {stage.model.layout.length} tokens, '
          f'{ours:.3f} s a step, {tokens / ours:.0f} target tokens/s')
  if torch:
    peer, kind = min((s, kind) for kind, s in seconds.items() if kind != 'ours')
    found.update({f'{name}_torch_s': peer, f'{name}_vs_torch': peer / ours})
    line += f'; {kind} {peer:.3f} s: {peer / ours:.2f} x as fast'
  if importlib.util.find_spec('seqio'):
    rate = input_rate(stage.model.spec, rows, args.runs)
    found[f'{name}_input_vs_step'] = rate * ours / rows
    line += (f'; input {rate:.0f} sequences/s, {rate * ours / rows:.0f} times '
             f'what the step eats')
  print(line, flush=True)
  return found


def together(found, stages):
  """The figures of all stages, from those of each."""
  of = lambda suffix: [found[f'{name}_{suffix}'] for name in stages
                       if f'{name}_{suffix}' in found]
  steps = np.array(of('step_s'))
  result = dict(tokens_per_s=float(
      (steps * of('tokens_per_s')).sum() / steps.sum()))
  if torch:
    result['train_step_vs_torch'] = sum(of('torch_s')) / steps.sum()
  if of('input_vs_step'):
    result['input_vs_step'] = min(of('input_vs_step'))
  return result


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--size', default='demo')
  parser.add_argument('--stages', default=','.join(STAGES))
  parser.add_argument('--rows', type=int, default=0)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--no-compile', dest='compile', action='store_false')
  parser.add_argument('--json', metavar='FILE')
  args = parser.parse_args()
  stages = args.stages.split(',')
  if unknown := set(stages) - set(STAGES):
    parser.error(f'unknown stages {sorted(unknown)}; known: {STAGES}')
  process.keep_memory()
  if not torch:
    print('PyTorch is not installed (the `bench` extra): only our half.')
  found = {}
  for name in stages:
    found.update(measure(name, args))
  found.update(together(found, stages))
  for name, value in found.items():
    if name in ('train_step_vs_torch', 'tokens_per_s', 'input_vs_step'):
      print(f'{name}: {value:.4g}')
  if args.json:
    figures_lib.write(args.json, dict(found, size=args.size, rows=args.rows))


if __name__ == '__main__':
  main()
