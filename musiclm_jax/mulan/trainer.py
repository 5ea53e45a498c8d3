"""Trains MuLan and exports it with its RVQ."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.mulan import losses
from musiclm_jax.mulan import model as mulan_model
from musiclm_jax.mulan import rvq
from musiclm_jax.nn import text_encoder
from musiclm_jax.training import optim


@dataclasses.dataclass(frozen=True)
class MulanTrainable:
  """MuLan under training, on batches of `sources.MulanBatches`.

  Attributes:
    model: sizes of both towers.
    optimizer: the optimiser and its schedule.
    tokens: how the RVQ is fitted at export.
  """

  model: mulan_model.MulanConfig = mulan_model.MulanConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  tokens: rvq.RvqConfig = rvq.RvqConfig()

  @functools.cached_property
  def _module(self):
    return mulan_model.Mulan(self.model)

  def init(self, rng, batch):
    """A fresh state; a trained text encoder starts from its checkpoint."""
    params = self._module.init(rng, batch)['params']
    text = self.model.text
    if not text.frozen and text.initialize:
      params = dict(params, text_encoder=_checkpoint_params(
          params['text_encoder'], text))
    return self.optimizer.start(params)

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    def loss_fn(params):
      out = self._module.apply(
          {'params': params}, batch, rng, rngs={'dropout': rng})
      loss = losses.contrastive(out.audio, out.text, out.temperature)
      return loss, self._metrics(loss, out)

    (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params)
    return self.optimizer.step(state, grads, metrics)

  def evaluate(self, state, batch, rng):
    """Loss and retrieval within the batch, nothing augmented."""
    del rng
    out = self._module.apply({'params': state.params}, batch)
    loss = losses.contrastive(out.audio, out.text, out.temperature)
    return dict(
        self._metrics(loss, out),
        audio_to_text_top1=losses.retrieval(out.audio, out.text, 1),
        audio_to_text_top10=losses.retrieval(out.audio, out.text, 10))

  def _metrics(self, loss, out):
    mean = lambda x: mulan_model.unit(x.mean(0))
    return dict(
        loss=loss, chance=losses.chance(len(out.audio)),
        temperature=out.temperature,
        text_to_audio_top1=losses.retrieval(out.text, out.audio, 1),
        text_to_audio_top10=losses.retrieval(out.text, out.audio, 10),
        positive_cosine=jnp.mean(jnp.sum(out.audio * out.text, -1)),
        means_cosine=jnp.sum(mean(out.audio) * mean(out.text)))

  def export(self, state, corpus):
    """Fits the RVQ on `corpus` and returns `save_component`'s arguments."""
    params = jax.tree.map(jnp.asarray, state.params)
    fitted, report = rvq.fit(self.model, params, corpus, self.tokens)
    params = {k: v for k, v in params.items() if k != 'raw_temperature'}
    return dict(
        kind='mulan', config=self.model, spec=self.model.joint,
        weights=dict(params=params, rvq=fitted),
        metadata=dict(rvq=report))


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
