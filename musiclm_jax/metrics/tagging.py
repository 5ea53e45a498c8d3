"""How well scores tell what has a tag from what has not."""

import numpy as np
from scipy import stats


def roc_auc(scores, has):
  """Area under the ROC curve, 0.5 at chance.

  The share of pairs of one that has the tag and one that has not in which the
  first scores higher; a tie counts half.

  Args:
    scores: [n] float.
    has: [n] bool, of both kinds.
  """
  has = np.asarray(has, bool)
  positives, negatives = has.sum(), (~has).sum()
  if not positives or not negatives:
    raise ValueError(
        f'{positives} of {len(has)} have the tag; expected some, and not all.')
  place = stats.rankdata(scores)
  above = place[has].sum() - positives * (positives + 1) / 2
  return float(above / (positives * negatives))
