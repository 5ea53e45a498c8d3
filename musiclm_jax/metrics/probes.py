"""What can a linear classifier read in a representation?

  training examples ──> logistic regressions, from strong to weak penalties
  validation ─────────> the penalty with the least log loss
  test ───────────────> accuracy with an interval, beside the best constant

Examples come in groups (clips of one recording): an interval draws groups.
"""

import dataclasses
import warnings

import numpy as np

# Of the squared weights, beside the mean log loss of an example.
PENALTIES = tuple(10.0**-p for p in range(8))  # ours
_PATIENCE = 2  # penalties without a gain that end the search
_ITERATIONS = 200
_DRAWS = 2_000


@dataclasses.dataclass(frozen=True)
class Examples:
  """Rows of one split.

  Attributes:
    inputs: [n, D] array or SciPy sparse matrix.
    labels: [n] names or numbers.
    groups: [n] names; rows of one name are no independent trials.
  """

  inputs: object
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
  def accuracy(self):
    return float(np.mean(self.correct))

  def interval(self):
    """(low, high), 95 %, of the accuracy."""
    return grouped_interval(self.correct, self.groups)


def probe(train, validation, test, standardise=True):
  """Fits on `train`, chooses on `validation`, judges on `test`.

  Args:
    train: `Examples` of two labels at least.
    validation: the same; labels that `train` lacks are left out.
    test: the same; a label that `train` lacks is a mistake.
    standardise: bring each input to mean 0 and deviation 1 over `train`; not
      for histograms, where it would raise the rarest entries above all.

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
  # Products this small gain nothing from threads that wait for each other.
  with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
    # A fit that is cut off is a little more penalised than it was to be.
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


def most_frequent(labels):
  """The share of the most frequent label."""
  return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def grouped_interval(values, groups, seed=0, share=0.95):
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
  return tuple(float(x) for x in np.quantile(means, [tail, 1 - tail]))


def _log_loss(model, inputs, labels):
  """Mean nats; 0 examples cost the same whatever the model."""
  if not len(labels):
    return 0.0
  columns = np.searchsorted(model.classes_, labels)
  found = model.predict_log_proba(inputs)[np.arange(len(labels)), columns]
  return float(-found.mean())
