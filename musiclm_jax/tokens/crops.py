"""Which crop of which track every example of a stage is: arithmetic alone."""

import functools

import numpy as np
import numpy.typing as npt

from musiclm_jax import specs
from musiclm_jax.tokens import layout as layout_lib

# Permutations kept: a prefetching reader is in two epochs at most.
_KEPT_EPOCHS = 4


def feature_lengths(stage: specs.StageSpec) -> dict[str, int]:
  """{'inputs': ..., 'targets': ...} of a StageSpec, in tokens."""
  layout = layout_lib.for_stage(stage)
  return dict(inputs=layout.target.start, targets=layout.target.length)


def crop_counts(seconds: npt.ArrayLike, crop_seconds: int) -> np.ndarray:
  """[n] how many crops each track stands for: all that fit, at least one."""
  return np.maximum(1, np.asarray(seconds) // crop_seconds)


class Order:
  """Which track and which crop every example has, as a function of its index.

  An epoch goes once through `max(1, seconds // crop_seconds)` crops of every
  track, in an order and at places that depend on (seed, epoch, index) alone.

  >>> order = Order(seconds=[40, 5], crop_seconds=10, seed=0)
  >>> order.epoch_length  # four crops of the first track, one of the second
  5
  >>> sorted(order.example(i)[0] for i in range(5))
  [0, 0, 0, 0, 1]
  """

  def __init__(self, seconds: npt.ArrayLike, crop_seconds: int, seed: int):
    """Makes an order.

    Args:
      seconds: [n] whole seconds of each track.
      crop_seconds: seconds of one crop.
      seed: any non-negative int.
    """
    counts = crop_counts(seconds, crop_seconds)
    self._tracks = np.repeat(np.arange(len(counts)), counts)
    self._seed = seed
    self._permutation = functools.lru_cache(_KEPT_EPOCHS)(self._permute)

  @property
  def epoch_length(self) -> int:
    return len(self._tracks)

  def example(self, index: int) -> tuple[int, np.ndarray]:
    """(track, [2] int32 seed of the crop) of the example at `index`."""
    epoch, position = divmod(int(index), self.epoch_length)
    permutation, epoch_seed = self._permutation(epoch)
    crop = permutation[position]
    return int(self._tracks[crop]), np.array([epoch_seed, crop], np.int32)

  def _permute(self, epoch):
    rng = np.random.default_rng([self._seed, epoch])
    permutation = rng.permutation(self.epoch_length)
    return permutation, int(rng.integers(1 << 31))


class OwnRows:
  """The part of an order that one of several hosts reads.

  Its example i is the one at row `rows[i % n]` of batch i // n.

  >>> order = Order(seconds=[90], crop_seconds=10, seed=0)
  >>> own = OwnRows(order, batch_size=4, rows=np.array([1, 3]))
  >>> [int(own.example(i)[1][1]) for i in range(4)] == [
  ...     int(order.example(i)[1][1]) for i in (1, 3, 5, 7)]
  True
  """

  def __init__(self, order: Order, batch_size: int, rows: np.ndarray):
    """The part of `order` at these rows of its batches.

    Args:
      order: of all examples.
      batch_size: rows of the whole batch.
      rows: [n] which of them are read.
    """
    self._order, self._batch_size, self._rows = order, batch_size, rows

  def example(self, index: int) -> tuple[int, np.ndarray]:
    """As `Order.example`, of the host's own examples."""
    batch, place = divmod(int(index), len(self._rows))
    return self._order.example(
        batch * self._batch_size + int(self._rows[place]))
