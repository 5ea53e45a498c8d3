"""What a run was started with and what befell it: run.json.

`events` are its troubles, in order: {'kind': 'rollback', 'step': 13, 'what':
'the loss became nan ...', 'back_to': 10, 'rate_factor': 0.5}, or of kind
'stop' or 'warning' with the 'gate' that did it.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import re
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.training import consensus

NAME = 'run.json'


class History:
  """The record of a run that goes on: run.json, and what follows from it.

  Attributes:
    events: so far, oldest first.
  """

  def __init__(self, model_dir: str | pathlib.Path, record: dict[str, Any]):
    """Reads the events of earlier starts; `record` is one of `make`."""
    self._model_dir = model_dir
    self._record = record
    self.events = events(model_dir)

  @property
  def rollbacks(self) -> int:
    """How often the run went back to a checkpoint."""
    return sum(e['kind'] == 'rollback' for e in self.events)

  @property
  def rate_factor(self) -> float:
    """What the learning rates of the settings are multiplied by now."""
    factors = [e['rate_factor'] for e in self.events if 'rate_factor' in e]
    return factors[-1] if factors else 1.0

  def went_back_to(self, step: int) -> bool:
    """Whether a rollback led to the checkpoint of `step` before."""
    return any(e.get('back_to') == step for e in self.events)

  def rolled_back(self, step: int) -> str:
    """What was said of the rollback that leads to `step` now, or ''."""
    last = self.events[-1] if self.rollbacks else {}
    return last['what'] if last.get('back_to') == step else ''

  def happened(self, kind: str, step: int, what: str, **more: Any) -> None:
    """Adds an event, and writes it."""
    self.events.append(dict(kind=kind, step=step, what=what, **more))
    self.write()

  def write(self) -> None:
    """Writes run.json; of several hosts the first does."""
    if consensus.is_first():
      write(self._model_dir, self._record, self.events)


def make(**parts: Any) -> dict[str, Any]:
  """The record of a run made of these objects."""
  return {name: describe(value) for name, value in parts.items()}


def describe(value: Any) -> Any:
  """A dataclass, container or function as plain JSON values."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    fields = {f.name: describe(getattr(value, f.name))
              for f in dataclasses.fields(value)}
    return {'type': _name(type(value)), **fields}
  if isinstance(value, dict):
    return {str(k): describe(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [describe(v) for v in value]
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, type) or callable(value):
    return _name(value)
  if type(value).__repr__ is object.__repr__:
    return {'type': _name(type(value))}
  return re.sub(r' at 0x[0-9a-f]+', '', repr(value))


def check(model_dir: str | pathlib.Path, record: Mapping[str, Any],
          say: Callable[[str], Any]) -> None:
  """Compares `record` (of `make`) with that of the run in `model_dir`, if any.

  Raises:
    UserError: the directory belongs to another trainable.
  """
  path = pathlib.Path(model_dir) / NAME
  if not path.is_file():
    return
  stored = _read(path)
  if not stored:
    return
  stored.pop('events', None)
  old, new = stored['trainable'], record['trainable']
  if _class(old['type']) != _class(new['type']):
    raise errors.UserError(
        f'{model_dir} holds a run of {old["type"]}, not of {new["type"]}; '
        f'choose another MODEL_DIR.')
  changed = differences(stored, record)
  if changed:
    say('changed since this run began: ' + '; '.join(changed))


def write(model_dir: str | pathlib.Path, record: Mapping[str, Any],
          happened: Sequence[Mapping[str, Any]] = ()) -> None:
  """Writes `record` (of `make`) and the events so far."""
  if happened:
    record = dict(record, events=list(happened))
  files.write_json(pathlib.Path(model_dir) / NAME, record)


def events(model_dir: str | pathlib.Path) -> list[dict[str, Any]]:
  """The events of the run in `model_dir`, oldest first."""
  path = pathlib.Path(model_dir) / NAME
  if not path.is_file():
    return []
  return _read(path).get('events', [])


def _read(path):
  """The record, {} where somebody emptied it to go on without."""
  remedy = 'write {} into it to go on without what it said'
  stored = files.read_json(path, remedy)
  if stored:
    files.require(path, stored, remedy, trainable=dict)
    files.require(path, stored['trainable'], remedy, type=str)
  return stored


def differences(old: Mapping[str, Any], new: Mapping[str, Any],
                prefix: str = '') -> list[str]:
  """['trainable.width: 8 -> 16'] for two results of `describe`."""
  lines = []
  for key in sorted(set(old) | set(new)):
    a, b = old.get(key, 'absent'), new.get(key, 'absent')
    if isinstance(a, dict) and isinstance(b, dict):
      lines += differences(a, b, f'{prefix}{key}.')
    elif a != b and not (
        key == 'type' and _class(str(a)) == _class(str(b))):
      lines.append(f'{prefix}{key}: {a} -> {b}')
  return lines


def _class(name):
  """Of 'package.module.Class' the class: modules move, and runs go on."""
  return name.rsplit('.', 1)[-1]


def _name(thing):
  module = getattr(thing, '__module__', '')
  name = getattr(thing, '__qualname__', type(thing).__name__)
  return f'{module}.{name}'
