"""Cuts between names, and judges that are asked about strangers only."""

import numpy as np
import pytest

from musiclm_jax.metrics import cuts


def test_cuts_lie_between_the_names():
  judge = cuts.fit([60, 1, 2, 30, 31, 3, 61, 62],
                   ['high', 'low', 'low', 'mid', 'mid', 'low', 'high', 'high'])
  assert judge([2, 16, 17, 44, 46]).tolist() == [
      'low', 'low', 'mid', 'mid', 'high']


def test_the_cut_counts_both_names_alike():
  # 90 without, between 0 and 9; 4 with, at 8, 9, 10 and 11. Whoever counts clips
  # puts the cut above 8.9; counted alike, losing one of the 4 costs more than 9
  # of the 90.
  values = np.concatenate([np.linspace(0, 8.9, 90), [8.05, 9.05, 10, 11]])
  has = np.arange(94) >= 90
  judge = cuts.fit(values, has)
  assert not judge([7.9])[0] and judge([8.2])[0]


def test_overlapping_names_and_too_few():
  judge = cuts.fit([1, 2, 3, 1, 2, 3], list('aaabbb'))
  assert set(judge([0, 9])) <= {'a', 'b'}
  with pytest.raises(ValueError, match='1 name'):
    cuts.fit([1, 2], ['a', 'a'])


def _by_heart(inputs, names):
  """Knows what it has seen, and guesses else."""
  seen = {float(x): name for x, name in zip(inputs, names)}
  return lambda asked: np.array([seen.get(float(x), 'stranger') for x in asked])


def test_no_clip_is_judged_by_what_saw_its_track():
  values = np.arange(40.0)
  names = np.where(values % 2 == 0, 'even', 'odd')
  tracks = [f't{k // 4}' for k in range(40)]
  judge = cuts.CrossFitted(_by_heart, values, names, tracks)
  assert set(judge.predict(values, tracks)) == {'stranger'}
  # Of another track, all recordings are heard.
  assert judge.predict(values, ['another'] * 40).tolist() == names.tolist()


def test_versions_agree_where_the_rule_is_plain():
  rng = np.random.default_rng(0)
  values = np.concatenate([rng.normal(0, 1, 30), rng.normal(20, 1, 30)])
  names = np.repeat([False, True], 30)
  judge = cuts.CrossFitted(cuts.fit, values, names, np.arange(60))
  np.testing.assert_array_equal(judge.predict(values, np.arange(60)), names)
