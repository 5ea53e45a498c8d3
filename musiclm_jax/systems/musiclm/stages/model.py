"""A decoder stage: its spec, its network, its loss; and one that is trained.

  StageModel    spec + size: init, loss, logical axes. Holds no arrays.
  TrainedStage  a StageModel with parameters, as a bundle stores it.

The loss is the cross-entropy of the next token on the target segment alone
(AudioLM, section 3.3: "y_1^1 is the first token predicted").
"""

import dataclasses
import functools
from typing import Any

from flax import core
from flax.linen import partitioning as flax_partitioning
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import specs
from musiclm_jax.decoding import decoder
from musiclm_jax.nn import cross_entropy
from musiclm_jax.systems.musiclm.stages import codebook_embeddings
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import conditioning
from musiclm_jax.tokens import layout as layout_lib


@dataclasses.dataclass(frozen=True)
class StageModel:
  """One of the three stages at one size.

  Attributes:
    spec: which stage, over which token grids and crop.
    config: the decoder's size.
    z_loss: weight of the squared log-partition, which keeps logits small.
    label_smoothing: probability spread over the other ids.
    start_from: a token cache whose codebooks the embeddings begin from
      (systems/musiclm/stages/codebook_embeddings.py); '' for random ones.
  """

  spec: specs.StageSpec = specs.StageSpec()
  config: decoder.DecoderConfig = decoder.DecoderConfig()
  z_loss: float = 0.0
  label_smoothing: float = 0.0
  start_from: str = ''

  @functools.cached_property
  def layout(self):
    return layout_lib.for_stage(self.spec)

  @property
  def decoder(self):
    return decoder.Decoder(self.config, self.layout)

  def init(self, rng):
    """Fresh parameters, nested dicts of float32."""
    return self.started(self._init(rng)['params'], rng)

  def started(self, params, rng):
    """Fresh parameters as training begins with them.

    Where there is no token cache, as when a leaf is only looked at, they stay
    as they are.
    """
    if not cache_lib.is_finished(self.start_from):
      return params
    codebooks = cache_lib.Cache(self.start_from).codebooks
    return codebook_embeddings.embeddings(
        params, self.layout, codebooks, self.config.embed_stddev, rng,
        self.spec.sources)

  def logical_axes(self):
    """A tree like the parameters': a tuple of logical axis names for each."""
    shapes = jax.eval_shape(self._init, jax.random.key(0))
    axes = flax_partitioning.get_axis_names(shapes['params_axes'])
    return jax.tree.map(tuple, core.unfreeze(axes),
                        is_leaf=lambda x: not hasattr(x, 'items'))

  def with_params(self, params):
    """The `TrainedStage` of these parameters."""
    return TrainedStage(self, params)

  def num_params(self):
    """Parameters of the whole stage, counted without making them."""
    shapes = jax.eval_shape(self._init, jax.random.key(0))['params']
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))

  def _init(self, rng):
    tokens = jnp.zeros((1, self.layout.length), jnp.int32)
    return self.decoder.init(rng, tokens)

  def train_flops(self):
    """FLOPs that one step needs for one sequence, 2 for each multiply-add.

    Products of the forward pass, and twice as many of the backward; attention
    over the past alone. What is computed again to save memory is not in it.
    """
    config, target = self.config, self.layout.target
    length, dim = self.layout.length, config.embed_dim
    weights = 4 * dim * config.joined_kv + 3 * dim * config.mlp_dim
    pairs = length * (length + 1) // 2
    layers = config.num_layers * (
        length * weights + 2 * config.joined_kv * pairs)
    classes = (target.codebook_size if config.head == 'target' else
               decoder.padded_vocab_size(self.layout))
    return 3 * 2 * (layers + target.length * dim * classes)

  def logits(self, params, input_tokens, dropout_rng=None):
    """Teacher-forced logits of the target; shapes as in `Decoder`."""
    return self._apply('__call__', params, input_tokens, dropout_rng)

  def _apply(self, method, params, input_tokens, dropout_rng):
    rngs = None if dropout_rng is None else {'dropout': dropout_rng}
    return self.decoder.apply(
        {'params': params}, input_tokens, deterministic=dropout_rng is None,
        rngs=rngs, method=method)

  def loss(self, params, batch, dropout_rng=None):
    """Mean loss of the batch's weighted target tokens.

    Args:
      params: as of `init`.
      batch: decoder_input_tokens [B, L] int32, decoder_target_tokens [B, L]
        int32, decoder_loss_weights [B, L] float32.
      dropout_rng: None for evaluation.

    Returns:
      (scalar, metrics): `loss` in nats per token without z-loss and smoothing,
      `accuracy`, `z_loss_per_token` where there is one, and `loss_level_<n>`
      where a frame has several levels, n counted from 1 as the papers do.
    """
    (average, top, log_z, chosen), weights = self._scores(
        params, batch, dropout_rng)
    nats = log_z - chosen
    total = nats
    if self.label_smoothing:
      total = ((1 - self.label_smoothing) * nats +
               self.label_smoothing * (log_z - average))
    mean = lambda x: (x * weights).sum() / jnp.maximum(weights.sum(), 1.0)
    metrics = {'loss': mean(nats), 'accuracy': mean(chosen >= top)}
    if self.z_loss:
      z_loss = self.z_loss * jnp.square(log_z)
      total = total + z_loss
      metrics['z_loss_per_token'] = mean(z_loss)
    metrics.update(self._per_level(nats, weights))
    return mean(total), metrics

  def log_likelihood(self, params, batch):
    """[B] float32: log-probability of each sequence's weighted target."""
    nats, weights = self.target_nats(params, batch)
    return -(nats * weights).sum(axis=-1)

  def target_nats(self, params, batch):
    """([B, P] what each target token costs, [B, P] its weight), float32."""
    scores, weights = self._scores(params, batch, None)
    return scores.log_z - scores.chosen, weights

  def _scores(self, params, batch, dropout_rng):
    """(`cross_entropy.Scores` of the target, its weights), [B, P] each."""
    target, block = self.layout.target, self.config.loss_block
    hidden, tables = self._apply(
        'target', params, batch['decoder_input_tokens'], dropout_rng)
    part = slice(target.start, target.stop)
    labels = batch['decoder_target_tokens'][:, part]
    weights = batch['decoder_loss_weights'][:, part].astype(jnp.float32)
    if self.config.head == 'target':
      first = jnp.asarray(target.level_first_ids(), jnp.int32)
      labels = jnp.maximum(labels - first, 0)  # padding: weight 0, any label
    if block:
      block = max(1, block // hidden.shape[2])  # of frames with all their levels
    scores = cross_entropy.scores(
        hidden, tables, labels.reshape(hidden.shape[:3]), block)
    return jax.tree.map(lambda x: x.reshape(weights.shape), scores), weights

  def _per_level(self, nats, weights):
    target = self.layout.target
    if target.num_codebooks == 1:
      return {}
    by_level = lambda x: x.reshape(-1, target.num_codebooks).sum(axis=0)
    means = by_level(nats * weights) / jnp.maximum(by_level(weights), 1.0)
    return {f'loss_level_{target.first_level + i + 1}': means[i]
            for i in range(target.num_codebooks)}


@dataclasses.dataclass(frozen=True)
class TrainedStage:
  """A stage as a bundle holds it: what the sampler needs.

  Attributes:
    model: the StageModel.
    params: its parameters.
    optional: names of the conditions that it has learned to go without.
  """

  model: StageModel
  params: Any
  optional: tuple = ()

  @property
  def spec(self):
    return self.model.spec

  @property
  def config(self):
    return self.model.config

  @property
  def layout(self):
    return self.model.layout


def from_component(component):
  """bundle.Component of kind semantic, coarse or fine -> `TrainedStage`."""
  model = StageModel(specs.from_dict(specs.StageSpec, component.spec),
                     decoder.DecoderConfig(**component.config))
  return TrainedStage(
      model, component.tree(), conditioning.optional(component.metadata))
