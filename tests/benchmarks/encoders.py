"""What `musiclm precompute` costs on TPUs that are not there.

  python tests/benchmarks/encoders.py [--chips v5e v5p v6e] [--json FILE]

Needs no TPU, but its compiler: pip install 'musiclm_jax[tpu]'. The encoder of
each paper-size tokenizer is compiled for one chip, over a batch of long audio;
its time there is the roofline of what the compiled program computes and moves
(preflight/chip.py). Each compile is a process of its own, ended as soon as the
program is printed. Prints Markdown: seconds of audio a second of a chip.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import configs
from musiclm_jax import figures
from musiclm_jax.nn import lloyd
from musiclm_jax.nn import quantize
from musiclm_jax.preflight import hlo
from musiclm_jax.preflight import machines
from musiclm_jax.preflight import plan as plan_lib
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model

CHIPS = {'v4': 'v4:2x2x1', 'v5e': 'v5e:1x1', 'v5p': 'v5p:2x2x1', 'v6e': 'v6e:1x1'}
_ROWS, _SECONDS = 16, 30  # audio encoded at once; 30 s is w2v-BERT's window
_WINDOWS = 21  # of MuLan, one a second, in 30 s
_UNUSED = dict(MODEL_DIR='none', CORPUS_DIR='none', TEXT_CHECKPOINT='none')


@dataclasses.dataclass(frozen=True)
class Encoder:
  """What is compiled: `apply(weights, audio)`.

  Attributes:
    seconds: of music that one call does.
    audio: its shape.
    weights: their shapes.
  """

  apply: object
  weights: object
  audio: tuple
  seconds: float


def leaf(name):
  """The trainable of a leaf."""
  needed = {key: value for key, value in _UNUSED.items()
            if key in configs.resolve(f'{name}_base').read_text(encoding='utf-8')}
  return configs.load(f'{name}_base', needed).arguments['trainable']


def codec(name):
  """A codec's encoder and quantizer, all levels."""
  config = _config(leaf(name))
  model, spec = config.build(), config.spec
  audio = jax.ShapeDtypeStruct((1, 50 * spec.hop_samples), jnp.float32)
  params = jax.eval_shape(
      lambda: model.init(jax.random.key(0), jnp.zeros(audio.shape)))['params']
  books = jax.ShapeDtypeStruct(
      (spec.num_codebooks, spec.codebook_size, config.latent_dim), jnp.float32)

  def apply(weights, audio):
    latents = model.apply({'params': weights[0]}, audio, method='encode')
    return quantize.rvq_encode(latents, weights[1])

  rows = _ROWS // 8  # SoundStream's first channels are padded to 128 lanes
  return Encoder(apply, (params, books), (rows, _SECONDS * spec.sample_rate_hz),
                 rows * _SECONDS)


def w2vbert():
  """The features and the nearest of 1,024 centroids."""
  config = _config(leaf('w2vbert'))
  model, rate = w2vbert_model.W2vBert(config), config.input_rate_hz
  lengths = np.full(_ROWS, _SECONDS * rate, np.int32)
  params = jax.eval_shape(lambda: model.init(
      jax.random.key(0), jnp.zeros((1, rate)), method='features'))['params']
  centroids = jax.ShapeDtypeStruct((1024, config.dim), jnp.float32)

  def apply(weights, audio):
    features = model.apply(
        {'params': weights[0]}, audio, jnp.asarray(lengths), method='features')
    return lloyd.nearest(features, weights[1])

  return Encoder(apply, (params, centroids), (_ROWS, _SECONDS * rate),
                 _ROWS * _SECONDS)


def mulan():
  """Windows of 10 s, one a second."""
  config = _config(leaf('mulan'))
  model, rate = mulan_model.Mulan(config), config.input_rate_hz
  variables = jax.eval_shape(lambda: model.init(
      jax.random.key(0), jnp.zeros((1, 10 * rate)), 1, method='embed_windows'))

  def apply(weights, audio):
    return model.apply(weights, audio, _WINDOWS, method='embed_windows')

  return Encoder(apply, variables, (_ROWS // 4, _SECONDS * rate),
                 _ROWS // 4 * _WINDOWS)


def melody():
  """Windows of 4 s, one a second: a call does a window of each row."""
  config = _config(leaf('melody'))
  model, rate = melody_model.Melody(config), config.input_rate_hz
  samples = config.melody.window_seconds * rate
  params = jax.eval_shape(
      lambda: model.init(jax.random.key(0), jnp.zeros((1, samples))))['params']

  def apply(weights, audio):
    return model.apply({'params': weights}, audio)

  rows = 4 * _ROWS
  return Encoder(apply, params, (rows, samples), rows)


ENCODERS = {'soundstream_base': lambda: codec('soundstream'),
            'framecodec_base': lambda: codec('framecodec'),
            'w2vbert_base': w2vbert, 'mulan_base': mulan, 'melody_base': melody}


def measure(encoder, topology):
  """{name: figure} of an encoder on one chip."""
  place = jax.sharding.SingleDeviceSharding(topology.devices[0])
  described = lambda tree: jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), tree)
  audio = jax.ShapeDtypeStruct(encoder.audio, jnp.float32)
  plan = plan_lib.make(types.SimpleNamespace(
      update=jax.jit(encoder.apply), state=described(encoder.weights),
      batch=described(audio)), topology.described, kernels=False)
  if not plan.text:
    return dict(peak_bytes=plan.peak)
  counts, chip = hlo.count(plan.text), topology.chip
  roofline = max(counts.products / chip.flops, counts.bytes / chip.memory_rate)
  return dict(
      gflop_per_second=counts.products / encoder.seconds / 1e9,
      mb_moved_per_second=counts.bytes / encoder.seconds / 1e6,
      peak_bytes=plan.peak, xrt=encoder.seconds / roofline)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--chips', nargs='+', choices=list(CHIPS), default=['v5e'])
  parser.add_argument('--only', nargs='+', choices=list(ENCODERS),
                      default=list(ENCODERS))
  parser.add_argument('--json', metavar='FILE')
  parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    topology = machines.topology(CHIPS[args.chips[0]])
    print(json.dumps(measure(ENCODERS[args.only[0]](), topology)), flush=True)
    os._exit(0)  # the compiler is still at its kernels
  kept = {}
  print('| encoder | chip | GFLOP a second of audio | MB moved | x real time |\n'
        '|---|---|---|---|---|')
  for chip in args.chips:
    for name in args.only:
      printed = subprocess.run(
          [sys.executable, __file__, '--one', '--chips', chip, '--only', name],
          check=True, stdout=subprocess.PIPE, text=True).stdout
      found = json.loads(printed.splitlines()[-1])
      if 'xrt' not in found:
        print(f'| {name} | {chip} | does not fit |')
        continue
      print(f'| {name} | {chip} | {found["gflop_per_second"]:.2f} | '
            f'{found["mb_moved_per_second"]:,.0f} | {found["xrt"]:,.0f} |',
            flush=True)
      kept.update({f'{name}_{chip}_{key}': v for key, v in found.items()})
  if args.json:
    figures.write(args.json, kept)


def _config(trainable):
  """What the leaf calls its model's config."""
  for attribute in ('config', 'model'):
    found = getattr(trainable, attribute, None)
    if dataclasses.is_dataclass(found):
      return found
  raise ValueError(f'{type(trainable).__name__} has no config.')


if __name__ == '__main__':
  main()
