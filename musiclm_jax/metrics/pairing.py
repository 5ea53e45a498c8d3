"""Do answers belong to the clips that they were given for?

  answers ──> score of every (clip asked of, answer) pair, [n, n]
                diagonal: the figure, with an interval over tracks
                all of it: what the answers get in another order (shuffled)
                its best column: what one answer for all clips gets (constant)

A judge that hears 120 beats a minute in everything is right now and then: both
kinds of chance say how often.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses

import numpy as np
import numpy.typing as npt

from musiclm_jax.metrics import intervals

PERMUTATIONS = 2_000
_AT_ONCE = 100  # permutations


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How well answers fit what was asked for.

  Attributes:
    value: mean score.
    low, high: its 95 % interval over tracks.
    shuffled: mean score of the answers in another order.
    constant: mean score of the best single answer among those asked for.
    p_value: share of orders that score at least as well, the given one
      included; at least 1 / (PERMUTATIONS + 1).
    count: clips.
  """

  value: float
  low: float
  high: float
  shuffled: float
  constant: float
  p_value: float
  count: int

  @property
  def chance(self) -> float:
    """The better one of what knowing nothing gets."""
    return max(self.shuffled, self.constant)


def agreement(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], asked: npt.ArrayLike,
    heard: npt.ArrayLike, tracks: Sequence[str], seed: int = 0) -> Agreement:
  """How well the answers of a judge fit.

  Args:
    score: (asked, heard), two arrays that broadcast -> scores, higher is better.
    asked: [n, ...] what is right of each clip.
    heard: [n, ...] what the judge says of each.
    tracks: [n] names; clips of one track are no independent trials.
    seed: of the permutations and the bootstrap.

  Raises:
    ValueError: no clips, or not as many answers.
  """
  asked, heard = np.asarray(asked), np.asarray(heard)
  if not len(asked) or not len(asked) == len(heard) == len(tracks):
    raise ValueError(
        f'{len(asked)} clips came with {len(heard)} answers and {len(tracks)} '
        f'tracks; expected as many, one at least.')
  table = np.asarray(score(asked[:, None], heard[None, :]), np.float64)
  given = np.unique(asked)
  constant = np.asarray(
      score(asked[:, None], given[None, :]), np.float64).mean(0).max()
  return of_table(table, tracks, seed, float(constant))


def of_table(table: np.ndarray, tracks: Sequence[str], seed: int = 0,
             constant: float = float('-inf')) -> Agreement:
  """The same of a table of scores.

  Args:
    table: [n, n]: row i, column j is the score of clip i with the answer, or the
      melody, or the caption of clip j.
    tracks: [n] names.
    seed: of the permutations and the bootstrap.
    constant: what one answer for all gets, where that means anything.
  """
  own = np.diagonal(table)
  low, high = intervals.of_mean(own, tracks, seed)
  return Agreement(
      value=float(own.mean()), low=low, high=high,
      shuffled=elsewhere(table, tracks), constant=float(constant),
      p_value=p_value(table, tracks, seed), count=len(own))


def elsewhere(table: np.ndarray, tracks: Sequence[str]) -> float:
  """Mean score with what belongs to clips of other tracks.

  With one track there is no other, and it is the mean of all.
  """
  names = np.asarray(tracks, str)
  other = names[:, None] != names[None, :]
  return float(table[other].mean() if other.any() else table.mean())


def p_value(table: np.ndarray, tracks: Sequence[str], seed: int = 0,
            permutations: int = PERMUTATIONS) -> float:
  """The share of permutations of tracks that score as well as none does.

  Tracks change places; each clip is given the answer of a clip, drawn anew, of
  the track that took its own track's place. With one clip a track it is the
  usual exact test. The given order counts as one of them.

  Args:
    table: [n, n] scores, as `of_table` takes them.
    tracks: [n] names.
    seed: of the permutations.
    permutations: how many.
  """
  _, group = np.unique(np.asarray(tracks, str), return_inverse=True)
  order = np.argsort(group, kind='stable')  # clips, track after track
  sizes = np.bincount(group)
  starts = np.cumsum(sizes) - sizes
  rng = np.random.default_rng(seed)
  # Sums of the same numbers in another order differ in the last bits.
  found = np.diagonal(table).mean() - 1e-12
  rows, better = np.arange(len(table)), 0
  for first in range(0, permutations, _AT_ONCE):
    count = min(_AT_ONCE, permutations - first)
    places = rng.permuted(np.tile(np.arange(len(sizes)), (count, 1)), axis=1)
    places = places[:, group]
    picks = (rng.random(places.shape) * sizes[places]).astype(int)
    picks = order[starts[places] + picks]
    better += int(np.sum(table[rows, picks].mean(1) >= found))
  return (1 + better) / (1 + permutations)
