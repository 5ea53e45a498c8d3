"""What a seqio evaluator computes on a stage's task.

Argument names are seqio's: they tell it which output of the model to ask for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musiclm_jax.tokens import layout as layout_lib


def nats_per_token(targets: Sequence[npt.ArrayLike],
                   scores: npt.ArrayLike) -> dict[str, float]:
  """{'nats_per_token'}: what a model's scores say of the true targets.

  Args:
    targets: [n] sequences of target ids, 0 where padded.
    scores: [n] log-likelihoods of whole targets, in nats.
  """
  count = sum(np.count_nonzero(_ids(target)) for target in targets)
  return {'nats_per_token': float(-np.sum(scores) / max(count, 1))}


def agreement(targets: Sequence[npt.ArrayLike],
              predictions: Sequence[npt.ArrayLike]) -> dict[str, float]:
  """{'agreement'}: share of the target tokens that were predicted as they are.

  Low by nature: a continuation has many good forms. It shows a model that has
  learnt its data by heart, and one that predicts outside a level's ids.

  Args:
    targets: [n] sequences of target ids, 0 where padded.
    predictions: [n] sequences of as many ids.
  """
  same = count = 0
  for target, prediction in zip(targets, predictions):
    target = _ids(target)
    real = target != layout_lib.PAD_ID
    same += np.count_nonzero(real & (_ids(prediction)[:len(target)] == target))
    count += np.count_nonzero(real)
  return {'agreement': same / max(count, 1)}


def _ids(tokens):
  return np.asarray(tokens, np.int64)
