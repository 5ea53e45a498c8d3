"""What can a linear classifier read in a representation?

  training examples ──> logistic regressions, from strong to weak penalties
  validation ─────────> the penalty with the least log loss
  test ───────────────> accuracy with an interval, beside the best constant

Examples come in groups, such as the clips of one recording, which are alike.
Intervals therefore resample whole groups, not single examples.
"""

import dataclasses
from typing import Any
import warnings

import numpy as np
import numpy.typing as npt

# A probe minimises (mean log loss of an example) + penalty * (sum of squared
# weights) / 2. These are tried one after the other, the strongest first (ours).
PENALTIES = tuple(10.0**-p for p in range(8))
_PATIENCE = 2  # the search ends when so many in a row were no better
_ITERATIONS = 200  # of the solver, at most, for each penalty
_DRAWS = 2_000  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Examples:
  """Rows of one split.

  Attributes:
    inputs: [n, D] array or SciPy sparse matrix.
    labels: [n] names or numbers.
    groups: [n] names; rows of one name are no independent trials.
  """

  inputs: Any
  labels: np.ndarray
  groups: np.ndarray

  def __post_init__(self):
    if not self.inputs.shape[0] == len(self.labels) == len(self.groups):
      raise ValueError(
          f'{self.inputs.shape[0]} rows came with {len(self.labels)} labels '
          f'and {len(self.groups)} groups.')


@dataclasses.dataclass(frozen=True)
class Result:
  """One probe on test.

  Attributes:
    correct: [n] bool, whether each test example was named rightly.
    groups: [n] of the test examples.
    chance: share of test's most frequent label: the best constant answer.
    penalty: what validation chose.
  """

  correct: np.ndarray
  groups: np.ndarray
  chance: float
  penalty: float

  @property
  def accuracy(self) -> float:
    return float(np.mean(self.correct))

  def interval(self) -> tuple[float, float]:
    """(low, high), 95 %, of the accuracy."""
    return grouped_interval(self.correct, self.groups)


def probe(train: Examples, validation: Examples, test: Examples,
          standardise: bool = True) -> Result:
  """Fits on `train`, chooses on `validation`, judges on `test`.

  Args:
    train: `Examples` of two labels at least.
    validation: the same; labels that `train` lacks are left out.
    test: the same; a label that `train` lacks is a mistake.
    standardise: bring each input to mean 0 and deviation 1 over `train`. Leave
      it out for histograms, because it would give the rarest entries, whose
      deviation is smallest, the largest weight.

  Returns:
    A `Result`.
  """
  from sklearn import exceptions  # pylint: disable=g-import-not-at-top
  from sklearn import linear_model  # pylint: disable=g-import-not-at-top
  from sklearn import preprocessing  # pylint: disable=g-import-not-at-top
  import threadpoolctl  # pylint: disable=g-import-not-at-top
  if len(np.unique(train.labels)) < 2:
    raise ValueError('all training examples have one label; expected two.')
  scale = lambda x: x
  if standardise:
    scale = preprocessing.StandardScaler().fit(train.inputs).transform
  inputs = scale(train.inputs)
  known = np.isin(validation.labels, train.labels)
  held, names = scale(validation.inputs)[known], validation.labels[known]
  model = linear_model.LogisticRegression(
      max_iter=_ITERATIONS, warm_start=True)
  best, since = (np.inf, None, None), 0
  # One thread, because the matrices are small: dividing them among threads costs
  # more than it saves.
  with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
    # scikit-learn warns when the iterations run out before it has converged. No
    # harm is done: such weights are smaller than asked for, as under a somewhat
    # stronger penalty, and validation judges them like all others.
    warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
    for penalty in PENALTIES:
      model.set_params(C=1.0 / (penalty * len(train.labels)))
      model.fit(inputs, train.labels)
      loss = _log_loss(model, held, names)
      since += 1
      if loss < best[0]:
        best, since = (loss, penalty, (model.coef_, model.intercept_)), 0
      elif since == _PATIENCE:
        break
  _, penalty, (model.coef_, model.intercept_) = best
  correct = model.predict(scale(test.inputs)) == test.labels
  return Result(correct, test.groups, most_frequent(test.labels), penalty)


def most_frequent(labels: np.ndarray) -> float:
  """The share of the most frequent label."""
  return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def grouped_interval(
    values: npt.ArrayLike, groups: npt.ArrayLike, seed: int = 0,
    share: float = 0.95) -> tuple[float, float]:
  """(low, high) of the mean of `values` [n], by resampling whole groups.

  Args:
    values: [n] numbers, or bools; a difference of two probes' `correct` gives
      the interval of what one knows more than the other.
    groups: [n].
    seed: of the resampling.
    share: of the draws that the interval holds.
  """
  _, which = np.unique(groups, return_inverse=True)
  sums = np.bincount(which, np.asarray(values, np.float64))
  sizes = np.bincount(which)
  count = len(sums)
  weights = np.random.default_rng(seed).multinomial(
      count, np.full(count, 1 / count), _DRAWS)
  means = (weights @ sums) / (weights @ sizes)
  tail = (1 - share) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return float(low), float(high)


def _log_loss(model, inputs, labels):
  """Mean nats of an example.

  0.0 without examples: all penalties then look alike, and the first one stays.
  """
  if not len(labels):
    return 0.0
  columns = np.searchsorted(model.classes_, labels)
  found = model.predict_log_proba(inputs)[np.arange(len(labels)), columns]
  return float(-found.mean())
