"""Trains MuLan and exports it with its RVQ."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import normalise
from musiclm_jax.nn import text_encoder
from musiclm_jax.tokenizers.mulan import losses
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import rvq
from musiclm_jax.training import gates
from musiclm_jax.training import gradient_cache
from musiclm_jax.training import optim
from musiclm_jax.training import trainable


@flax.struct.dataclass
class State(optim.State):
  """The state of a model with BatchNorm."""

  averages: Any  # its moving means and variances


@dataclasses.dataclass(frozen=True)
class MulanTrainable(trainable.Trainable):
  """MuLan under training, on batches of `sources.MulanBatches`.

  Attributes:
    model: sizes of both towers.
    optimizer: the optimiser and its schedule.
    tokens: how the RVQ is fitted at export.
    microbatch: rows that are embedded at a time, see training/gradient_cache;
      a divisor of the batch and a multiple of the devices. 0: all of them.
    stuck_share: share of the loss of guessing; more tells nothing apart.
    min_spread: less of it is embeddings that have fallen into one point.
    stuck_rows: the run stops when so many logged rows in a row are stuck, which
      must be longer than the warm-up; 0 never stops.
  """

  model: mulan_model.MulanConfig = mulan_model.MulanConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  tokens: rvq.MulanRvqConfig = rvq.MulanRvqConfig()
  microbatch: int = 0  # ours
  stuck_share: float = 0.98  # ours
  min_spread: float = 0.01  # ours
  stuck_rows: int = 20  # ours

  def __post_init__(self):
    if self.microbatch and self.model.rows_see_each_other:
      raise errors.UserError(
          f'microbatch is {self.microbatch} with BatchNorm, whose statistics '
          f'want the whole batch at once; set microbatch to 0, or the norm of '
          f'the ResNet to \'group\'.')

  @functools.cached_property
  def _module(self):
    return mulan_model.Mulan(self.model)

  def init(self, rng, batch):
    """A fresh state; a trained text encoder starts from its checkpoint."""
    variables = self._module.init(rng, batch)
    params, text = variables['params'], self.model.text
    if not text.frozen and text.initialize:
      params = dict(params, text_encoder=_checkpoint_params(
          params['text_encoder'], text))
    state = self.optimizer.start(params)
    if 'batch_stats' not in variables:
      return state
    return State(**vars(state), averages=variables['batch_stats'])

  def from_nothing(self):
    """The same, with an initial state that needs no checkpoint."""
    text = dataclasses.replace(self.model.text, initialize=False)
    return dataclasses.replace(
        self, model=dataclasses.replace(self.model, text=text))

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    # A key for each row: micro-batches then draw what the whole batch would.
    keys = jax.random.split(rng, len(batch['audio']))
    averages = getattr(state, 'averages', {})
    batch = dict(batch)
    other_features = batch.pop('other_features', None)

    def loss_fn(params, embedded):
      audio, text, averages = embedded
      temperature = self._temperature(params)
      other = None if other_features is None else self._module.apply(
          {'params': params}, other_features, method='embed_text_features')
      loss = losses.contrastive(audio, text, temperature, other)
      count = 0 if other is None else len(other)
      return loss, (self._metrics(loss, audio, text, temperature, count),
                    averages)

    (_, (metrics, averages)), grads = gradient_cache.value_and_grad(
        functools.partial(self._embed, averages), loss_fn, self.microbatch)(
            state.params, (batch, keys))
    state, metrics = self.optimizer.step(state, grads, metrics)
    return (state.replace(averages=averages) if averages else state), metrics

  def evaluate(self, state, batch, rng):
    """Loss and retrieval within the batch, nothing augmented."""
    del rng
    averages = getattr(state, 'averages', {})
    batch = {k: v for k, v in batch.items() if k != 'other_features'}

    def embed(params, batch):
      out = self._module.apply(
          {'params': params, 'batch_stats': averages}, batch)
      return out.audio, out.text

    audio, text = gradient_cache.embed(
        embed, state.params, batch, self.microbatch)
    temperature = self._temperature(state.params)
    loss = losses.contrastive(audio, text, temperature)
    return dict(
        self._metrics(loss, audio, text, temperature),
        audio_to_text_top1=losses.retrieval(audio, text, 1),
        audio_to_text_top10=losses.retrieval(audio, text, 10))

  def _embed(self, averages, params, rows):
    """Training embeddings of any rows of a batch.

    Args:
      averages: of BatchNorm, or {}.
      params: the model's.
      rows: (batch, [B] keys).

    Returns:
      ([B, D] audio, [B, D] text, the averages after this step).
    """
    batch, keys = rows
    variables = {'params': params, 'batch_stats': averages}
    pairs = jax.vmap(jax.random.split)(keys)
    audio, changed = self._module.apply(
        variables, batch['audio'], pairs[:, 0], method='embed_audio',
        mutable=['batch_stats'])
    averages = changed.get('batch_stats', {})
    if self.model.text.frozen:
      return audio, self._module.apply(
          variables, batch['text_features'],
          method='embed_text_features'), averages

    def embed_text(ids, mask, key):
      return self._module.apply(
          variables, ids[None], mask[None], False, method='embed_text_ids',
          rngs={'dropout': key})[0]

    # Row by row, since dropout takes one key for all that it is given.
    text = jax.vmap(embed_text)(
        batch['text_ids'], batch['text_mask'], pairs[:, 1])
    return audio, text, averages

  def _temperature(self, params):
    return self._module.apply({'params': params}, method='temperature')

  def _metrics(self, loss, audio, text, temperature, other_captions=0):
    mean = lambda x: normalise.unit(x.mean(0))
    chance = losses.chance(len(audio), other_captions)
    return {
        'loss': loss, 'chance': chance, 'loss_over_chance': loss / chance,
        'temperature': temperature,
        'text_to_audio_top1': losses.retrieval(text, audio, 1),
        'text_to_audio_top10': losses.retrieval(text, audio, 10),
        'positive_cosine': jnp.mean(jnp.sum(audio * text, -1)),
        'means_cosine': jnp.sum(mean(audio) * mean(text)),
        'spread/audio': losses.spread(audio),
        'spread/text': losses.spread(text)}

  def gates(self):
    """Embeddings in one point; a loss that guessing would have."""
    if not self.stuck_rows:
      return ()
    return (
        gates.Gate(
            'embedding_collapse', 'spread/*', below=self.min_spread,
            patience=self.stuck_rows,
            cause='The embeddings of this tower have collapsed: all of them '
            'are nearly the same. Lower the learning rate or lengthen the '
            'warm-up, and check that its input differs from row to row '
            '(silent recordings, captions that are all alike).'),
        gates.Gate(
            'contrastive_chance', 'loss_over_chance', above=self.stuck_share,
            patience=self.stuck_rows,
            cause='The contrastive loss sits at chance, ln 2(B-1): recordings '
            'and captions do not find each other. Check that captions belong '
            'to their recordings and differ from one another, change the '
            'learning rate, or set stuck_rows = 0 to go on.'))

  def export(self, state, corpus):
    """Fits the RVQ on `corpus` and returns `save_component`'s arguments.

    Raises:
      UserError: the RVQ has collapsed.
    """
    params = jax.tree.map(jnp.asarray, state.params)
    averages = getattr(state, 'averages', {})
    fitted, report = rvq.fit(
        self.model, params, corpus, self.tokens, averages)
    weights = dict(
        params={k: v for k, v in params.items() if k != 'raw_temperature'},
        rvq=fitted)
    if averages:
      weights['averages'] = averages
    return dict(
        kind='mulan', config=self.model, spec=self.model.joint,
        weights=weights, metadata=dict(rvq=report))


def _checkpoint_params(like, text):
  """The checkpoint's parameters, read on the host when the program runs.

  A callback, not constants: the compiled `init` stays small.
  """
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), like)

  def read():
    params = text_encoder.read_params(
        text_encoder.directory(text.checkpoint), text.encoder)
    return jax.tree.map(
        lambda value, shape: np.ascontiguousarray(value, shape.dtype), params,
        shapes)

  return jax.pure_callback(read, shapes)
