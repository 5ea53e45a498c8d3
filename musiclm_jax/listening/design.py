"""Which pairs are heard, on which sides, and what a rater hears next.

Every two systems are compared on the same clips, equally often. A `Slot` is one
rating to be had: two systems' sound for one clip, one left (A), one right (B).

    3 clips, systems 0 and 1, 5 ratings:
      round 0: (clip 2, 0|1)  (clip 0, 1|0)  (clip 1, 0|1)
      round 1: (clip 2, 1|0)  (clip 0, 0|1)

Sides alternate from clip to clip, and for one clip from round to round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import itertools
import random

QUESTION = ('Which of the two fits the description better? Please ignore the '
            'sound quality.')
QUESTION_ALONE = 'Which of the two do you prefer?'
# What is stored: below 0 for A, above 0 for B.
ANSWERS = {-2: 'A, strongly', -1: 'A, slightly', 0: 'No preference',
           1: 'B, slightly', 2: 'B, strongly'}
MOST_SLOTS = 20_000  # ours: an assignment looks at all of them


@dataclasses.dataclass(frozen=True)
class Options:
  """How a test is made.

  Attributes:
    ratings: of each pair of systems.
    per_rater: most that one person is asked for.
    seconds: of each clip that are kept, from its beginning.
    hear_seconds: of both clips that are heard before an answer.
    lufs: loudness that all clips get; None leaves them as they are.
    question: '' for the paper's, or one about no description where there are
      no captions.
    common: leave out clips that not all systems have, rather than refuse.
    seed: of the clips that are taken, their order, the sides and the names.
  """

  ratings: int = 200  # paper
  per_rater: int = 20  # ours
  seconds: float = 10.0  # paper
  hear_seconds: float = 5.0  # ours
  # EBU R 128; leaves room for the peaks of most music.
  lufs: float | None = -23.0
  question: str = ''
  common: bool = False
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Slot:
  """One rating to be had.

  Attributes:
    clip: number of the clip.
    left, right: numbers of the systems that are heard as A and as B.
    round: how many ratings of this clip and these systems come before it.
  """

  clip: int
  left: int
  right: int
  round: int

  @functools.cached_property
  def pair(self) -> tuple[int, int]:
    """The two systems, the lower number first."""
    return min(self.left, self.right), max(self.left, self.right)


def pairs(systems: int) -> list[tuple[int, int]]:
  """All pairs of systems; of n models and a reference n (n + 1) / 2.

  >>> len(pairs(3 + 1))
  6
  """
  return list(itertools.combinations(range(systems), 2))


def plan(clips: int, systems: int, ratings: int, seed: int) -> list[Slot]:
  """All slots of a test.

  Args:
    clips: how many there are. Of fewer ratings than clips, some are not heard.
    systems: how many there are.
    ratings: of each pair of systems.
    seed: of the clips' order and of the sides.

  Returns:
    [pairs * ratings]. The clips are the same for all pairs.
  """
  draw = random.Random(seed)
  order = draw.sample(range(clips), clips)
  slots = []
  for one, other in pairs(systems):
    turned = draw.randrange(2)
    for number in range(ratings):
      turn, place = divmod(number, clips)
      sides = ((one, other) if (turn + place + turned) % 2 else (other, one))
      slots.append(Slot(order[place], *sides, turn))
  return slots


def choose(slots: Sequence[Slot], taken: Mapping[int, int],
           had: Iterable[int], draw: random.Random) -> int | None:
  """The number of the slot that a rater gets next.

  Nobody judges the same two sounds twice. Of the free slots it is one whose
  clip this rater has heard least; then of the pair of systems that this rater
  had least, and of those the one with the fewest ratings; then of the clip with
  the fewest, then one that balances on which side this rater has had the
  systems. So a test that is broken off is balanced, too.

  Args:
    slots: of the test.
    taken: {slot: how often it is answered, or before a rater now}.
    had: slots that this rater has or had.
    draw: decides among equals.

  Returns:
    None where there is none for this rater.
  """
  had = [slots[number] for number in had]
  items = {(slot.clip, slot.pair) for slot in had}
  clips = Counter(slot.clip for slot in had)
  own = Counter(slot.pair for slot in had)
  tilt = Counter(slot.left for slot in had)
  tilt.subtract(slot.right for slot in had)
  rated = Counter()
  for number, times in taken.items():
    rated[slots[number].pair] += times
  best, found = None, None
  for number, slot in enumerate(slots):
    if taken.get(number) or (slot.clip, slot.pair) in items:
      continue
    key = (clips[slot.clip], own[slot.pair], rated[slot.pair], slot.round,
           tilt[slot.left] - tilt[slot.right], draw.random())
    if best is None or key < best:
      best, found = key, number
  return found
