"""Which rows of a batch a host makes, where several hosts train together."""

from collections.abc import Mapping
import dataclasses

import jax
import numpy as np

from musiclm_jax import errors


@dataclasses.dataclass(frozen=True)
class Share:
  """Some of the `count` equal blocks that the rows of a batch are cut into.

  Every device has one block, and a host makes the blocks of its own devices.
  These need not lie side by side: on TPU slices the neighbours in a mesh are
  neighbours by their wires, not by their hosts. With 4 devices, of which the
  first host has the first and the third:

  >>> Share((0, 2), 4).rows(8).tolist()
  [0, 1, 4, 5]

  Attributes:
    blocks: numbers of the blocks, ascending.
    count: how many blocks a batch has.
  """

  blocks: tuple[int, ...] = (0,)
  count: int = 1

  def rows(self, size: int) -> np.ndarray:
    """[n] numbers of the rows, ascending, of a batch of `size` rows.

    Raises:
      UserError: the batch does not divide into the blocks.
    """
    return np.arange(size).reshape(self.count, self._block(size))[
        list(self.blocks)].reshape(-1)

  def of(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The share of a whole batch {name: [B, ...]}."""
    if self.is_whole:
      return dict(batch)
    return {name: x[self.rows(len(x))] for name, x in batch.items()}

  @property
  def is_whole(self) -> bool:
    return len(self.blocks) == self.count

  def whole_size(self, rows: int) -> int:
    """Rows of the whole batch, of which `rows` are the share's."""
    return rows * self.count // len(self.blocks)

  def described(
      self, batch: Mapping[str, np.ndarray]
  ) -> dict[str, jax.ShapeDtypeStruct]:
    """The whole batch as ShapeDtypeStructs.

    Args:
      batch: the share of it, {name: [rows, ...]}.
    """
    return {name: jax.ShapeDtypeStruct(
        (self.whole_size(len(x)), *np.shape(x)[1:]), x.dtype)
            for name, x in batch.items()}

  def within(self, rows: slice, size: int) -> slice:
    """Where rows of the whole batch lie in the share of it.

    Args:
      rows: those of one block; of the whole batch, any.
      size: rows of the whole batch.
    Raises:
      ValueError: the block is another host's.

    >>> Share((0, 2), 4).within(slice(4, 6), 8)
    slice(2, 4, None)
    """
    if self.is_whole:
      return rows
    block = self._block(size)
    start, stop, _ = rows.indices(size)
    if start % block or stop - start != block or (
        start // block not in self.blocks):
      raise ValueError(
          f'rows {start} to {stop} of {size} are none of the blocks '
          f'{self.blocks} of {self.count}.')
    place = self.blocks.index(start // block) * block
    return slice(place, place + block)

  def _block(self, size: int) -> int:
    """Rows of a block."""
    if size % self.count:
      raise errors.UserError(
          f'batch of {size} does not divide over {self.count} data-parallel '
          f'devices; make BATCH_SIZE a multiple of {self.count}.')
    return size // self.count


WHOLE = Share()
