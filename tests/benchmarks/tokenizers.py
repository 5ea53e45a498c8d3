"""How many times faster than real time each tokenizer is, beside PyTorch.

  python tests/benchmarks/tokenizers.py [--size demo] [--seconds 30] [--runs 5]
      [--only w2vbert,mulan,melody] [--no-compile] [--json FILE]

On a machine with other work, `taskset -c 0` gives both one core, which is
fairer than threads that wait for each other.

Random weights of a leaf's sizes: speed does not depend on them. w2v-BERT's peer
is the Wav2Vec2Conformer of `transformers` with the same width, heads, inner
width, kernel and number of blocks (rotary positions, or none, as ours). Two
columns: the conformer blocks alone on both sides (`w2vbert_model_vs_torch`),
and from audio to tokens on both sides (`w2vbert_vs_torch`): for the peer that
is the log-mel of `transformers` (SeamlessM4TFeatureExtractor, as w2v-BERT 2.0
has it), our subsampling in PyTorch, the blocks, and the nearest centroid; it
gets 16 kHz for nothing, where ours begins at 24 kHz.

MuLan's peer is the ASTModel of `transformers`, or our ResNet in PyTorch where
that is the tower; the same two columns (`mulan_model_vs_torch`,
`mulan_audio_vs_torch`), the second with the log-mel of `transformers`
(ASTFeatureExtractor), computed once and cut to windows as ours is. Ours and the
peer take turns; medians are compared, ratios are ours over the peer's speed, above 1 is
faster.
"""

import argparse
import os
import pathlib
import sys

import side_by_side

# This file has the name of a package that transformers needs.
sys.path[:] = [p for p in sys.path
               if pathlib.Path(p).resolve() != pathlib.Path(__file__).parent]

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import configs
from musiclm_jax import figures as figures_lib
from musiclm_jax.tokenizers.mulan import embedder
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer

try:
  import torch  # pylint: disable=g-import-not-at-top
  torch.set_num_threads(len(os.sched_getaffinity(0)))
except ImportError:
  torch = None

PARTS = ('w2vbert', 'mulan', 'melody')
RATE_HZ = 24_000


def noise(seconds, rate_hz=RATE_HZ):
  rng = np.random.default_rng(0)
  return (0.1 * rng.normal(size=(1, seconds * rate_hz))).astype(np.float32)


def random_tree(shapes):
  """Arrays of the scale that `init` draws; none is compiled."""
  rng = np.random.default_rng(0)

  def draw(x):
    scale = 0.02 if len(x.shape) < 2 else np.prod(x.shape[:-1])**-0.5
    return (rng.normal(size=x.shape) * scale).astype(np.float32)

  return jax.tree.map(draw, shapes)


def trainable(name, size):
  settings = {'MODEL_DIR': 'unused', 'CORPUS_DIR': 'unused'}
  if (name, size) == ('mulan', 'base'):
    settings['TEXT_CHECKPOINT'] = 'unused'
  return configs.load(f'{name}_{size}', settings).arguments['trainable']


def inference(module, make_input):
  """A call in inference mode."""
  def call():
    with torch.inference_mode():
      return module(make_input())

  return call


def faster(compile_too, module, make_input, name='torch'):
  """{name: call, name + '_compiled': call}; compiled where that works."""
  calls = {name: inference(module, make_input)}
  if not compile_too:
    return calls
  try:
    compiled = inference(torch.compile(module), make_input)
    compiled()
    calls[f'{name}_compiled'] = compiled
  except Exception as error:  # pylint: disable=broad-exception-caught
    print(f'torch.compile: {type(error).__name__}, eager only')
  return calls


def w2vbert(args):
  """The semantic tokenizer, and the network alone."""
  config = trainable('w2vbert', args.size).model
  net = w2vbert_model.W2vBert(config)
  params = random_tree(jax.eval_shape(
      net.init, jax.random.key(0), jnp.zeros((1, RATE_HZ)))['params'])
  audio, rng = noise(args.seconds), np.random.default_rng(0)
  shape = lambda *s: rng.normal(size=s).astype(np.float32)
  centroids = shape(config.num_clusters, config.dim)
  made = tokenizer.SemanticTokenizer(
      config, jax.tree.map(jnp.asarray, tokenizer.inference_params(
          params, config)), np.zeros(config.dim, np.float32),
      np.ones(config.dim, np.float32), centroids)
  calls = {'ours': lambda: made.encode(audio)}
  frames = args.seconds * config.semantic_spec().frame_rate_hz
  blocks = config.contrastive_blocks + config.feature_block
  x = shape(1, frames, config.dim)
  calls['model'] = stack(config, params, jnp.asarray(x))
  if torch:
    try:
      twin = conformer_twin(config, blocks)
      tensor = torch.tensor(x)
      calls.update(faster(args.compile, twin, lambda: tensor))
      heard = noise(args.seconds, config.mel_spec().sample_rate_hz)[0]
      calls.update(faster(
          args.compile, tokenizer_twin(config, twin, centroids),
          mels_of_transformers(config, heard), 'whole'))
    except ImportError:
      print('transformers is not installed: no peer of w2v-BERT')
  return report('w2vbert', 'w2vbert_vs_torch', 'w2vbert_model_vs_torch',
                side_by_side.alternate(calls, args.runs), args.seconds)


def stack(config, params, x):
  """A call of the conformer blocks that the tokenizer runs, nothing else."""
  from musiclm_jax.nn import conformer  # pylint: disable=g-import-not-at-top
  block = conformer.ConformerBlock(
      config.num_heads, config.mlp_dim, config.kernel_size, config.position,
      0.0)
  names = [f'contrastive_{i}' for i in range(config.contrastive_blocks)]
  names += [f'prediction_{i}' for i in range(config.feature_block)]
  valid = jnp.ones(x.shape[:2], bool)

  @jax.jit
  def run(params, x):
    for name in names:
      x = block.apply({'params': params[name]}, x, valid)
    return x

  params = {name: jax.tree.map(jnp.asarray, params[name]) for name in names}
  return lambda: jax.block_until_ready(run(params, x))


def conformer_twin(config, blocks):
  """The encoder of Wav2Vec2Conformer at our sizes: [B, T, D] -> [B, T, D]."""
  import transformers  # pylint: disable=g-import-not-at-top
  from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as peer  # pylint: disable=g-import-not-at-top
  transformers.utils.logging.set_verbosity_error()
  position = 'rotary' if config.position == 'rotary' else None
  made = transformers.Wav2Vec2ConformerConfig(
      hidden_size=config.dim, num_hidden_layers=blocks,
      num_attention_heads=config.num_heads, intermediate_size=config.mlp_dim,
      conv_depthwise_kernel_size=config.kernel_size, hidden_act='swish',
      position_embeddings_type=position)

  class Encoder(torch.nn.Module):

    def __init__(self):
      super().__init__()
      self.encoder = peer.Wav2Vec2ConformerEncoder(made)

    def forward(self, x):
      return self.encoder(x).last_hidden_state

  return Encoder().eval()


def mels_of_transformers(config, audio):
  """A function that computes [1, M, mels] log-mel of [N] audio, each time."""
  import transformers  # pylint: disable=g-import-not-at-top
  spec = config.mel_spec()
  extractor = transformers.SeamlessM4TFeatureExtractor(
      feature_size=spec.num_mels, num_mel_bins=spec.num_mels,
      sampling_rate=spec.sample_rate_hz)

  def mels():
    made = extractor(audio, sampling_rate=spec.sample_rate_hz,
                     return_tensors='pt')['input_features']
    return made.reshape(1, -1, spec.num_mels)  # frames come in pairs

  return mels


def tokenizer_twin(config, encoder, centroids):
  """[B, M, mels] -> [B, ceil(M / 4)] tokens: what ours does, in PyTorch."""
  nn = torch.nn
  first, second = config.conv_channels
  bands = -(-config.num_mels // 4)

  class Tokens(nn.Module):

    def __init__(self):
      super().__init__()
      self.convs = nn.Sequential(
          nn.Conv2d(1, first, 3, 2, 1), nn.SiLU(),
          nn.Conv2d(first, second, 3, 2, 1), nn.SiLU())
      self.project = nn.Sequential(
          nn.Linear(second * bands, config.dim), nn.LayerNorm(config.dim),
          nn.Linear(config.dim, config.dim))
      self.encoder = encoder
      self.register_buffer('centroids', torch.tensor(centroids))

    def forward(self, mels):
      x = self.convs(mels[:, None]).transpose(1, 2).flatten(2)
      x = self.encoder(self.project(x))
      return torch.cdist(x, self.centroids[None]).argmin(-1)

  return Tokens().eval()


def mulan(args):
  """The windows of a clip, and the tower alone."""
  config = trainable('mulan', args.size).model
  tower = mulan_model.AudioTower(config)
  frames, mels = config.window_frames, config.num_mels
  params = {'audio_tower': random_tree(jax.eval_shape(
      tower.init, jax.random.key(0), jnp.zeros((1, frames, mels)))['params'])}
  joint = config.joint
  made = embedder.JointEmbedder(
      config, params, np.zeros((1, 1, joint.embedding_dim), np.float32),
      np.zeros(joint.embedding_dim, np.float32))
  audio = noise(args.seconds)
  count = joint.num_windows(args.seconds)
  calls = {'ours': lambda: made.embed_audio_windows(audio)}
  x = np.random.default_rng(0).normal(size=(count, frames, mels)).astype(
      np.float32)
  run = jax.jit(lambda p, x: tower.apply({'params': p}, x))
  arguments = jax.tree.map(jnp.asarray, (params['audio_tower'], x))
  calls['model'] = lambda: jax.block_until_ready(run(*arguments))
  if torch:
    tensor = torch.tensor(x)
    try:
      twin = tower_twin(config)
      calls.update(faster(args.compile, twin, lambda: tensor))
      heard = noise(args.seconds, joint.sample_rate_hz)[0]
      calls.update(faster(
          args.compile, twin, windows_of_transformers(config, heard), 'whole'))
    except ImportError:
      print('transformers is not installed: no peer of MuLan')
  return report('mulan', 'mulan_audio_vs_torch', 'mulan_model_vs_torch',
                side_by_side.alternate(calls, args.runs), args.seconds)


def windows_of_transformers(config, audio):
  """A function that computes [W, T, F] log-mel windows of [N] audio."""
  import transformers  # pylint: disable=g-import-not-at-top
  joint, frames = config.joint, config.window_frames
  rate = joint.sample_rate_hz
  count = joint.num_windows(len(audio) / rate)
  extractor = transformers.ASTFeatureExtractor(
      sampling_rate=rate, num_mel_bins=config.num_mels,
      max_length=len(audio) * 100 // rate)

  def windows():
    made = extractor(audio, sampling_rate=rate, return_tensors='pt')
    made = made['input_values'][0].unfold(0, frames, config.stride_frames)
    return made[:count].transpose(1, 2).contiguous()

  return windows


def tower_twin(config):
  """The audio tower in PyTorch: [B, T, F] -> [B, D]."""
  dim = config.joint.embedding_dim
  if config.tower == 'resnet':
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, config.window_frames)),
        resnet_twin(config.audio, dim))
  return ast_twin(config, dim)


def ast_twin(config, dim):
  """ASTModel of `transformers` at our sizes, and the projection."""
  import transformers  # pylint: disable=g-import-not-at-top
  sizes = config.ast
  made = transformers.ASTConfig(
      hidden_size=sizes.dim, num_hidden_layers=sizes.num_layers,
      num_attention_heads=sizes.num_heads, intermediate_size=sizes.mlp_dim,
      patch_size=sizes.patch, time_stride=sizes.stride,
      frequency_stride=sizes.stride, max_length=config.window_frames,
      num_mel_bins=config.num_mels)

  class Tower(torch.nn.Module):

    def __init__(self):
      super().__init__()
      self.encoder = transformers.ASTModel(made)
      self.project = torch.nn.Linear(sizes.dim, dim)

    def forward(self, x):
      return self.project(self.encoder(x).pooler_output)

  return Tower().eval()


def resnet_twin(config, dim):
  """Our ResNet in PyTorch, mean over time and bands, and the projection."""
  nn = torch.nn

  def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=False)

  def norm(channels):
    return nn.GroupNorm(int(np.gcd(config.norm_groups, channels)), channels)

  class Block(nn.Module):

    def __init__(self, inputs, outputs, stride):
      super().__init__()
      inner = outputs // 4
      if config.block == 'basic':
        layers = [conv(inputs, outputs, 3, stride), norm(outputs), nn.ReLU(),
                  conv(outputs, outputs, 3), norm(outputs)]
      else:
        layers = [conv(inputs, inner, 1), norm(inner), nn.ReLU(),
                  conv(inner, inner, 3, stride), norm(inner), nn.ReLU(),
                  conv(inner, outputs, 1), norm(outputs)]
      self.body = nn.Sequential(*layers)
      self.skip = nn.Identity() if inputs == outputs and stride == 1 else (
          nn.Sequential(conv(inputs, outputs, 1, stride), norm(outputs)))

    def forward(self, x):
      return torch.relu(self.body(x) + self.skip(x))

  channels = config.stem_channels
  if config.stem == 'patches':
    layers = [nn.Conv2d(1, channels, 4, 4, bias=False), norm(channels),
              nn.ReLU()]
  else:
    layers = [conv(1, channels, 7, 2), norm(channels), nn.ReLU(),
              nn.MaxPool2d(3, 2, 1)]
  for stage, (blocks, outputs) in enumerate(
      zip(config.stage_blocks, config.stage_channels)):
    for i in range(blocks):
      layers.append(Block(channels, outputs, 2 if stage and not i else 1))
      channels = outputs
  layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, dim)]
  return nn.Sequential(*layers).eval()


def melody(args):
  """The melody embedder, where this version has one."""
  try:
    from musiclm_jax.tokenizers.melody import embedder as melody_embedder  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.melody import model as melody_model  # pylint: disable=g-import-not-at-top
  except ImportError:
    print('there is no melody embedder here')
    return {}
  config = trainable('melody', args.size).model
  params = random_tree(jax.eval_shape(
      melody_model.Melody(config).init, jax.random.key(0),
      jnp.zeros((1, config.window_samples)))['params'])
  spec = config.melody
  codebooks = np.random.default_rng(0).normal(size=(
      spec.num_codebooks, spec.codebook_size, spec.embedding_dim))
  made = melody_embedder.MelodyEmbedder(config, params, codebooks)
  audio = noise(args.seconds)
  seconds = side_by_side.alternate(
      {'ours': lambda: made.encode(audio)}, args.runs)
  return report('melody', None, None, seconds, args.seconds)


def report(name, ratio, model_ratio, seconds, length):
  """Prints and returns the figures of one tokenizer on `length` seconds."""
  ours = seconds['ours']
  figures = {f'{name}_s': ours, f'{name}_xrt': length / ours}
  print(f'{name}: {ours:.3f} s, {length / ours:.1f} x real time', flush=True)
  best = lambda kind: min(
      (s for k, s in seconds.items() if k.startswith(kind)), default=None)
  network, whole = best('torch'), best('whole')
  if network is None:
    return figures
  from_audio = network if whole is None else whole
  figures.update({
      f'{name}_torch_s': from_audio, ratio: from_audio / ours,
      f'{name}_model_s': seconds['model'], f'{name}_model_torch_s': network,
      model_ratio: network / seconds['model']})
  free = '' if whole is not None else ' (its log-mel for nothing)'
  print(f'  {"":12}  {"network alone":>14}  {"from audio":>12}{free}\n'
        f'  {"ours":12}  {seconds["model"]:12.3f} s  {ours:10.3f} s\n'
        f'  {"PyTorch":12}  {network:12.3f} s  {from_audio:10.3f} s\n'
        f'  {"as fast":12}  {network / seconds["model"]:11.2f} x  '
        f'{from_audio / ours:9.2f} x', flush=True)
  return figures


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--size', default='demo')
  parser.add_argument('--seconds', type=int, default=30)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--only', default=','.join(PARTS))
  parser.add_argument('--no-compile', dest='compile', action='store_false')
  parser.add_argument('--json')
  args = parser.parse_args()
  parts = args.only.split(',')
  if unknown := set(parts) - set(PARTS):
    parser.error(f'unknown parts {sorted(unknown)}; known: {PARTS}')
  if not torch:
    print('PyTorch is not installed (the `bench` extra): only our half.')
  figures = dict(size=args.size, seconds=args.seconds, runs=args.runs)
  for part in parts:
    figures.update(globals()[part](args))
  if args.json:
    figures_lib.write(args.json, figures)


if __name__ == '__main__':
  main()
