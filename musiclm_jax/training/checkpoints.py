"""Checkpoints of a run: written in the background, never picked half-written.

  <model_dir>/checkpoints/<step>/state   the arrays, by Orbax
  <model_dir>/checkpoints/<step>/data    what the data position is made of
  <model_dir>/damaged/<step>             a checkpoint that could not be read, or
                                         that training diverged from twice

Orbax writes under a temporary name and renames, so a directory named by a step
is complete. Data sources are functions of (seed, step), so the step is the data
position.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import itertools
import logging
import pathlib
import shutil
import sys
from typing import Any
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from musiclm_jax import errors
from musiclm_jax.nn import layer_stacks
from musiclm_jax.training import damage

_ORBAX = str(pathlib.Path(ocp.__file__).parent)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Orbax logs nothing meanwhile; what others log is let through.

  It logs a line for every file, which is no news to anybody, and errors that it
  raises as well. It does so by absl's logger, which it shares with others, so
  that what it logs is known by the file that it comes from.
  """
  logger = logging.getLogger('absl')
  of_others = lambda record: not record.pathname.startswith(_ORBAX)
  logger.addFilter(of_others)
  try:
    yield
  finally:
    logger.removeFilter(of_others)


class Checkpoints:
  """The checkpoints under `model_dir`; leaving it waits for the last write.

  Use as a context manager.
  """

  def __init__(self, model_dir: str | pathlib.Path, keep: int | None = 3,
               read_only: bool = False):
    """Nothing is read before it is entered.

    Args:
      model_dir: of the run.
      keep: newest checkpoints to keep; None for all.
      read_only: nothing is written, moved or swept.
    """
    self._directory = pathlib.Path(model_dir).absolute()
    self._options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep, create=not read_only,
        cleanup_tmp_directories=not read_only, read_only=read_only,
        enable_async_checkpointing=not read_only)

  def __enter__(self) -> Self:
    with contextlib.ExitStack() as stack:
      stack.enter_context(quiet())
      self._manager = ocp.CheckpointManager(
          self._directory / 'checkpoints', options=self._options,
          item_handlers=dict(state=ocp.StandardCheckpointHandler(),
                             data=ocp.JsonCheckpointHandler()))
      stack.callback(self._close)
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *error: Any) -> bool | None:
    return self._stack.__exit__(*error)

  def _close(self):
    """Waits for the last write, even where a second Ctrl-C or a signal comes.

    Orbax writes from threads of its own. Were they left to themselves, the end of
    the process would take their executors away: a traceback ("cannot schedule new
    futures") and half a checkpoint. One that wants it all the same asks again.
    """
    try:
      self._manager.close()
    except (KeyboardInterrupt, SystemExit):
      print('the last checkpoint is still being written; once more to leave it',
            file=sys.stderr, flush=True)
      self._manager.close()
      raise

  def latest(self) -> int | None:
    """The newest step, or None."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """All steps, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state: Any, data: Mapping[str, Any]) -> None:
    """Starts writing `state` and the JSON values `data` as `step`."""
    if step in self._manager.all_steps():
      return
    if jax.default_backend() == 'cpu':
      # On CPU the writer reads the very buffers that the next step donates.
      state = jax.tree.map(jnp.copy, state)
    self._manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data)))

  def wait(self) -> None:
    """Returns once everything is written."""
    self._manager.wait_until_finished()

  def restore(
      self, abstract_state: Any, say: Callable[[str], Any] = print
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """The newest readable checkpoint.

    Where one is damaged the one before it is tried. Damage is a file that is
    missing, cut or changed, and nothing else (damage.py). Stacked and unrolled
    layers (nn/layer_stacks.py) are read into each other.

    Args:
      abstract_state: ShapeDtypeStructs with shardings.
      say: called with a line about each damaged checkpoint.
    Returns:
      (step, state, data), or None where there is no checkpoint.
    Raises:
      UserError: all are damaged, or one cannot be read though it is not.
    """
    tried = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      stored, convert = self._as_stored(step, abstract_state)
      try:
        restored = self._manager.restore(step, args=ocp.args.Composite(
            state=ocp.args.StandardRestore(stored),
            data=ocp.args.JsonRestore()))
        return step, convert(restored['state']), restored['data']
      except Exception as error:  # pylint: disable=broad-exception-caught
        tried[step] = self._damage(step, error)
        say(f'checkpoint {step} is damaged ({tried[step]}); trying the one '
            f'before it.')
    if tried:
      reasons = '; '.join(f'{step}: {why}' for step, why in tried.items())
      raise errors.UserError(
          f'no checkpoint of {self._directory} can be read ({reasons}); they '
          f'were left as they are. Put a copy in their place, or train in '
          f'another MODEL_DIR.')
    return None

  def set_aside(self, newer_than: int) -> None:
    """Moves the checkpoints after `newer_than` to `damaged/`."""
    for step in self._manager.all_steps():
      if step > newer_than:
        target = first = self._directory / 'damaged' / str(step)
        target.parent.mkdir(exist_ok=True)
        for number in itertools.count(2):
          if not target.exists():
            break
          target = first.with_name(f'{step}-{number}')  # both are kept
        shutil.move(self._directory / 'checkpoints' / str(step), target)
    self.reload()

  def reload(self) -> None:
    """Looks again which checkpoints there are."""
    self._manager.reload()

  def _damage(self, step: int, error: Exception) -> str:
    """What is broken in a checkpoint that could not be restored.

    Raises:
      UserError: it could not be read just now.
      Exception: `error` itself, where it says nothing about files.
    """
    broken, trouble = damage.judge(
        self._directory / 'checkpoints' / str(step), error)
    if trouble:
      raise errors.UserError(
          f'checkpoint {step} of {self._directory} cannot be read now '
          f'({trouble}); it was left as it is. Run the same command again when '
          f'that is mended.') from error
    if not broken:
      raise error
    return broken

  def _as_stored(self, step, abstract_state):
    """(the state as the checkpoint has it, the function that leads back).

    Raises:
      UserError: its arrays are not those of the model, in either layout.
    """
    same = abstract_state, lambda state: state
    try:
      stored = self._manager.item_metadata(step)['state']
      found = shapes(getattr(stored, 'tree', stored))
    except Exception:  # pylint: disable=broad-exception-caught
      return same  # Unreadable: the restore says how.
    wanted = shapes(abstract_state)
    if not found or found == wanted:
      return same
    other, back = layer_stacks.other_layout(abstract_state)
    if found == shapes(other):
      return other, jax.jit(back, out_shardings=jax.tree.map(
          lambda x: x.sharding, abstract_state))
    self._refuse(step, found, wanted)

  def _refuse(self, step, found, wanted):
    """Says which arrays a checkpoint has instead of the model's."""
    raise errors.UserError(
        f'checkpoint {step} of {self._directory} has other arrays than this '
        f'model ({difference(found, wanted)}); train in another MODEL_DIR, or '
        f'restore the settings it was made with.')


def difference(found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> str:
  """Which shapes differ, as text; both are as of `shapes`."""
  lines = [
      f'{name}: {found.get(name, "absent")}, expected '
      f'{wanted.get(name, "absent")}'
      for name in sorted(set(found) | set(wanted), key=_parameters_first)
      if found.get(name) != wanted.get(name)]
  return '; '.join(lines[:3]) + ('; ...' if len(lines) > 3 else '')


def none_yet(model_dir: str | pathlib.Path) -> errors.UserError:
  """The error for a run without a checkpoint."""
  return errors.UserError(
      f'{model_dir} holds no checkpoint; train it first.')


def _parameters_first(name):
  return 'params' not in name.split('/')[0], name


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """{path: shape} with paths that do not depend on the container types."""
  found = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = '/'.join(
        str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k))))
        for k in path)
    found[name] = tuple(np.shape(leaf) if not hasattr(leaf, 'shape')
                         else leaf.shape)
  return found
