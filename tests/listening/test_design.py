"""Which pairs, on which sides, in which order."""

from collections import Counter
import random

import pytest

from musiclm_jax.listening import design


def test_the_papers_counts():
  """4 conditions: 6 pairs of 200 ratings, 1200 in all, 600 of each source."""
  slots = design.plan(1_000, 4, 200, 0)
  assert len(slots) == 1_200
  assert set(Counter(slot.pair for slot in slots).values()) == {200}
  assert Counter(s for slot in slots for s in slot.pair) == dict.fromkeys(
      range(4), 600)


@pytest.mark.parametrize('clips, ratings', [(7, 20), (40, 200), (300, 200)])
def test_sides_and_clips_are_balanced(clips, ratings):
  slots = design.plan(clips, 3, ratings, 5)
  for pair in design.pairs(3):
    own = [slot for slot in slots if slot.pair == pair]
    left = sum(slot.left == pair[0] for slot in own)
    assert abs(2 * left - ratings) <= 1
    heard = Counter(slot.clip for slot in own)
    assert max(heard.values()) - min(heard.values()) <= 1
    assert len(heard) == min(clips, ratings)
    for clip in heard:
      sides = Counter(slot.left for slot in own if slot.clip == clip)
      assert max(sides.values()) - (heard[clip] - max(sides.values())) <= 1
  # The same clips for every pair.
  assert len({frozenset(s.clip for s in slots if s.pair == pair)
              for pair in design.pairs(3)}) == 1


def test_a_plan_is_its_seeds():
  assert design.plan(9, 3, 12, 1) == design.plan(9, 3, 12, 1)
  assert design.plan(9, 3, 12, 1) != design.plan(9, 3, 12, 2)


def _rate_all(slots, raters, per_rater, seed=0):
  """[slots of each rater], taking turns; every slot once."""
  taken, had = {}, [[] for _ in range(raters)]
  for turn in range(per_rater):
    for rater in range(raters):
      number = design.choose(slots, taken, had[rater],
                             random.Random(f'{seed} {rater} {turn}'))
      if number is not None:
        taken[number] = 1
        had[rater].append(number)
  return taken, had


def test_raters_share_a_test_evenly():
  slots = design.plan(40, 4, 40, 0)
  _, had = _rate_all(slots, 10, 12)
  for numbers in had:
    own = [slots[number] for number in numbers]
    # Every pair of systems twice, no clip again, sides turned.
    assert set(Counter(slot.pair for slot in own).values()) == {2}
    assert len({slot.clip for slot in own}) == 12
    tilt = Counter(slot.left for slot in own)
    tilt.subtract(slot.right for slot in own)
    assert max(map(abs, tilt.values())) <= 2


def test_every_slot_is_rated_once():
  slots = design.plan(12, 4, 20, 0)
  taken, had = _rate_all(slots, 10, 12)
  assert set(taken) == set(range(120))
  assert all(len(numbers) == 12 for numbers in had)


def test_a_test_that_is_broken_off_is_balanced_too():
  slots = design.plan(12, 4, 20, 0)
  for raters in (1, 3, 5):
    taken, _ = _rate_all(slots, raters, 7)
    rated = Counter(slots[number].pair for number in taken)
    counts = [rated[pair] for pair in design.pairs(4)]
    assert max(counts) - min(counts) <= 1


def test_nobody_judges_the_same_two_sounds_twice():
  slots = design.plan(2, 2, 6, 0)
  _, had = _rate_all(slots, 1, 6)
  assert len(had[0]) == 2
  assert len({slots[number].clip for number in had[0]}) == 2


def test_nothing_is_left():
  slots = design.plan(2, 2, 2, 0)
  assert design.choose(slots, {0: 1, 1: 1}, (), random.Random(0)) is None


def test_the_order_says_nothing():
  """Raters do not go through the systems in one order."""
  slots = design.plan(12, 4, 20, 0)
  _, had = _rate_all(slots, 10, 6)
  assert len({tuple(slots[n].pair for n in numbers) for numbers in had}) > 5
