"""How well scores tell what has a tag from what has not."""

import numpy as np
import numpy.typing as npt


def roc_auc(scores: npt.ArrayLike, has: npt.ArrayLike) -> float:
  """Area under the ROC curve, 0.5 at chance.

  The share of pairs of one that has the tag and one that has not in which the
  first scores higher; a tie counts half.

  Args:
    scores: [n] float.
    has: [n] bool, of both kinds.

  Raises:
    ValueError: all have the tag, or none.
  """
  has = np.asarray(has, bool)
  positives, negatives = has.sum(), (~has).sum()
  if not positives or not negatives:
    raise ValueError(
        f'{positives} of {len(has)} have the tag; expected some, and not all.')
  from sklearn import metrics  # pylint: disable=g-import-not-at-top
  return float(metrics.roc_auc_score(has, scores))
