"""What the one training loop trains: the contract of every model.

A trainable holds a model's configuration and its optimiser, and no arrays.
The loop jits `init`, `update` and `evaluate`, shards the state by
`logical_axes` and writes it with Orbax; it knows no model.
"""

from typing import Any
from typing import Protocol

import jax

State = Any  # a flax.struct dataclass with an int32 scalar `step`
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]  # name -> scalar


class Trainable(Protocol):
  """A model under training. All methods but `export` are pure and jit-able."""

  def init(self, rng, batch) -> State:
    """A fresh state. `batch` is a real first batch (k-means wants one)."""

  def update(self, state, batch, rng) -> tuple[State, Metrics]:
    """One step: the new state, with `step` one higher, and its metrics.

    `metrics['loss']` is required. When it is not finite or explodes, the loop
    goes back to a checkpoint and lowers the rate of every
    `optim.OptimizerConfig` among the trainable's fields.
    """

  def evaluate(self, state, batch, rng) -> Metrics:
    """Metrics of one batch with nothing changed; the loop averages them."""

  def export(self, state, corpus) -> dict[str, Any]:
    """Keywords of `bundle.save_component`: kind, config, spec, weights.

    Runs on the host, outside jit, on a state of NumPy arrays. `corpus` is the
    `records.Corpus` that codebooks outside the state are fitted on, or None.

    A trainable may also have

      logical_axes(state)     a tree like the state, or a prefix of it, of
                              tuples of axis names (nn.partitioning) or None
                              for what is replicated; `mesh.optimizer_axes`
                              gives those of an optax state
      from_nothing()          the same trainable, if its `init` reads files:
                              one of the same shapes that does not
      needs(batch)            {'flops': of the model, 'tokens': that it learns
                              to predict} of one step, for preflight
      gates()                 `gates.Gate`s on its metrics
      previews(state, batch)  {name: previews.Audio or Image} of a few examples,
                              made at every evaluation, outside jit
    """


class BatchSource(Protocol):
  """Where the loop gets data: the same batches for the same (seed, step)."""

  def batches(self, start_step):
    """Iterator of {name: [B, ...] NumPy array}, from `start_step` on."""

  def eval_batches(self):
    """A finite iterator over the fixed evaluation batches.

    A source may also have `preview_batch(count)`, the examples that previews
    are made of; else they are the first ones of the evaluation;
    `baselines()`, {name: value} of what the evaluation's metrics have to beat,
    to stand beside them; and `batch_shapes()`, a batch as ShapeDtypeStructs,
    for preflight, which has no data.
    """
