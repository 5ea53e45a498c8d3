"""Short runs that several tests start, here or in processes of their own."""

import dataclasses
import time

import jax
import tiny_stage
import toy_trainable

from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import hosts
from musiclm_jax.training import loop
from musiclm_jax.training import optim
from musiclm_jax.training import shares
from musiclm_jax.training import trainable as trainable_lib


@dataclasses.dataclass(frozen=True)
class StageSource(trainable_lib.BatchSource):
  """Random codes of a small stage, a function of the step."""

  stage: object
  batch_size: int = 8

  def batches(self, start_step, share=shares.WHOLE):
    step = start_step
    while True:
      yield share.of(tiny_stage.batch_of(self.stage.layout, tiny_stage.codes(
          self.stage.layout, self.batch_size, seed=step)))
      step += 1

  def eval_batches(self, share=shares.WHOLE):
    return iter(())


@dataclasses.dataclass(frozen=True)
class StallingSource(toy_trainable.ToySource):
  """The second process waits for its eighth batch for ever."""

  def _batch(self, step):
    if step == 7 and jax.process_index() == 1:
      time.sleep(1000)
    return super()._batch(step)


def make(kind, sleep=0.0):
  """(trainable, source)."""
  if kind == 'stall':
    return toy_trainable.Toy(), StallingSource()
  if kind == 'toy':
    return toy_trainable.Toy(), toy_trainable.ToySource(sleep=sleep)
  stage = tiny_stage.stage_model('fine', seconds=1, scan_layers=True)
  # A large epsilon: with a small one, gradients of 1e-9 become whole steps.
  return trainer.StageTrainable(stage, optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=1, eps=1e-3)), StageSource(stage)


def train(kind, model_dir, steps, sleep=0.0, mesh=(-1, 1)):
  hosts.join()
  trainable, source = make(kind, sleep)
  return loop.train(trainable, source, str(model_dir), steps, mesh=mesh,
                    eval_every=0, checkpoint_every=10, log_every=1,
                    hang_minutes=0.1 if kind == 'stall' else 10.0)
