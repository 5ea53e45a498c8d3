"""What a server compiles before anybody asks for it.

  one   one sample of any length, from a prompt: before the server is ready
  all   also more samples, stories of a few parts, a song, a recording to go on
        from, a melody: once it is ready, a program at a time, while nobody
        waits

What is left compiles when it is asked for: fewer levels, top-k and top-p.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from musiclm_jax.decoding import choices
from musiclm_jax.systems.musiclm import steering as steering_lib
from musiclm_jax.systems.musiclm import story as story_lib

if TYPE_CHECKING:  # it imports jax, which takes seconds
  from musiclm_jax.systems.musiclm import model as model_lib

_MOST_PARTS = 3  # of a story; MuLan has a program for each number
_RECORDED_SECONDS = 5


def first(model: model_lib.Model,
          make: Callable[..., None]) -> Iterator[None]:
  """Yields after each program of one sample.

  Args:
    model: the `systems.musiclm.model.Model`.
    make: function that makes a clip and drops it; takes how many `samples`, of
      how many `seconds`, and a `story`, `like`, `melody` or `continue_from`.
  """
  yield from _samples(model, make, 1)


def others(model: model_lib.Model, make: Callable[..., None],
           most_samples: int) -> Iterator[None]:
  """Yields after each program of what is asked for less often.

  Args:
    model: as in `first`.
    make: as in `first`.
    most_samples: that a request may ask for.
  """
  for samples in range(2, min(most_samples, choices.MAX_ROWS) + 1):
    yield from _samples(model, make, samples)
  for count in range(2, _MOST_PARTS + 1):
    make(seconds=count, story=tuple(
        story_lib.Part(second, 'a reel') for second in range(count)))
    yield
  tone = np.sin(np.arange(_RECORDED_SECONDS * model.sample_rate_hz) / 20)
  names = ['like']
  if model.bundle.has('w2vbert'):
    names.append('continue_from')
  if steering_lib.takes_melody(model.bundle):
    names.append('melody')
  for name in names:
    make(**{name: tone.astype(np.float32)})
    yield


def _samples(model: model_lib.Model, make: Callable[..., None],
             samples: int) -> Iterator[None]:
  """The stages, and with a short clip all that stands beside them."""
  yield from model.prepare(samples)
  make(samples=samples)
  yield
