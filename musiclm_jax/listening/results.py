"""What a test's answers come to: wins, pairs, significance, agreement.

  store.read ─> ratings, unblinded ─> Pair, for every two systems ─> Results
                                  └─> Wins, for every system

A win is a strong or a weak preference, as in MusicLM's paper. Scores are counted
for the first system of a pair: +2 prefers it strongly, -2 the second.
"""

from __future__ import annotations

from collections import Counter
from collections import defaultdict
from collections.abc import Sequence
import dataclasses
import math

import numpy as np

from musiclm_jax import errors
from musiclm_jax.listening import folder
from musiclm_jax.listening import store
from musiclm_jax.metrics import intervals
from musiclm_jax.metrics import ratings as ratings_lib

SIGNIFICANT = 0.01  # paper: after Bonferroni's correction
_SCORES = (2, 1, 0, -1, -2)  # the order of `Pair.counts`


@dataclasses.dataclass(frozen=True)
class Rating:
  """One answer, unblinded.

  Attributes:
    rater: number.
    clip, track: names.
    pair: the two systems' numbers, the lower first.
    score: -2..2; above 0 prefers the first of the pair.
    first_is_a: whether the first was heard as A.
    said: the store's Answer.
  """

  rater: int
  clip: str
  track: str
  pair: tuple[int, int]
  score: int
  first_is_a: bool
  said: store.Answer


@dataclasses.dataclass(frozen=True)
class Share:
  """A share of ratings, with 95 % intervals over tracks and over raters."""

  value: float
  tracks: tuple[float, float]
  raters: tuple[float, float]

  def text(self) -> str:
    return (f'{100 * self.value:.0f} % '
            f'[{100 * self.tracks[0]:.0f}, {100 * self.tracks[1]:.0f}]')

  def figures(self) -> dict[str, float]:
    return dict(value=self.value, low=self.tracks[0], high=self.tracks[1],
                low_over_raters=self.raters[0], high_over_raters=self.raters[1])


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two systems.

  Attributes:
    first, second: names.
    counts: ratings that prefer the first strongly, weakly, neither, the second
      weakly, strongly.
    first_wins, second_wins: shares of all ratings.
    test: signed-rank test of the ratings' scores, as in the paper.
    p: of it, after Bonferroni's correction for all pairs.
    clips_p: the same of each clip's mean score: ratings of one clip are alike,
      so this is the stricter one.
  """

  first: str
  second: str
  counts: tuple[int, ...]
  first_wins: Share
  second_wins: Share
  test: ratings_lib.SignedRank
  p: float
  clips_p: float

  @property
  def wins(self) -> tuple[int, int]:
    """Of the first and of the second."""
    return sum(self.counts[:2]), sum(self.counts[3:])

  @property
  def ties(self) -> int:
    return self.counts[2]

  @property
  def significant(self) -> bool:
    return self.p < SIGNIFICANT


@dataclasses.dataclass(frozen=True)
class Wins:
  """One system against all others.

  Attributes:
    system: its name.
    wins, losses, ties: ratings.
    share: of ratings won.
  """

  system: str
  wins: int
  losses: int
  ties: int
  share: Share

  @property
  def count(self) -> int:
    return self.wins + self.losses + self.ties


@dataclasses.dataclass(frozen=True)
class Results:
  """All that a report says.

  Attributes:
    test: the folder.Test.
    ratings: in the order in which they came.
    pairs: those with ratings.
    systems: most wins first.
    alpha: Krippendorff's, over clips and pairs that several people rated.
    alpha_interval: over tracks.
    shared: how many of those there are.
    a_share: of the ratings that are no ties, those that prefer A.
    a_p: two-sided sign test of it; small: sides matter, which they must not.
    seed: of the intervals.
  """

  test: folder.Test
  ratings: tuple[Rating, ...]
  pairs: tuple[Pair, ...]
  systems: tuple[Wins, ...]
  alpha: float
  alpha_interval: tuple[float, float]
  shared: int
  a_share: float
  a_p: float
  seed: int

  @property
  def raters(self) -> int:
    return len({rating.rater for rating in self.ratings})

  @property
  def ties(self) -> int:
    return sum(pair.ties for pair in self.pairs)

  @property
  def comments(self) -> list[Rating]:
    return [rating for rating in self.ratings if rating.said.comment]


def of(test: folder.Test, seed: int = 0) -> Results:
  """The results of a test so far.

  Args:
    test: the test.
    seed: of the bootstrap.

  Raises:
    UserError: nobody has answered yet.
  """
  said = []
  if test.answers.is_file():
    said = store.read(test.answers, test.key_sha256)
  if not said:
    raise errors.UserError(
        f'{test.directory} has no answers yet; show it to raters with '
        f'`musiclm listen serve {test.directory}`.')
  ratings = tuple(_unblinded(test, answer) for answer in said)
  by_pair = defaultdict(list)
  for rating in ratings:
    by_pair[rating.pair].append(rating)
  pairs = tuple(_pair(test, pair, by_pair[pair], test.num_pairs, seed)
                for pair in sorted(by_pair))
  systems = [_wins(test, number, ratings, seed)
             for number in range(len(test.systems))]
  alpha, interval, shared = _agreement(ratings, seed)
  a_share, a_p = _sides(ratings)
  return Results(
      test, ratings, pairs,
      tuple(sorted((s for s in systems if s.count),
                   key=lambda s: (-s.wins, s.system))),
      alpha, interval, shared, a_share, a_p, seed)


def _unblinded(test, answer):
  slot = test.slots[answer.slot]
  first_is_a = slot.left == slot.pair[0]
  clip = test.clips[slot.clip]
  return Rating(
      answer.rater, clip.id, clip.track, slot.pair,
      -answer.answer if first_is_a else answer.answer, first_is_a, answer)


def _pair(test, pair, ratings, tests, seed):
  """One `Pair`; `tests` are corrected for."""
  scores = np.asarray([rating.score for rating in ratings])
  counts = Counter(scores.tolist())
  by_clip = defaultdict(list)
  for rating in ratings:
    by_clip[rating.clip].append(rating.score)
  test_of_ratings = ratings_lib.signed_rank(scores)
  test_of_clips = ratings_lib.signed_rank(
      [np.mean(values) for values in by_clip.values()])
  return Pair(
      test.systems[pair[0]], test.systems[pair[1]],
      tuple(counts[score] for score in _SCORES),
      _share(scores > 0, ratings, seed), _share(scores < 0, ratings, seed),
      test_of_ratings, ratings_lib.bonferroni(test_of_ratings.p, tests),
      ratings_lib.bonferroni(test_of_clips.p, tests))


def _wins(test, number, ratings, seed):
  """The `Wins` of one system."""
  own = [rating for rating in ratings if number in rating.pair]
  scores = np.asarray([rating.score if rating.pair[0] == number
                       else -rating.score for rating in own])
  share = _share(scores > 0, own, seed) if own else Share(
      math.nan, (math.nan, math.nan), (math.nan, math.nan))
  return Wins(test.systems[number], int((scores > 0).sum()),
              int((scores < 0).sum()), int((scores == 0).sum()), share)


def _share(won, ratings: Sequence[Rating], seed) -> Share:
  won = np.asarray(won, np.float64)
  return Share(
      float(won.mean()),
      intervals.of_mean(won, [rating.track for rating in ratings], seed),
      intervals.of_mean(won, [str(rating.rater) for rating in ratings], seed))


def _agreement(ratings, seed):
  """(alpha, interval over tracks, units that several people rated)."""
  units, tracks = defaultdict(list), {}
  for rating in ratings:
    units[rating.clip, rating.pair].append(rating.score)
    tracks[rating.clip, rating.pair] = rating.track
  names = [name for name, unit in units.items() if len(unit) > 1]
  lists = [units[name] for name in names]
  if not lists:
    return math.nan, (math.nan, math.nan), 0
  interval = intervals.of_statistic(
      lambda picks: ratings_lib.krippendorff([lists[i] for i in picks]),
      [tracks[name] for name in names], seed)
  return ratings_lib.krippendorff(lists), interval, len(lists)


def _sides(ratings):
  """(share of preferences that are for A, p of a sign test)."""
  from scipy import stats  # pylint: disable=g-import-not-at-top
  sides = [(rating.score > 0) == rating.first_is_a
           for rating in ratings if rating.score]
  if not sides:
    return math.nan, math.nan
  return float(np.mean(sides)), float(
      stats.binomtest(sum(sides), len(sides)).pvalue)
