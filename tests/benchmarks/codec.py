"""Both codecs at base size against PyTorch, EnCodec and DAC, side by side.

  python tests/benchmarks/codec.py [--json FILE] [--runs 5] [--batch ROWS]
      [--codecs soundstream,framecodec]
      [--only generator,train,roundtrip,memory]

Random weights: speed does not depend on them. PyTorch's twins (`torch_codec.py`
and `torch_framecodec.py`) get our weights, and both must compute the same
first. Ours and the peer take turns, and medians are compared; ratios are ours
over the peer's speed, above 1 is faster. Without PyTorch only our half is
printed. Figures of the codec at the frame rate are named `frame_...`.
"""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import side_by_side

from musiclm_jax import configs
from musiclm_jax import figures as figures_lib
from musiclm_jax.codecs import augment
from musiclm_jax.codecs import tokenizer as codec_tokenizer

try:
  import torch  # pylint: disable=g-import-not-at-top
  import torch_codec  # pylint: disable=g-import-not-at-top
  import torch_framecodec  # pylint: disable=g-import-not-at-top
  torch.set_num_threads(os.cpu_count())
except ImportError:
  torch = torch_codec = torch_framecodec = None

PARTS = ('generator', 'train', 'roundtrip', 'memory')
CLIP_SECONDS = 10
MEMORY_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Subject:
  """A codec that is measured: names of its figures, crops in a batch, twin."""

  prefix: str
  crops: int  # of a second each
  twin: object  # a module of tests/benchmarks, None without PyTorch


CODECS = {'soundstream': Subject('', 4, torch_codec),
          'framecodec': Subject('frame_', 16, torch_framecodec)}


def base(kind):
  """The trainable of a codec's base leaf, nothing drawn at random in a step."""
  settings = {'MODEL_DIR': 'unused', 'CORPUS_DIR': 'unused'}
  trainable = configs.load(f'{kind}_base', settings).arguments['trainable']
  # What is drawn for each example would make losses differ from a twin's.
  return dataclasses.replace(
      trainable, rvq=dataclasses.replace(trainable.rvq, dropout_rate=0.0),
      augment=augment.AugmentConfig())


def ready(function, *arguments):
  """A call of a jitted function that waits for its result."""
  return lambda: jax.block_until_ready(function(*arguments))


def best(seconds, prefix):
  """The fastest of the entries whose name begins with `prefix`."""
  return min(value for name, value in seconds.items()
             if name.startswith(prefix))


def noise(batch, seconds, rate):
  rng = np.random.default_rng(0)
  return (0.1 * rng.normal(size=(batch, int(seconds * rate)))).astype(
      np.float32)


def random_tree(shapes):
  """Arrays of the scale that `init` draws, biases not zero; none compiled."""
  rng = np.random.default_rng(0)

  def draw(x):
    scale = 0.02 if len(x.shape) == 1 else 0.5 * np.prod(x.shape[:-1])**-0.5
    return (rng.normal(size=x.shape) * scale).astype(np.float32)

  return jax.tree.map(draw, shapes)


def random_params(config):
  audio = jnp.zeros((1, config.spec.hop_samples))
  return random_tree(jax.eval_shape(
      config.build().init, jax.random.key(0), audio)['params'])


def random_state(trainable, batch):
  """A training state; its k-means is not part of a step."""
  shapes = jax.eval_shape(trainable.init, jax.random.key(0), batch)
  state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  codebooks = jnp.asarray(random_codebooks(trainable.model))
  return state.replace(
      # Where codebooks are in use.
      step=jnp.asarray(trainable.rvq.start_step + 1, jnp.int32),
      params=jax.tree.map(jnp.asarray, random_tree(shapes.params)),
      discriminator_params=jax.tree.map(
          jnp.asarray, random_tree(shapes.discriminator_params)),
      rvq=state.rvq.replace(codebooks=codebooks, sums=jnp.array(codebooks),
                            counts=jnp.ones(codebooks.shape[:2])))


def random_codebooks(config):
  rng = np.random.default_rng(1)
  spec = config.spec
  return rng.normal(size=(
      spec.num_codebooks, spec.codebook_size, config.latent_dim)).astype(
          np.float32) * 0.01


def compiled(function, argument):
  """`function` under torch.compile, or None where that does not work."""
  try:
    result = torch.compile(function)
    result(argument)
    return result
  except Exception as error:  # pylint: disable=broad-exception-caught
    print(f'torch.compile: {type(error).__name__}, eager only')
    return None


def inference(function, argument):
  """A call in inference mode."""
  def call():
    with torch.inference_mode():
      return function(argument)

  return call


def check_equal(ours, theirs, what):
  """Stops where the twin is not the same architecture."""
  ours, theirs = np.asarray(ours), theirs.detach().numpy()
  error = np.max(np.abs(ours - theirs))
  if not error <= 1e-4 * max(1.0, np.max(np.abs(ours))):
    raise SystemExit(f'{what} differs from its PyTorch twin by {error:.1e}.')
  print(f'{what} equals its PyTorch twin within {error:.1e}', flush=True)


def generator(trainable, args):
  """Encode, decode and forward of a clip; gradient of a batch of crops."""
  net, params = trainable.model.build(), random_params(trainable.model)
  twin_of = CODECS[trainable.model.kind].twin
  rate = trainable.model.spec.sample_rate_hz
  clip, crops = noise(1, CLIP_SECONDS, rate), noise(args.batch, 1, rate)
  apply = lambda method=None: jax.jit(
      lambda p, x: net.apply({'params': p}, x, method=method))
  latents = np.asarray(apply('encode')(params, clip))
  loss = lambda p, x: jnp.mean(jnp.square(net.apply({'params': p}, x) - x))
  ours = dict(
      encode=ready(apply('encode'), params, clip),
      decode=ready(apply('decode'), params, latents),
      forward=ready(apply(), params, clip),
      forward_crops=ready(apply(), params, crops),
      gradient=ready(jax.jit(jax.grad(loss)), params, crops))
  functions = {name: dict(ours=call) for name, call in ours.items()}
  if torch:
    twin = twin_of.Generator(trainable.model)
    twin_of.load(twin, params)
    x, small = torch.tensor(clip), torch.tensor(crops)
    z = inference(twin.encode, x)()
    check_equal(apply()(params, crops), twin(small), 'the generator')

    def gradient(function):
      def call():
        loss = (function(small) - small).square().mean()
        torch.autograd.grad(loss, list(twin.parameters()))

      return call

    work = dict(encode=(twin.encode, x), decode=(twin.decode, z),
                forward=(twin, x), forward_crops=(twin, small))
    for name, call in work.items():
      functions[name]['torch'] = inference(*call)
    functions['gradient']['torch'] = gradient(twin)
    faster = compiled(twin, small) if args.compile else None
    if faster is not None:
      for name in ('encode', 'decode'):
        function, argument = work[name]
        functions[name]['torch_compiled'] = inference(
            torch.compile(function), argument)
      functions['forward']['torch_compiled'] = inference(faster, x)
      functions['forward_crops']['torch_compiled'] = inference(faster, small)
      functions['gradient']['torch_compiled'] = gradient(faster)
  figures = {}
  for name, calls in functions.items():
    seconds = side_by_side.alternate(calls, args.runs)
    length = args.batch if name in ('gradient', 'forward_crops') else (
        CLIP_SECONDS)
    report(figures, name, seconds, length)
  return figures


def report(figures, name, seconds, length):
  """Prints and stores one kind of work done on `length` seconds of audio."""
  ours = seconds['ours']
  figures[f'{name}_s'] = ours
  line = f'{name}: {ours:.3f} s, {length / ours:.1f} x real time'
  if len(seconds) > 1:
    peer = best(seconds, 'torch')
    figures[f'{name}_torch_s'] = peer
    figures[f'{name}_vs_torch'] = peer / ours
    if 'torch_compiled' in seconds:
      figures[f'{name}_vs_torch_eager'] = seconds['torch'] / ours
    line += f'; PyTorch {peer:.3f} s: {peer / ours:.2f} times as fast'
    if 'torch_compiled' in seconds:
      line += f' ({seconds["torch"] / ours:.2f} as its eager mode)'
  print(line, flush=True)


def train(trainable, args):
  """The whole training step, all discriminators on where there are some."""
  spec = trainable.model.spec
  audio = noise(args.batch, 1, spec.sample_rate_hz)
  batch = {'audio': jnp.asarray(audio)}
  state = [random_state(trainable, batch)]
  calls = {}
  if torch:
    twin = CODECS[trainable.model.kind].twin.Training(
        trainable, state[0].rvq.codebooks)
    twin.load(state[0])
  # The step's own optimisers and moments; the state is donated, as in training.
  start = time.perf_counter()
  update = jax.jit(trainable.update, donate_argnums=0).lower(
      state[0], batch, jax.random.key(0)).compile()
  print(f'train_step: compiled in {time.perf_counter() - start:.0f} s',
        flush=True)

  def step():
    state[0], metrics = update(state[0], batch, jax.random.key(0))
    return jax.block_until_ready(metrics)

  calls['ours'] = step
  metrics = step()
  if torch:
    x, levels = torch.tensor(audio), torch.full(
        (args.batch,), spec.num_codebooks)
    for name, value in twin.step(x, levels).items():
      check_equal(metrics[name], value, f"the step's {name}")
    calls['torch'] = functools.partial(twin.step, x, levels)
  figures = {}
  seconds = side_by_side.alternate(calls, args.runs)
  report(figures, 'train_step', seconds, args.batch)
  return figures


def roundtrip(trainable, args):
  """Encoding to codes and decoding of a clip, against other codecs."""
  config = trainable.model
  ours = codec_tokenizer.Codec(config, random_params(config), random_codebooks(config))
  rate = config.spec.sample_rate_hz
  audio = noise(1, CLIP_SECONDS, rate)
  codes = ours.encode(audio)
  calls = dict(encode=lambda: ours.encode(audio),
               decode=lambda: ours.decode(codes))
  peer = encodec_calls(audio)
  seconds = side_by_side.alternate({**calls, **peer}, args.runs)
  figures = {}
  for name in (*calls, *peer):
    figures[f'{name}_xrt'] = CLIP_SECONDS / seconds[name]
    print(f'{name}: {seconds[name]:.3f} s, '
          f'{CLIP_SECONDS / seconds[name]:.1f} x real time', flush=True)
  total = seconds['encode'] + seconds['decode']
  figures['roundtrip_xrt'] = CLIP_SECONDS / total
  if peer:
    theirs = seconds['encodec_encode'] + seconds['encodec_decode']
    figures['roundtrip_vs_encodec'] = theirs / total
    print(f'round trip: {theirs / total:.2f} times as fast as EnCodec')
  if theirs := dac_calls(audio):
    # Many times slower: fewer runs.
    seconds = side_by_side.alternate(theirs, min(args.runs, 3))
    peer = seconds['dac_encode'] + seconds['dac_decode']
    figures['dac_roundtrip_xrt'] = CLIP_SECONDS / peer
    figures['roundtrip_vs_dac'] = peer / total
    print(f'round trip: {peer / total:.2f} times as fast as DAC '
          f'({CLIP_SECONDS / peer:.1f} x real time)')
  return figures


def encodec_calls(audio):
  """EnCodec 24 kHz at 6 kbps, random weights; {} where it is missing."""
  try:
    import encodec  # pylint: disable=g-import-not-at-top
  except ImportError:
    print('encodec is not installed: no peer of the round trip')
    return {}
  net = encodec.EncodecModel.encodec_model_24khz(pretrained=False).eval()
  net.set_target_bandwidth(6.0)
  x = torch.tensor(audio)[:, None]
  frames = inference(net.encode, x)()
  return dict(encodec_encode=inference(net.encode, x),
              encodec_decode=inference(net.decode, frames))


def dac_calls(audio):
  """DAC 24 kHz, random weights; {} where transformers is missing."""
  try:
    import transformers  # pylint: disable=g-import-not-at-top
  except ImportError:
    print('transformers is not installed: no DAC')
    return {}
  net = transformers.DacModel(transformers.DacConfig(
      sampling_rate=24_000, n_codebooks=32, downsampling_ratios=[2, 4, 5, 8],
      upsampling_ratios=[8, 5, 4, 2])).eval()
  x = torch.tensor(audio)[:, None]
  latents = inference(net.encode, x)().quantized_representation
  return dict(dac_encode=inference(net.encode, x),
              dac_decode=inference(net.decode, latents))


def memory(trainable, args):
  """Peak memory of a process that encodes and decodes ten minutes."""
  del args
  result = subprocess.run(
      [sys.executable, __file__, '--long-file', trainable.model.kind],
      text=True, capture_output=True, check=True)
  before, peak = map(float, result.stdout.split()[-2:])
  print(f'{MEMORY_SECONDS} s of audio: peak {peak:.0f} MB, of which '
        f'{before:.0f} MB before the first sample')
  return dict(long_file_peak_mb=peak, long_file_start_mb=before)


def long_file(kind):
  """Encodes and decodes ten minutes; prints resident MB before and at most."""
  def peak():
    # Not ru_maxrss: a child's begins with that of its parent.
    with open('/proc/self/status', encoding='utf-8') as lines:
      kib = next(l.split()[1] for l in lines if l.startswith('VmHWM'))
    return int(kib) / 1024

  config = base(kind).model
  made = codec_tokenizer.Codec(config, random_params(config), random_codebooks(config))
  audio = noise(1, 10, config.spec.sample_rate_hz)
  before = peak()
  audio = np.tile(audio, MEMORY_SECONDS // 10)
  made.decode(made.encode(audio))
  print(before, peak())


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json')
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--batch', type=int, default=0,
                      help='crops of 1 s; default: 4 and 16')
  parser.add_argument('--codecs', default=','.join(CODECS))
  parser.add_argument('--only', default=','.join(PARTS))
  parser.add_argument('--no-compile', dest='compile', action='store_false')
  parser.add_argument('--long-file', metavar='CODEC', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.long_file:
    long_file(args.long_file)
    return
  parts, kinds = args.only.split(','), args.codecs.split(',')
  if unknown := set(parts) - set(PARTS):
    parser.error(f'unknown parts {sorted(unknown)}; known: {PARTS}')
  if unknown := set(kinds) - set(CODECS):
    parser.error(f'unknown codecs {sorted(unknown)}; known: {list(CODECS)}')
  if not torch:
    print('PyTorch is not installed (the `bench` extra): only our half.')
  figures, asked = dict(runs=args.runs), args.batch
  for kind in kinds:
    subject = CODECS[kind]
    args.batch = asked or subject.crops
    found = dict(batch=args.batch)
    for part in parts:
      print(f'{kind}, {part}', flush=True)
      found.update(globals()[part](base(kind), args))
    figures.update({subject.prefix + n: v for n, v in found.items()})
  if args.json:
    figures_lib.write(args.json, figures)


if __name__ == '__main__':
  main()
