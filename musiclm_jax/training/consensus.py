"""What the hosts of one run settle together, and what one does for all.

Every host runs the same loop over its part of the devices. Files other than
checkpoints are the first host's; decisions that depend on the host itself, such
as a signal, are shared, so that all stop after the same step.
"""

from collections.abc import Callable
import os
import socket
import sys
from typing import Any
from typing import TextIO

import jax
from jax.experimental import multihost_utils
import numpy as np

_SHARED_EVERY = 5  # steps: sharing waits for the devices
_REASONS = ('', 'time', 'SIGINT', 'SIGTERM')  # the last one wins


def is_first() -> bool:
  """Whether this host writes files and progress."""
  return jax.process_index() == 0


def is_alone() -> bool:
  return jax.process_count() == 1


def host_name() -> str:
  return f'host {jax.process_index()} ({socket.gethostname()})'


def stream() -> TextIO:
  """Where progress goes: stderr of the first host."""
  return sys.stderr if is_first() else open(os.devnull, 'w', encoding='utf-8')


def reason(own: str, step: int) -> str:
  """Why to stop after `step`, the same on every host.

  Args:
    own: this host's: '', 'time' or the name of a signal.
    step: updates done; hosts compare notes at some steps only.
  """
  if is_alone():
    return own
  if step % _SHARED_EVERY:
    return ''
  found = multihost_utils.process_allgather(np.int32(_REASONS.index(own)))
  return _REASONS[int(np.max(found))]


def first_does(name: str, function: Callable[[], Any]) -> None:
  """Calls `function` on the first host; the others wait until it is done."""
  if is_first():
    function()
  if not is_alone():
    multihost_utils.sync_global_devices(name)
