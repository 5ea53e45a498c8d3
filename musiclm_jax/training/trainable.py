"""What the one training loop trains, and on what: the contracts as classes.

A trainable holds a model's configuration and its optimiser, and no arrays. The
loop jits `init`, `update` and `evaluate`, shards the state by `logical_axes` and
writes it with Orbax; it knows no model. A source makes batches, and knows no
loop. Both are frozen dataclasses that inherit from a class here: what has no
default is abstract, and what has one may be left as it is.
"""

import abc
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.training import gates as gates_lib
from musiclm_jax.training import previews as previews_lib
from musiclm_jax.training import shares

State = Any  # a flax.struct dataclass with an int32 scalar `step`
Batch = Mapping[str, jax.Array]  # name -> [B, ...]
HostBatch = dict[str, np.ndarray]  # the same before it is on devices
Metrics = dict[str, jax.Array]  # name -> scalar


class Trainable(abc.ABC):
  """A model under training.

  `init`, `update` and `evaluate` are pure and jit-able.
  """

  # Rows whose gradient is computed at a time, 0 for all of them, where a model
  # can take its batch in parts: then a field of this name. None: it cannot.
  microbatch: int | None = None

  @abc.abstractmethod
  def init(self, rng: jax.Array, batch: Batch) -> State:
    """A fresh state. `batch` is a real first batch (k-means wants one)."""

  @abc.abstractmethod
  def update(self, state: State, batch: Batch,
             rng: jax.Array) -> tuple[State, Metrics]:
    """One step: the new state, with `step` one higher, and its metrics.

    `metrics['loss']` is required. When it is not finite or explodes, the loop
    goes back to a checkpoint and lowers the rate of every
    `optim.OptimizerConfig` among the trainable's fields.
    """

  @abc.abstractmethod
  def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> Metrics:
    """Metrics of one batch with nothing changed; the loop averages them."""

  @abc.abstractmethod
  def export(self, state: State,
             corpus: records.Corpus | records.Mixture | None) -> dict[str, Any]:
    """Keywords of `bundle.save_component`: kind, config, spec, weights.

    Runs on the host, outside jit.

    Args:
      state: with NumPy arrays.
      corpus: what codebooks outside the state are fitted on, if given.
    Returns:
      The keywords; under 'metadata' also JSON values that the export found out.
    """

  def logical_axes(self, state: State) -> Any:
    """Which axes of the state's arrays may be split over devices.

    Args:
      state: as ShapeDtypeStructs.
    Returns:
      A tree like the state, or a prefix of it, of tuples of axis names
      (nn/partitioning.py), or None for arrays without names;
      `mesh.optimizer_axes` gives those of an optax state. None: none has any.
    """
    del state
    return None

  def from_nothing(self) -> Self:
    """The same with an `init` that reads no files, of the same shapes.

    For preflight, which has no files. Itself where `init` reads none.
    """
    return self

  def needs(self, batch: Any) -> dict[str, float]:
    """What one step is for, as preflight reports it; {} says nothing.

    Args:
      batch: as ShapeDtypeStructs.
    Returns:
      {'flops': of the model, 'tokens': that it learns to predict}.
    """
    del batch
    return {}

  def gates(self) -> Sequence[gates_lib.Gate]:
    """Conditions on its metrics that stop a run, or warn."""
    return ()

  def previews(
      self, state: State, batch: HostBatch
  ) -> dict[str, previews_lib.Audio | previews_lib.Image]:
    """Sounds and pictures of a few examples, made at every evaluation.

    Called outside jit.

    Args:
      state: on devices.
      batch: of the source's `preview_batch`.
    Returns:
      {name: what is shown under it}.
    """
    del state, batch
    return {}

  @property
  def has_previews(self) -> bool:
    """Whether the class has `previews` of its own, and so wants a batch."""
    return type(self).previews is not Trainable.previews


class BatchSource(abc.ABC):
  """Where the loop gets data: the same batches for the same (seed, step)."""

  corpus_dir: str = ''  # the corpus that the batches are of, if they are of one

  @abc.abstractmethod
  def batches(self, start_step: int,
              share: shares.Share = shares.WHOLE) -> Iterator[HostBatch]:
    """Endless batches, the first one that of `start_step`.

    Args:
      start_step: updates that were done before.
      share: which rows of each batch to make. Together, the shares of all hosts
        are the very batch that one host alone would make. A source that cannot
        make some rows without the others yields `share.of(batch)`.
    Yields:
      {name: [rows, ...]}.
    """

  @abc.abstractmethod
  def eval_batches(
      self, share: shares.Share = shares.WHOLE) -> Iterator[HostBatch]:
    """The fixed evaluation batches: finitely many, the same ones each time.

    Args:
      share: as of `batches`.
    """

  def preview_batch(self, count: int) -> HostBatch:
    """The `count` examples that previews are made of, the same each time."""
    first = next(iter(self.eval_batches()))
    return {name: array[:count] for name, array in first.items()}

  def baselines(self) -> dict[str, float]:
    """{name: value} of what the evaluation's metrics have to beat.

    They stand beside the metrics in every row of the evaluation.
    """
    return {}

  def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """A whole batch as ShapeDtypeStructs, made without data, for preflight.

    Raises:
      UserError: the source cannot say.
    """
    raise errors.UserError(
        f'{type(self).__name__} does not say what a batch looks like '
        f'(batch_shapes); preflight has no data to look at.')

  @property
  def origin(self) -> dict[str, Any]:
    """JSON values that an export says of its data, where there is no corpus."""
    return {}
