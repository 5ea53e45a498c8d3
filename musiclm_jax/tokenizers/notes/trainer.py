"""Trains the network that hears which note leads."""

import dataclasses
import functools

import jax.numpy as jnp
import optax

from musiclm_jax.tokenizers.notes import embedder
from musiclm_jax.tokenizers.notes import model as notes_model
from musiclm_jax.training import optim
from musiclm_jax.training import trainable


@dataclasses.dataclass(frozen=True)
class NotesTrainable(trainable.Trainable):
  """The network under training, on `crops.NotesBatches`.

  Attributes:
    model: its sizes.
    optimizer: the optimiser and its schedule.
  """

  model: notes_model.NotesConfig = notes_model.NotesConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()

  @functools.cached_property
  def _module(self):
    return notes_model.Notes(self.model)

  def init(self, rng, batch):
    """A fresh `optim.State`."""
    return self.optimizer.start(
        self._module.init(rng, batch['audio'])['params'])

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    del rng
    return self.optimizer.descend(
        state, lambda params: self._metrics(params, batch))

  def evaluate(self, state, batch, rng):
    """The loss and how many slots are right."""
    del rng
    return self._metrics(state.params, batch)

  def _metrics(self, params, batch):
    """`right_notes` is of the slots in which a note sounds: 1 / 12 by chance."""
    logits = self._module.apply({'params': params}, batch['audio'])
    classes = batch['classes']
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, classes).mean()
    right = (logits.argmax(-1) == classes).astype(jnp.float32)
    sounds = (classes != notes_model.NONE).astype(jnp.float32)
    return dict(loss=loss, right=right.mean(), right_notes=(
        right * sounds).sum() / jnp.maximum(sounds.sum(), 1.0))

  def export(self, state, corpus):
    """`save_component`'s arguments."""
    del corpus
    return dict(kind=embedder.KIND, config=self.model, spec=self.model.melody,
                weights=dict(params=state.params))
