"""The decoder of a stage: token ids in, logits of the target segment out.

  tokens [B, L] -> embedding -> T5 1.1 blocks -> logits of the target only

One class for the semantic, coarse and fine stages; the layout of the stage says
where the target lies and which ids each of its positions may take.

Deviations from the paper (ours): the vocabulary is rounded up to a multiple of
128; the small sizes use the `target` head, whose output table has the target's
ids only and whose softmax runs over the ids that are legal at each position,
and are told the time of each token. T5's bias is by distance, up to 128 tokens,
and what sounds at once in two segments lies hundreds of tokens apart, further
with every frame: a small network does not find it by that.
"""

import dataclasses
import numbers

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import causal
from musiclm_jax.nn import cross_entropy
from musiclm_jax.nn import partitioning
from musiclm_jax.nn import transformer
from musiclm_jax.nn.kernels import platforms
from musiclm_jax.tokens import layout as layout_lib

HEADS = ('vocab', 'target')
DTYPES = ('float32', 'bfloat16')
_VOCAB_MULTIPLE = 128  # ours: divides over any mesh and fills tiles
# Of whole numbers, what each is at least.
_LEAST = dict(embed_dim=1, num_layers=1, num_heads=1, head_dim=1, mlp_dim=1,
              loss_block=0, scan_unroll=0)
_PERIODS = 0.04, 80.0  # ours, s: two frames of a codec; more than any crop


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """The size of a decoder; the defaults are the paper's.

  Attributes:
    embed_dim: width of the model.
    num_layers: blocks.
    num_heads: attention heads.
    head_dim: width of a head.
    mlp_dim: inner width of the gated feed-forward.
    dropout_rate: on embeddings, attention weights, feed-forward and residuals.
    dropout_by_sequence: whether features are dropped at all positions of a
      sequence or none, and keys for all queries, which costs an accelerator
      next to nothing; else each number by itself.
    num_buckets: of the relative bias.
    max_distance: from which on keys share the last bucket.
    head: 'vocab', an output table and a softmax over the whole vocabulary, or
      'target', over the ids of a position's own level only.
    embed_stddev: of the initial input embeddings.
    time_features: sines and cosines of a token's time that are added to its
      embedding, by a trained matrix; 0 for none.
    dtype: 'float32' or 'bfloat16', of activations and products. Parameters,
      norms, softmax and loss are float32.
    attention_chunk: queries at a time, 0 for all; for speed and memory only.
    loss_block: tokens of each target whose logits are computed at a time in the
      loss, 0 for all; for speed and memory only.
    remat: what the gradient computes again: 'none', the probabilities of
      'attention', everything but the products with weights and attention
      ('dots'), everything but the results of attention ('attention_out'), or
      the whole block ('full').
    scan_layers: one block under `lax.scan` instead of `num_layers` blocks: a
      smaller program, the same function; parameters are stacked
      (nn/layer_stacks.py).
    scan_unroll: blocks in one turn of that loop; 0: all of them, so that no loop
      is left. What a loop keeps for the gradient it writes to memory and reads
      again, so an accelerator is faster without; compiling takes longer.
  """

  embed_dim: int = 1024  # paper
  num_layers: int = 24  # paper
  num_heads: int = 16  # paper
  head_dim: int = 64  # paper
  mlp_dim: int = 4096  # paper
  dropout_rate: float = 0.1  # paper
  dropout_by_sequence: bool = False  # T5X: True
  num_buckets: int = 32  # paper (T5)
  max_distance: int = 128  # paper (T5)
  head: str = 'vocab'  # paper
  embed_stddev: float = 1.0  # paper (T5)
  time_features: int = 0  # paper
  dtype: str = 'float32'
  attention_chunk: int = 256  # ours
  loss_block: int = 0  # ours
  remat: str = 'none'
  scan_layers: bool = False
  scan_unroll: int = 1  # ours

  def __post_init__(self):
    for name, value, known in (('head', self.head, HEADS),
                               ('dtype', self.dtype, DTYPES),
                               ('remat', self.remat, transformer.REMATS)):
      if value not in known:
        raise errors.choice(name, value, known)
    for name, least in _LEAST.items():
      value = getattr(self, name)
      whole = isinstance(value, numbers.Integral)
      if not whole or value < least:
        kind = '' if whole else 'a whole number, '
        raise errors.UserError(
            f'{name} is {value!r}; expected {kind}'
            f'{"at least 1" if least else "0 or more"}.')
    if self.time_features < 0 or self.time_features % 2:
      raise errors.UserError(
          f'time_features is {self.time_features}; expected 0 or a positive '
          f'even number.')
    if not 0.0 <= self.dropout_rate < 1.0:
      raise errors.UserError(
          f'dropout_rate is {self.dropout_rate}; expected 0 to below 1.')

  @property
  def joined_kv(self) -> int:
    return self.num_heads * self.head_dim


def padded_vocab_size(layout: layout_lib.Layout) -> int:
  """The layout's ids, rounded up to a multiple of 128."""
  return -(-layout.vocab_size // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def key_mask(input_tokens: jax.Array | np.ndarray) -> jax.Array:
  """[B, L] -> [B, L] float32: NEGATIVE where a key is padding, else 0.

  Padding is token 0, but position 0 holds the 0 that begins every sequence.
  """
  padded = jnp.asarray(input_tokens) == layout_lib.PAD_ID
  padded = padded.at[..., 0].set(False)
  return jnp.where(padded, causal.NEGATIVE, 0.0).astype(jnp.float32)


def time_features(layout: layout_lib.Layout, count: int) -> np.ndarray:
  """[L, count] float32: sines and cosines of the time of each input token.

  The periods are spaced evenly on a logarithmic scale, from two frames of a
  codec at 50 Hz to more than a crop. 0 where a token has no time.
  """
  seconds = layout.input_seconds()[:, None]
  angles = 2 * np.pi * seconds / np.geomspace(*_PERIODS, count // 2)
  return np.nan_to_num(np.concatenate(
      [np.sin(angles), np.cos(angles)], axis=-1)).astype(np.float32)


def target_rows(table: jax.Array, layout: layout_lib.Layout,
                head: str) -> jax.Array:
  """The output rows of the target's ids: [Q, K, D] out of either table."""
  target = layout.target
  if head == 'vocab':
    table = table[target.first_id:target.last_id]
  return table.reshape(target.num_codebooks, target.codebook_size, -1)


class Decoder(nn.Module):
  """The stage's network.

  Attributes:
    config: its size.
    layout: the stage's tokens.Layout.
  """

  config: DecoderConfig
  layout: layout_lib.Layout

  def __call__(self, input_tokens: jax.Array,
               deterministic: bool = True) -> jax.Array:
    """Logits of the target segment, teacher-forced.

    Args:
      input_tokens: [B, L] int32, shifted right: position p holds the token
        before p, position 0 a 0. L may exceed the layout's length; what is
        beyond is ignored.
      deterministic: False draws dropout from the rng 'dropout'.

    Returns:
      float32, head 'target': [B, T, Q, K], over each position's legal ids;
      head 'vocab': [B, T * Q, V], over the padded vocabulary.
    """
    logits = jnp.moveaxis(cross_entropy.level_logits(
        *self.target(input_tokens, deterministic)), 0, 2)
    return logits[:, :, 0] if self.config.head == 'vocab' else logits

  @nn.compact
  def target(self, input_tokens: jax.Array,
             deterministic: bool = True) -> tuple[jax.Array, jax.Array]:
    """What the logits of the target are products of; arguments as of a call.

    Returns:
      hidden states in the type of products and tables in float32. Head 'target':
      [B, T, Q, D] and [Q, K, D], a level's own; head 'vocab': [B, T * Q, 1, D]
      and [1, V, D].
    """
    config, target = self.config, self.layout.target
    if input_tokens.shape[1] < self.layout.length:
      raise ValueError(
          f'sequence of {input_tokens.shape[1]} tokens; expected at least '
          f'{self.layout.length} for the {target.name} stage.')
    input_tokens = input_tokens[:, :self.layout.length]
    hidden = self.hidden(input_tokens, deterministic)[:, target.start:]
    rows = padded_vocab_size(self.layout)
    if config.head == 'target':
      rows = target.num_ids
    table = partitioning.param_with_axes(
        'logits_embedding', nn.initializers.normal(config.embed_dim**-0.5),
        (rows, config.embed_dim), jnp.float32,
        axes=(partitioning.VOCAB, partitioning.EMBED))
    hidden = hidden.astype(jnp.dtype(config.dtype))
    if config.head == 'vocab':
      return hidden[:, :, None], table[None]
    hidden = hidden.reshape(
        hidden.shape[0], target.num_frames, target.num_codebooks, -1)
    return hidden, target_rows(table, self.layout, config.head)

  def hidden(self, input_tokens: jax.Array, deterministic: bool) -> jax.Array:
    """[B, L] -> [B, L, D] after the final norm."""
    config = self.config
    embedding = partitioning.param_with_axes(
        'token_embedding', nn.initializers.normal(config.embed_stddev),
        (padded_vocab_size(self.layout), config.embed_dim), jnp.float32,
        axes=(partitioning.VOCAB, partitioning.EMBED))
    x = _looked_up(embedding, input_tokens)
    if config.time_features:
      # As large as the embeddings at first: their squares sum to half of F.
      stddev = config.embed_stddev * (config.time_features / 2)**-0.5
      kernel = partitioning.param_with_axes(
          'time_embedding', nn.initializers.normal(stddev),
          (config.time_features, config.embed_dim), jnp.float32,
          axes=(partitioning.CODE, partitioning.EMBED))
      x = x + time_features(self.layout, config.time_features) @ kernel
    return transformer.Transformer(config, name='decoder')(
        x, key_mask(input_tokens), deterministic)


def _looked_up(table, tokens):
  """[V, E], [B, L] -> [B, L, E], its features split as the table's are.

  So is the gradient then, and no device adds to a whole table: 72 MB in float32
  for the coarse stage.
  """
  x = table[tokens]
  _, features = platforms.splitting(
      table.shape, (partitioning.VOCAB, partitioning.EMBED))
  if not features:
    return x
  rows, = platforms.splitting(tokens.shape[:1], (partitioning.BATCH,))
  rows = tuple(axis for axis in rows if axis not in features)
  return jax.lax.with_sharding_constraint(
      x, jax.sharding.PartitionSpec(rows, None, features))
