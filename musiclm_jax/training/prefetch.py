"""Batches made by a background thread while the devices compute."""

from collections.abc import Callable
from collections.abc import Iterable
import queue
import threading
from typing import Any
from typing import Self

_END = object()


class Prefetch:
  """Iterates over `place(batch)` for each batch, a few ahead of its reader.

  Use as a context manager: leaving it ends the thread. An exception of the
  source is raised where the batch would have been read.
  """

  def __init__(self, batches: Iterable[Any], place: Callable[[Any], Any],
               depth: int = 2):
    self._queue = queue.Queue(maxsize=max(1, depth))
    self._stop = threading.Event()
    self._thread = threading.Thread(
        target=self._fill, args=(batches, place), daemon=True,
        name='prefetch')
    self._thread.start()

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self._stop.set()
    self._thread.join(timeout=10)

  def __iter__(self) -> Self:
    return self

  def __next__(self) -> Any:
    item, error = self._queue.get()
    if error is not None:
      raise error
    if item is _END:
      self._offer(_END, None)
      raise StopIteration
    return item

  def _fill(self, batches, place):
    try:
      for batch in batches:
        if not self._offer(place(batch), None):
          return
      self._offer(_END, None)
    except BaseException as error:  # pylint: disable=broad-exception-caught
      self._offer(None, error)

  def _offer(self, item, error):
    """Waits for a free place; False once the reader has left."""
    while not self._stop.is_set():
      try:
        self._queue.put((item, error), timeout=0.1)
        return True
      except queue.Full:
        pass
    return False
