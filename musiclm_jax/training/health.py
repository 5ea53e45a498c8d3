"""When a run must stop: signals, time, and numbers that are none."""

import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors


class NotFinite(errors.UserError):
  """Training diverged; the message says where, why and what is still good."""


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

  def __init__(self, minutes=None):
    self._end = None if minutes is None else time.monotonic() + 60 * minutes

  def passed(self):
    return self._end is not None and time.monotonic() >= self._end

  def seconds_left(self):
    """Seconds, or infinity."""
    return np.inf if self._end is None else self._end - time.monotonic()


def check_losses(first_step, losses, last_good):
  """Raises NotFinite for the first loss that is NaN or infinite.

  Args:
    first_step: the step of `losses[0]`.
    losses: [n] losses of consecutive steps.
    last_good: step of the newest checkpoint, or None.
  """
  bad = np.flatnonzero(~np.isfinite(np.asarray(losses)))
  if bad.size:
    i = int(bad[0])
    raise NotFinite(_message(
        f'the loss became {losses[i]} at step {first_step + i}', last_good))


@jax.jit
def _finite(state):
  flags = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(state)
           if jnp.issubdtype(x.dtype, jnp.inexact)]
  return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)


def check_state(step, state, last_good):
  """Raises NotFinite if an array of `state` is not finite: never save it."""
  if not bool(_finite(state)):
    names = [jax.tree_util.keystr(path) for path, x in
             jax.tree_util.tree_leaves_with_path(state)
             if jnp.issubdtype(x.dtype, jnp.inexact)
             and not bool(jnp.all(jnp.isfinite(x)))]
    raise NotFinite(_message(
        f'{names[0]} and {len(names) - 1} more arrays of the state hold NaN or '
        f'infinite values at step {step}', last_good))


def _message(what, last_good):
  kept = ('no checkpoint was written yet' if last_good is None else
          f'the last good checkpoint is step {last_good}')
  return (f'{what}; training stopped and {kept}. Lower the learning rate or '
          f'lengthen the warm-up, then run again.')
