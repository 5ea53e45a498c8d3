"""What a run of the training loop is asked to do."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib

import jax

from musiclm_jax import errors
from musiclm_jax.training import health
from musiclm_jax.training import trainable as trainable_lib


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """The arguments of `loop.train`, which has the defaults.

  Attributes:
    trainable: the model and how it learns.
    source: the batches.
    model_dir: checkpoints, metrics and run.json go here.
    num_steps: updates of the whole run, earlier starts included.
    seed: decides the initial state and the randomness of every step; the
      source has a seed of its own.
    mesh: devices of each mesh axis, see training/mesh.
    rules: (logical axis, mesh axis or axes) pairs that go before those of
      `nn.partitioning.RULES`.
    eval_every: steps between evaluations; 0 evaluates never. The last step is
      evaluated as well.
    checkpoint_every: steps between checkpoints; 0 writes only the last.
    log_every: steps whose metrics are averaged into one row.
    keep: number of newest checkpoints to keep.
    max_minutes: wall-clock limit of this start, compilation included; None for
      no limit.
    prefetch: batches made ahead.
    devices: devices of the mesh; None for all.
    recovery: what to do when training diverges.
    preview_clips: examples that the trainable shows at each evaluation, if it
      offers previews, on one host; 0 shows none.
    hang_minutes: without a step for so long the run says which host is late;
      after twice that, one of several hosts ends. 0 never does.
    generator: of a step's random numbers, see `step.build`.
  """

  trainable: trainable_lib.Trainable
  source: trainable_lib.BatchSource
  model_dir: str | pathlib.Path
  num_steps: int
  seed: int
  mesh: Mapping[str, int] | tuple[int, int]
  rules: Sequence[tuple]
  eval_every: int
  checkpoint_every: int
  log_every: int
  keep: int
  max_minutes: float | None
  prefetch: int
  devices: Sequence[jax.Device] | None
  recovery: health.Recovery
  preview_clips: int
  hang_minutes: float
  generator: str

  def __post_init__(self):
    if self.num_steps < 1 or self.log_every < 1:
      raise errors.UserError(
          f'num_steps is {self.num_steps} and log_every {self.log_every}; both '
          f'must be at least 1.')

  def evaluates(self, step: int, reason: str) -> bool:
    """Whether to evaluate after `step`.

    Args:
      step: updates done.
      reason: why the run stops after it, or ''.
    """
    # Whoever sent a signal waits for the run to end.
    return not reason.startswith('SIG') and _is_due(
        self.eval_every, step, reason)

  def saves(self, step: int, reason: str) -> bool:
    """Whether to write a checkpoint after `step`; arguments as above."""
    return bool(reason) or _is_due(self.checkpoint_every, step, reason)

  def logs(self, step: int, reason: str) -> bool:
    """Whether a row of metrics ends with `step`: no other may span these."""
    return (step % self.log_every == 0 or self.saves(step, reason) or
            self.evaluates(step, reason))


def _is_due(every: int, step: int, reason: str) -> bool:
  """Whether an interval ends here, or the run does."""
  return bool(every) and (step % every == 0 or bool(reason))
