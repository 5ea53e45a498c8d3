"""Streams for codecs that know whole signals only.

  frames so far   ......|-- left --|== new ==|-- right --|
  processed at once     |----------------------------------|
  kept                             |=========|

Each chunk is processed together with the frames before it, up to `left`, and
waits for `right` frames after it; what comes of those is dropped. The results
are those of the whole signal, exactly where a frame depends on no more than the
context (`left` back, `right` ahead), else nearly: what lies further back is
missing. The price is that a chunk of n frames costs as much as left + n + right.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike


class Overlapping:
  """A function of whole signals, chunk by chunk.

  Attributes:
    delay_frames: frames after its own that a frame's result waits for: `right`.
  """

  delay_frames: int

  def __init__(self, function: Callable[[np.ndarray], ArrayLike], left: int,
               right: int, inputs_per_frame: int = 1,
               outputs_per_frame: int = 1):
    """A stream.

    Args:
      function: [B, t * inputs_per_frame, ...] -> [B, t * outputs_per_frame,
        ...], of any t > 0.
      left: frames of context before a chunk, 0 or more.
      right: frames of context after it, 0 or more.
      inputs_per_frame: a codec's hop for an encoder, 1 for a decoder.
      outputs_per_frame: the other way round.
    """
    self._function, self._left = function, left
    self._inputs, self._outputs = inputs_per_frame, outputs_per_frame
    self.delay_frames = right

  def stream(self, chunks: Iterable[ArrayLike]) -> Iterator[np.ndarray]:
    """The results of one signal.

    Args:
      chunks: [B, n * inputs_per_frame, ...] each, n >= 1.

    Yields:
      [B, m * outputs_per_frame, ...], in all as many frames as came in. After a
      chunk what has all its right context; the rest after the last chunk.

    Raises:
      ValueError: a chunk that is not whole frames.
    """
    heard = None  # what may still be needed: from frame `first` of the signal
    first = done = 0
    for chunk in chunks:
      chunk = self._checked(chunk)
      heard = chunk if heard is None else np.concatenate([heard, chunk], axis=1)
      known = first + heard.shape[1] // self._inputs - self.delay_frames
      if known > done:
        yield self._results(heard, done - first, known - first)
        done = known
        dropped = max(0, done - self._left - first)
        heard = heard[:, dropped * self._inputs:]
        first += dropped
    if heard is not None and self.delay_frames:
      end = heard.shape[1] // self._inputs
      if end > done - first:
        yield self._results(heard, done - first, end)

  def _results(self, heard, start, stop):
    """Those of frames `start` to `stop` of what was heard."""
    found = np.asarray(self._function(heard))
    return found[:, start * self._outputs:stop * self._outputs]

  def _checked(self, chunk):
    chunk = np.asarray(chunk)
    if chunk.ndim < 2 or not chunk.size or chunk.shape[1] % self._inputs:
      raise ValueError(
          f'chunk has shape {chunk.shape}; expected [B, n * {self._inputs}], '
          f'n >= 1, not empty.')
    return chunk
