"""Health gates: conditions on logged metrics, each with a cause and an action.

A trainable states its gates (`gates()`, see training/trainable.py); the loop
looks at them after every row of metrics.csv and knows no metric by name. The
rows of a resumed run count as if it had never stopped.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import fnmatch

from musiclm_jax import errors

ACTIONS = ('stop', 'warn')
SPLITS = ('train', 'eval')


class Tripped(errors.UserError):
  """A gate stopped the run; the message says which, why and what to do."""


@dataclasses.dataclass(frozen=True)
class Gate:
  """One condition on rows of metrics.

  Attributes:
    name: for the record of the run.
    metric: a name, or a pattern such as 'codebook_usage/*'; of several metrics
      any one trips the gate.
    cause: one sentence: what is likely wrong and what to do about it.
    split: the rows that count, 'train' or 'eval'.
    below: trips under this value; None: never.
    above: trips over this value; None: never.
    patience: consecutive rows that must all meet the condition.
    action: 'stop' ends the run, after a checkpoint; 'warn' says it once.
  """

  name: str
  metric: str
  cause: str
  split: str = 'train'
  below: float | None = None
  above: float | None = None
  patience: int = 1
  action: str = 'stop'

  def __post_init__(self):
    if self.action not in ACTIONS:
      raise errors.choice('gate action', self.action, ACTIONS)
    if self.split not in SPLITS:
      raise errors.choice('gate split', self.split, SPLITS)
    if self.patience < 1:
      raise errors.UserError(
          f'gate {self.name} has patience {self.patience}; expected at least '
          f'1.')

  def tripped(self, rows: Sequence[Mapping[str, float]]) -> str:
    """What is wrong in the newest of `rows`, or ''.

    Args:
      rows: [{metric: float}] of the gate's split, oldest first.
    """
    recent = rows[-self.patience:]
    if len(recent) < self.patience:
      return ''
    for metric in sorted(fnmatch.filter(recent[-1], self.metric)):
      if all(self._meets(row.get(metric)) for row in recent):
        return self._describe(metric, recent[-1][metric])
    return ''

  def _meets(self, value):
    if value is None:
      return False
    return ((self.below is not None and value < self.below) or
            (self.above is not None and value > self.above))

  def _describe(self, metric, value):
    low = self.below is not None and value < self.below
    side, limit = ('under', self.below) if low else ('over', self.above)
    rows = 'evaluations' if self.split == 'eval' else 'logged rows'
    times = f' for {self.patience} {rows}' if self.patience > 1 else ''
    return f'{metric} is {value:.4g}, {side} {limit:g}{times}. {self.cause}'
