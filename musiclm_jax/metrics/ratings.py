"""Statistics of people's ratings: a signed-rank test, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

import numpy as np
import numpy.typing as npt

EXACT = 200  # ours: ratings up to which the distribution is counted out


@dataclasses.dataclass(frozen=True)
class SignedRank:
  """Wilcoxon's signed-rank test of scores about 0.

  Attributes:
    statistic: the smaller of the two rank sums.
    above, below: rank sums of the scores above and below 0.
    count: scores that are not 0; the test is of these.
    p: two-sided; 1 where no score differs from 0.
  """

  statistic: float
  above: float
  below: float
  count: int
  p: float


def signed_rank(scores: npt.ArrayLike, exact: int = EXACT) -> SignedRank:
  """Wilcoxon's test of whether scores lie about 0; zeros are left out.

  Ratings of five steps have many ties, for which tables of the statistic are
  wrong. Up to `exact` scores that are not 0, p is counted out over all signs
  with the ranks as they are, ties shared; beyond, it is the normal one with the
  ties' variance, without a correction for continuity.

    scores  -1, 2, 2, -1, 2, 0  ->  ranks 1.5, 4, 4, 1.5, 4, none
    above 12, below 3; of the 32 ways to put signs to the ranks 4 leave 3 or
    less below (neither 1.5, one, the other, both): p = 2 * 4 / 32 = 0.25

  Args:
    scores: [n] numbers; above 0 prefers one thing, below 0 the other.
    exact: scores up to which p is counted out.
  """
  scores = np.asarray(scores, np.float64)
  scores = scores[scores != 0]
  count = len(scores)
  if not count:
    return SignedRank(0.0, 0.0, 0.0, 0, 1.0)
  from scipy import stats  # pylint: disable=g-import-not-at-top
  ranks = stats.rankdata(np.abs(scores))
  above = float(ranks[scores > 0].sum())
  below = float(ranks[scores < 0].sum())
  smaller = min(above, below)
  if count <= exact:
    p = _counted(ranks, smaller)
  else:
    deviation = math.sqrt(np.square(ranks).sum() / 4)  # ties are in the ranks
    p = 2 * stats.norm.sf(abs(smaller - ranks.sum() / 2) / deviation)
  return SignedRank(smaller, above, below, count, min(1.0, float(p)))


def _counted(ranks, smaller):
  """P of a rank sum as far out as `smaller`, either side, all signs alike."""
  doubled = np.round(2 * ranks).astype(int)  # a shared rank may be a half
  chance = np.zeros(doubled.sum() + 1)
  chance[0] = 1.0
  for rank in doubled:
    moved = np.zeros_like(chance)
    moved[rank:] = chance[:-rank]
    chance = (chance + moved) / 2
  return 2 * chance[:round(2 * smaller) + 1].sum()


def bonferroni(p: float, tests: int) -> float:
  """p of one test among several, so that one false alarm is as rare as said."""
  return min(1.0, p * tests)


def krippendorff(units: Sequence[Sequence[float]]) -> float:
  """Krippendorff's alpha for ordered values.

  1: raters of one unit always agree; 0: as much as if ratings were dealt out by
  chance; below: less than that. Two values differ by the ratings that lie
  between them, squared, as ordered values have no distances of their own.

  Args:
    units: ratings of each unit; those with fewer than two say nothing.

  Returns:
    alpha; NaN where no unit has two ratings, or all ratings are one value.
  """
  units = [unit for unit in units if len(unit) > 1]
  if not units:
    return math.nan
  values, codes = np.unique(np.concatenate(
      [np.asarray(unit, np.float64) for unit in units]), return_inverse=True)
  coincidences = np.zeros((len(values), len(values)))
  start = 0
  for unit in units:
    counts = np.bincount(codes[start:start + len(unit)], minlength=len(values))
    start += len(unit)
    together = np.outer(counts, counts) - np.diag(counts)
    coincidences += together / (len(unit) - 1)
  totals = coincidences.sum(1)
  middle = np.cumsum(totals) - totals / 2
  distance = np.square(middle[:, None] - middle[None])
  expected = (np.outer(totals, totals) - np.diag(totals)) * distance
  if not expected.sum():
    return math.nan
  observed = (coincidences * distance).sum()
  return float(1 - (totals.sum() - 1) * observed / expected.sum())
