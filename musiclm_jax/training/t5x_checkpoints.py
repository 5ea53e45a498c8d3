"""T5X's checkpoints, read and written without T5X.

  <directory>/checkpoint_<step>/state   by Orbax: {'target': parameters,
                                        'state': {'step', 'param_states'}}

`param_states` is the optax state as nested dicts, by field name or by place in
a tuple, without the parts that hold no array.
"""

import pathlib
import re
from typing import Any

from flax import serialization
import jax
import numpy as np
import orbax.checkpoint as ocp

from musiclm_jax import errors
from musiclm_jax.nn import layer_stacks
from musiclm_jax.training import checkpoints

_PREFIX = 'checkpoint'
_STATE = 'state'


@checkpoints.quiet()
def read(directory: str | pathlib.Path,
         abstract_params: Any) -> tuple[int, Any]:
  """The parameters of a checkpoint.

  Args:
    directory: a run of T5X, whose newest checkpoint is taken, or one of its
      checkpoints.
    abstract_params: ShapeDtypeStructs of the model, with layers stacked or
      unrolled (nn/layer_stacks.py); the answer is as the checkpoint has them.

  Returns:
    (step, nested dicts of NumPy arrays).

  Raises:
    UserError: there is no checkpoint, or it is another model's.
  """
  path, step = _newest(pathlib.Path(directory).absolute())
  with ocp.PyTreeCheckpointer() as checkpointer:
    stored = checkpointer.metadata(path / _STATE).item_metadata.tree
    if 'target' not in stored:
      raise errors.UserError(
          f'{path} holds {", ".join(sorted(stored))}; expected a checkpoint of '
          f'T5X, which holds state and target.')
    _check(path, stored['target'], abstract_params)
    item = {'target': stored['target']}
    restored = checkpointer.restore(path / _STATE, ocp.args.PyTreeRestore(
        item=item, partial_restore=True, restore_args=jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)))
  return step, restored['target']


@checkpoints.quiet()
def write(directory: str | pathlib.Path, step: int,
          state: Any) -> pathlib.Path:
  """Writes `<directory>/checkpoint_<step>`.

  Args:
    directory: made where it is missing.
    step: updates done.
    state: the `optim.State`.

  Returns:
    The path of the checkpoint.

  Raises:
    UserError: it is there already, or nothing can be written.
  """
  directory = pathlib.Path(directory).absolute()
  path = directory / f'{_PREFIX}_{step}'
  if path.exists():
    raise errors.UserError(
        f'{path} is there already; remove it, or name another directory.')
  tree = {
      'target': serialization.to_state_dict(state.params),
      'state': {'step': np.asarray(state.step),
                'param_states': _filled(
                    serialization.to_state_dict(state.opt_state))}}
  try:
    directory.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(step_prefix=_PREFIX)
    with ocp.CheckpointManager(
        directory, options=options,
        item_handlers={_STATE: ocp.PyTreeCheckpointHandler()}) as manager:
      manager.save(step, args=ocp.args.Composite(
          **{_STATE: ocp.args.PyTreeSave(tree)}))
  except OSError as error:
    raise errors.UserError(
        f'cannot write {path} ({error.strerror}); choose another '
        f'directory.') from error
  return path


def _newest(directory):
  """(path, step) of a checkpoint, or of the newest one in a run."""
  found = {int(match[1]): path for path in (directory, *directory.glob('*'))
           if (match := re.fullmatch(rf'{_PREFIX}_(\d+)', path.name))
           and (path / _STATE).is_dir()}
  if not found:
    raise errors.UserError(
        f'{directory} holds no checkpoint of T5X; expected a directory with '
        f'{_PREFIX}_<step>/{_STATE}, as `python -m t5x.train` writes it.')
  step = max(found)
  return found[step], step


def _check(path, stored, abstract_params):
  """UserError unless the arrays are the model's, in either layout of layers."""
  found, wanted = (checkpoints.shapes(x) for x in (stored, abstract_params))
  other = checkpoints.shapes(layer_stacks.other_layout(abstract_params)[0])
  if found not in (wanted, other):
    raise errors.UserError(
        f'{path} has other arrays than this model '
        f'({checkpoints.difference(found, wanted)}); name the leaf and the '
        f'settings that it was trained with.')


def _filled(tree):
  """`tree` without its empty branches."""
  if not isinstance(tree, dict):
    return tree
  filled = {name: _filled(branch) for name, branch in tree.items()}
  return {name: branch for name, branch in filled.items()
          if not (isinstance(branch, dict) and not branch)}
