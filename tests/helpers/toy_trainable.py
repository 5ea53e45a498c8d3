"""Linear regression as a trainable: small, noisy and easy to break."""

import dataclasses
import time

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from musiclm_jax import specs
from musiclm_jax.training import mesh
from musiclm_jax.training import optim
from musiclm_jax.training import shares
from musiclm_jax.training import trainable


@struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt_state: tuple


@dataclasses.dataclass(frozen=True)
class Toy(trainable.Trainable):
  """y = x @ w + b under input noise drawn from the step's rng."""

  width: int = 4
  noise: float = 0.1
  nan_at: int = -1  # the step whose loss is NaN
  nan_params_at: int = -1  # the step that spoils the parameters alone
  leap_at: int = -1  # the step that throws the parameters far away
  harmless_rate: float = 0.0  # at this learning rate nothing goes wrong
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig(
      learning_rate=0.3, warmup_steps=5)

  def init(self, rng, batch):
    params = {
        'w': jax.random.normal(rng, (batch['x'].shape[1], self.width)),
        'b': jnp.zeros((self.width,))}
    return State(jnp.int32(0), params, self.optimizer.make().init(params))

  def logical_axes(self, state):
    axes = {'w': ('embed', 'mlp'), 'b': ('mlp',)}
    return State(None, axes, mesh.optimizer_axes(
        state.opt_state, state.params, axes))

  def _loss(self, params, batch, noise):
    x = batch['x'] + noise
    return jnp.mean((x @ params['w'] + params['b'] - batch['y']) ** 2)

  def update(self, state, batch, rng):
    noise = self.noise * jax.random.normal(rng, batch['x'].shape)
    loss, grads = jax.value_and_grad(self._loss)(state.params, batch, noise)
    updates, opt_state = self.optimizer.make().update(
        grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if self.optimizer.learning_rate > self.harmless_rate:
      loss = jnp.where(state.step == self.nan_at, jnp.nan, loss)
      spoil = jnp.where(state.step == self.nan_params_at, jnp.nan, 0.0)
      spoil += jnp.where(state.step == self.leap_at, 1e3, 0.0)
      params = jax.tree.map(lambda p: p + spoil, params)
    return State(state.step + 1, params, opt_state), {
        'loss': loss, 'id': jnp.mean(batch['id'].astype(jnp.float32))}

  def evaluate(self, state, batch, rng):
    return {'loss': self._loss(state.params, batch, 0.0)}

  def export(self, state, corpus):
    tracks = 0 if corpus is None else len(corpus.split('train'))
    return dict(kind='soundstream', config=dict(tracks=tracks),
                spec=specs.CodecSpec(), weights=state.params)


@dataclasses.dataclass(frozen=True)
class ToySource(trainable.BatchSource):
  """Batches of a fixed linear map, a function of (seed, step)."""

  batch_size: int = 8
  features: int = 6
  width: int = 4
  seed: int = 0
  sleep: float = 0.0
  length: int = 0

  def _batch(self, step):
    truth = np.random.default_rng(99).normal(size=(self.features, self.width))
    x = np.random.default_rng([self.seed, step]).normal(
        size=(self.batch_size, self.features))
    return dict(x=x.astype(np.float32), y=(x @ truth).astype(np.float32),
                id=np.full((self.batch_size,), step, np.int32))

  def batches(self, start_step, share=shares.WHOLE):
    step = start_step
    while not self.length or step < self.length:
      time.sleep(self.sleep)
      yield share.of(self._batch(step))
      step += 1

  def eval_batches(self, share=shares.WHOLE):
    for i in range(2):
      yield share.of(self._batch(10**6 + i))
