"""A decoder stage under training: the Trainable of all three stages."""

import dataclasses

import jax
import jax.numpy as jnp

from musiclm_jax.nn import layer_stacks
from musiclm_jax.systems.musiclm.stages import model as model_lib
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.training import accumulate
from musiclm_jax.training import mesh
from musiclm_jax.training import optim
from musiclm_jax.training import trainable


@dataclasses.dataclass(frozen=True)
class StageTrainable(trainable.Trainable):
  """Teacher-forced cross-entropy of a stage.

  Attributes:
    model: which stage, and how large.
    optimizer: its optimiser and schedule.
    microbatch: sequences whose gradient is computed at a time, a divisor of the
      batch and a multiple of the data-parallel devices; 0: all of them.
    input_noise: share of the target's tokens that are replaced by others of
      their level where they are the input, so that a stage learns to go on
      from what it has drawn itself, which is not always right.
  """

  model: model_lib.StageModel = model_lib.StageModel()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  microbatch: int = 0  # ours
  input_noise: float = 0.0  # paper

  def init(self, rng, batch):
    """A fresh state; `batch` is not needed."""
    del batch
    return self.optimizer.start(self.model.init(rng))

  def update(self, state, batch, rng):
    """One step over batch; metrics of `StageModel.loss`, norm and rate."""
    dropout_rng = rng if self.model.config.dropout_rate else None
    if self.input_noise:
      rng, noise_rng = jax.random.split(rng)
      batch = dict(batch, decoder_input_tokens=self._noisy(
          batch['decoder_input_tokens'], noise_rng))
    grads, metrics = accumulate.gradients(
        self.model.loss, _target_tokens, state.params, batch, dropout_rng,
        self.microbatch)
    return self.optimizer.step(state, grads, metrics)

  def _noisy(self, inputs, rng):
    """[B, L] input tokens, some of the target's replaced."""
    layout = self.model.layout
    low, high = (jnp.asarray(x)[:-1] for x in layout.legal_ranges())
    which_rng, code_rng = jax.random.split(rng)
    tokens = inputs[:, 1:layout.length]  # at p the token before it
    drawn = jax.random.randint(code_rng, tokens.shape, low, high)
    replaced = jax.random.bernoulli(
        which_rng, self.input_noise, tokens.shape) & (
            jnp.arange(layout.length - 1) >= layout.target.start) & (
                tokens != layout_lib.PAD_ID)
    return jnp.asarray(inputs).at[:, 1:layout.length].set(
        jnp.where(replaced, drawn, tokens))

  def evaluate(self, state, batch, rng):
    """The batch's metrics, without dropout."""
    del rng
    return self.model.loss(state.params, batch)[1]

  def needs(self, batch):
    """What a step on `batch` is for: FLOPs of the model, target tokens."""
    rows = batch['decoder_loss_weights'].shape[0]
    return dict(flops=rows * self.model.train_flops(),
                tokens=rows * self.model.layout.target.length)

  def logical_axes(self, state):
    """Logical axes of every array; the optimiser's lie as their parameters."""
    axes = self.model.logical_axes()
    return optim.State(step=None, params=axes,
                       opt_state=mesh.optimizer_axes(
                           state.opt_state, state.params, axes))

  def export(self, state, corpus=None):
    """Keyword arguments of `bundle.save_component`; layers unrolled."""
    del corpus
    config = dataclasses.replace(self.model.config, scan_layers=False)
    return dict(kind=self.model.spec.name, config=config, spec=self.model.spec,
                weights=layer_stacks.unroll(state.params))


def _target_tokens(batch):
  """Tokens that the loss is a mean of."""
  return batch['decoder_loss_weights'].astype(jnp.float32).sum()
