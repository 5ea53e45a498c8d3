"""Many hosts as one program of jax: each calls `join` before anything else.

Who takes part is said in gin (runs/local.gin) or, as the scripts in launch/ do,
by environment variables. What gin says goes first, each value for itself: so a
leaf may name coordinator and number, and each host its own place.

  COORDINATOR    MUSICLM_COORDINATOR    'HOST:PORT', the first host and a free
                                        port of it; or 'auto' where jax finds
                                        out by itself (TPU VMs, Slurm)
  NUM_PROCESSES  MUSICLM_NUM_PROCESSES  how many processes there are
  PROCESS_ID     MUSICLM_PROCESS_ID     which of them this is, from 0

Without a coordinator a process is on its own. Of the environment alone:

  MUSICLM_STOPPED_EXIT   the exit code of a run that a signal stopped early, so
                         that whoever started it knows to start it again; 0
                         where it is not set
"""

from collections.abc import Mapping
import os
import re
from typing import Any

from musiclm_jax import errors

COORDINATOR = 'MUSICLM_COORDINATOR'
NUM_PROCESSES = 'MUSICLM_NUM_PROCESSES'
PROCESS_ID = 'MUSICLM_PROCESS_ID'
STOPPED_EXIT = 'MUSICLM_STOPPED_EXIT'


def settings(environment: Mapping[str, str], coordinator: str = '',
             num_processes: int | None = None,
             process_id: int | None = None) -> dict[str, Any] | None:
  """Keyword arguments of `jax.distributed.initialize`; None where one is alone.

  Args:
    environment: such as os.environ.
    coordinator: '', or what goes before the environment's; so the others.
    num_processes: a number, or None.
    process_id: a number, or None.

  Raises:
    UserError: the values do not fit together.

  >>> settings({'MUSICLM_COORDINATOR': 'node1:1234',
  ...           'MUSICLM_NUM_PROCESSES': '2', 'MUSICLM_PROCESS_ID': '1'})
  ... # doctest: +NORMALIZE_WHITESPACE
  {'coordinator_address': 'node1:1234', 'num_processes': 2, 'process_id': 1}
  """
  given = {COORDINATOR: coordinator or None, NUM_PROCESSES: num_processes,
           PROCESS_ID: process_id}
  environment = {**environment, **{
      name: str(value) for name, value in given.items() if value is not None}}
  address = environment.get(COORDINATOR, '')
  if not address:
    return None
  if address == 'auto':
    return {}
  if not re.fullmatch(r'.+:\d+', address):
    raise errors.UserError(
        f"{_named(COORDINATOR)} is {address!r}; expected 'HOST:PORT', or "
        f"'auto'.")
  count = _whole(environment, NUM_PROCESSES)
  number = _whole(environment, PROCESS_ID)
  if number >= count:
    raise errors.UserError(
        f'{_named(PROCESS_ID)} is {number} of {count} processes; expected 0 '
        f'to {count - 1}.')
  return dict(coordinator_address=address, num_processes=count,
              process_id=number)


def join(coordinator: str = '', num_processes: int | None = None,
         process_id: int | None = None,
         environment: Mapping[str, str] = os.environ) -> None:
  """Meets the other hosts, if there are any; returns once all are there.

  To be called before jax is asked for its devices. A second call does nothing.
  Arguments are those of `settings`.
  """
  given = settings(environment, coordinator, num_processes, process_id)
  if given is None:
    return
  import jax  # pylint: disable=g-import-not-at-top
  if jax.distributed.is_initialized():
    return
  # Between processes without an accelerator; read by the CPU backend alone.
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(**given)


def exit_code(reason: str, environment: Mapping[str, str] = os.environ) -> int:
  """The code that a run ends with.

  Args:
    reason: of its `loop.Result`: 'finished', 'time' or the name of a signal.
    environment: such as os.environ.
  """
  return int(environment.get(STOPPED_EXIT, 0)) if reason[:3] == 'SIG' else 0


def _whole(environment, name):
  value = environment.get(name, '')
  if not value.isdigit():
    raise errors.UserError(
        f'{_named(name)} is {value!r}; expected a whole number, as the '
        f'coordinator is set.')
  return int(value)


def _named(name):
  """Both names of a value.

  >>> _named(PROCESS_ID)
  'PROCESS_ID (MUSICLM_PROCESS_ID)'
  """
  return f'{name.removeprefix("MUSICLM_")} ({name})'
