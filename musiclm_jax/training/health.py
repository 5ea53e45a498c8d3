"""When a run is in trouble: numbers that are none, losses that explode.

  Diverged   raised where it is seen; the loop rolls back (`Recovery` says how
             often and how far the rate falls), and raises it again to give up
  StopSignal, Deadline   why a run ends in good health

Gates on other metrics are in training/gates.py.
"""

from collections.abc import Sequence
import dataclasses
import signal
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors

_FIRST_ROWS = 5  # what an untrained model's loss is judged by
_RECENT_ROWS = 20


class Diverged(errors.UserError):
  """Training went astray: `what` happened at `step`."""

  def __init__(self, what: str, step: int):
    super().__init__(what)
    self.what = what
    self.step = step


class NotFinite(Diverged):
  """A loss or an array of the state is NaN or infinite."""


class Exploded(Diverged):
  """The loss is finite, but far above what it was."""


@dataclasses.dataclass(frozen=True)
class Recovery:
  """What the loop does when training diverges.

  It restores the last good checkpoint (or begins again, where there is none),
  multiplies every learning rate by `rate_factor`, and goes on. All values are
  ours.

  Attributes:
    max_rollbacks: how often in the life of a run, earlier starts included;
      then the run gives up. 0 gives up at once.
    rate_factor: of the learning rates, at each rollback.
    explode_factor: a loss over this many times its recent median has exploded,
      if it is also above that of the untrained model; 0 looks for NaN and
      infinity alone.
  """

  max_rollbacks: int = 3
  rate_factor: float = 0.5
  explode_factor: float = 10.0

  def __post_init__(self):
    if not 0.0 < self.rate_factor <= 1.0:
      raise errors.UserError(
          f'rate_factor of a rollback is {self.rate_factor}; expected more '
          f'than 0 and at most 1.')
    if self.explode_factor and self.explode_factor <= 1.0:
      raise errors.UserError(
          f'explode_factor is {self.explode_factor}; expected more than 1, or '
          f'0 to look for NaN and infinity alone.')

  def check_exploding(
      self, step: int, before: Sequence[float], loss: float) -> None:
    """Raises Exploded if `loss` is far above those `before` it.

    Args:
      step: of `loss`.
      before: logged losses of the run so far, oldest first.
      loss: the next one.
    """
    if not self.explode_factor or len(before) < _FIRST_ROWS:
      return
    usual = float(np.median(before[-_RECENT_ROWS:]))
    # A small loss may rise a lot and mean little: it must be worse than none.
    limit = max(self.explode_factor * abs(usual), max(before[:_FIRST_ROWS]))
    if loss > limit:
      raise Exploded(
          f'the loss rose to {loss:.4g} at step {step}, more than '
          f'{self.explode_factor:g} times its recent {usual:.4g}', step)

  def give_up(self, trouble, rollbacks, last_good):
    """`trouble` as the last line of a run that rolled back before."""
    kept = ('no checkpoint was written yet' if last_good is None else
            f'the last good checkpoint is step {last_good}')
    tried = '' if not rollbacks else (
        f' after {rollbacks} rollback(s) with lower learning rates')
    return type(trouble)(
        f'{trouble.what}; training gave up{tried} and {kept}. Lower the '
        f'learning rate, lengthen the warm-up or look for bad data, then run '
        f'again.', trouble.step)


class StopSignal:
  """Catches SIGTERM and SIGINT while it is entered; `name` is the one caught.

  A second SIGINT interrupts at once. Signals reach the main thread only;
  elsewhere it does nothing.
  """

  def __init__(self, signals=(signal.SIGTERM, signal.SIGINT)):
    self._signals = signals
    self._previous = {}
    self.name = ''

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in self._signals:
        self._previous[number] = signal.signal(number, self._caught)
    return self

  def __exit__(self, *unused):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _caught(self, number, unused_frame):
    if self.name and number == signal.SIGINT:
      raise KeyboardInterrupt
    self.name = signal.Signals(number).name


class Deadline:
  """Wall-clock time allowed to a run; None allows any."""

  def __init__(self, minutes: float | None = None):
    self._end = None if minutes is None else time.monotonic() + 60 * minutes

  def passed(self) -> bool:
    return self._end is not None and time.monotonic() >= self._end

  def seconds_left(self) -> float:
    """Seconds, or infinity."""
    return np.inf if self._end is None else self._end - time.monotonic()


def check_losses(first_step: int, losses: Sequence[float]) -> None:
  """Raises NotFinite for the first loss that is NaN or infinite.

  Args:
    first_step: the step of `losses[0]`.
    losses: [n] losses of consecutive steps.
  """
  bad = np.flatnonzero(~np.isfinite(np.asarray(losses)))
  if bad.size:
    step = first_step + int(bad[0])
    raise NotFinite(
        f'the loss became {losses[int(bad[0])]} at step {step}', step)


@jax.jit
def _finite(state):
  flags = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)
           if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)


def check_state(step: int, state: Any) -> None:
  """Raises NotFinite if an array of `state` is not finite: never save it."""
  if not bool(_finite(state)):
    names = [jax.tree_util.keystr(path) for path, x in
             jax.tree_util.tree_leaves_with_path(state)
             if jnp.issubdtype(x.dtype, jnp.inexact)
             and not bool(jnp.all(jnp.isfinite(x)))]
    raise NotFinite(
        f'{names[0]} and {len(names) - 1} more arrays of the state hold NaN or '
        f'infinite values at step {step}', step)
