"""Plans of windows: the worked examples, and every second drawn once."""

import doctest

import pytest

from musiclm_jax.decoding import sampler
from musiclm_jax.nn import causal
from musiclm_jax.systems.musiclm import story
from musiclm_jax.systems.musiclm import windows


@pytest.mark.parametrize('module', [windows, sampler, story, causal])
def test_doctests(module):
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


def test_every_second_is_drawn_once():
  for seconds in list(range(1, 70)) + [599, 600]:
    for known in {0, 1, seconds // 3, seconds - 1, seconds}:
      plans = [windows.overlapping(seconds, crop, known=known)
               for crop in (30, 10, 1)]
      for plan in plans + [windows.aligned(seconds, 3, known)]:
        drawn = [s for w in plan for s in range(w.drawn_from, w.stop)]
        assert drawn == list(range(known, seconds))
        assert [w.index for w in plan] == list(range(len(plan)))
    for window in windows.overlapping(seconds, 30):
      assert window.stop - window.start <= 30
      assert window.index == 0 or window.drawn_from - window.start == 15
    for window in windows.aligned(seconds, 3):
      assert window.stop - window.start == min(3, seconds)


def test_a_change_begins_a_window_and_strides_stay_within_half_a_window():
  for changes in ((0,), (0, 1), (0, 14, 15, 16), (0, 20, 45, 46), (0, 59, 99)):
    plan = windows.overlapping(60, 30, changes)
    assert [s for w in plan for s in range(w.drawn_from, w.stop)] == list(
        range(60))
    assert {c for c in changes if c < 60} <= {w.drawn_from for w in plan}
    for window in plan:
      assert window.stop - window.start <= 30
      # What is there before is kept, up to half a window.
      assert window.start == max(0, window.drawn_from - 15)
      if window.index:
        assert window.stop - window.drawn_from <= 15
