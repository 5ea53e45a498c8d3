"""Programs that are compiled: how many, and whether somebody waits for one.

JAX tells when a program is lowered, which compiling follows, and when it is
compiled or was found on the disk.
"""

from typing import Any

_LOWERED = '/jax/core/compile/jaxpr_to_mlir_module_duration'
_COMPILED = '/jax/core/compile/backend_compile_duration'


class Programs:
  """The programs of this process.

  Attributes:
    count: how many were compiled, or read from the disk.
    compiling: whether one is now.
    seconds: that all of it took.
  """

  def __init__(self) -> None:
    self.count, self.compiling, self.seconds = 0, False, 0.0

  def listen(self) -> None:
    """Counts from now on, as long as the process lives."""
    import jax  # pylint: disable=g-import-not-at-top
    jax.monitoring.register_event_duration_secs_listener(self.hear)

  def hear(
      self, event: str, duration_secs: float, **unused_about: Any) -> None:
    """Takes an event of JAX."""
    if event == _LOWERED:
      self.compiling = True
    elif event == _COMPILED:
      self.count, self.compiling = self.count + 1, False
    else:
      return
    self.seconds += duration_secs
