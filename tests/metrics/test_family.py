"""Judges of the instrument family, on cases whose answer is known."""

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.listeners import musicnn
from musiclm_jax.metrics import family

TAGS = musicnn.MTT_TAGS


def test_a_perfect_judge_agrees_always():
  asked = np.repeat(['flutes', 'voice', 'brass'], [10, 5, 5])
  assert family.agreement(asked, asked) == 1.0
  # .5 ** 2 + 2 * .25 ** 2, by hand.
  assert family.chance(asked, asked) == pytest.approx(0.375)
  assert family.p_value(asked, asked) == pytest.approx(1 / 10_001)


def test_a_constant_judge_sits_at_chance():
  asked = np.repeat(['flutes', 'voice', 'brass'], [10, 5, 5])
  heard = np.full(20, 'flutes')
  assert family.agreement(asked, heard) == 0.5
  assert family.chance(asked, heard) == 0.5
  assert family.p_value(asked, heard) == 1.0


def test_chance_is_the_mean_over_shuffles():
  rng = np.random.default_rng(0)
  asked = rng.choice(list('abcd'), 40, p=[.4, .3, .2, .1])
  heard = rng.choice(list('abc'), 40, p=[.5, .3, .2])
  shuffles = [family.agreement(asked, rng.permutation(heard))
              for _ in range(4000)]
  # 4,000 shuffles of a share with deviation 0.07: standard error 0.001.
  assert family.chance(asked, heard) == pytest.approx(
      np.mean(shuffles), abs=0.005)


def test_p_value_of_four_clips_by_enumeration():
  # Of the 24 orders of a, b, c, d one agrees 4 times and six twice or more.
  asked, heard = list('abcd'), list('abdc')
  assert family.p_value(asked, heard) == pytest.approx(7 / 24, abs=0.02)
  assert family.p_value(asked, heard) == family.p_value(asked, heard)


def test_shuffled_answers_are_not_significant():
  rng = np.random.default_rng(1)
  asked = rng.choice(list('abcd'), 60)
  values = [family.p_value(asked, rng.permutation(asked), 500, seed=s)
            for s in range(40)]
  assert 0.3 < np.mean(values) < 0.8
  assert np.mean(np.array(values) < 0.05) < 0.2


def test_unequal_lengths_are_refused():
  with pytest.raises(ValueError, match='same number'):
    family.agreement(['a'], ['a', 'b'])


def test_every_tag_of_a_family_exists():
  assert {t for names in family.FAMILY_TAGS.values() for t in names} <= set(
      TAGS)
  names = [t for tags in family.FAMILY_TAGS.values() for t in tags]
  assert len(names) == len(set(names))


def _probabilities(rng, count):
  """Tags at very different base rates, like those of a real tagger."""
  logits = rng.normal(np.linspace(-8, 2, len(TAGS)), 1.0, (count, len(TAGS)))
  return logits, 1 / (1 + np.exp(-logits))


def test_tag_judge_hears_the_tag_that_rose_above_its_own_habit():
  rng = np.random.default_rng(0)
  _, reference = _probabilities(rng, 200)
  judge = family.TagJudge(TAGS, reference)
  for name, tags in family.FAMILY_TAGS.items():
    logits, _ = _probabilities(rng, 20)
    logits[:, TAGS.index(tags[0])] += 8
    heard = judge.predict(1 / (1 + np.exp(-logits)))
    assert np.mean(heard == name) > 0.9
  # Without evidence all families are heard, whatever their base rates.
  _, neutral = _probabilities(rng, 600)
  shares = [np.mean(judge.predict(neutral) == name) for name in family.JUDGED]
  assert max(shares) < 0.3 and min(shares) > 0.08


def test_tag_judge_survives_certainty_and_refuses_other_tags():
  judge = family.TagJudge(TAGS, _probabilities(np.random.default_rng(0), 9)[1])
  ends = np.stack([np.zeros(len(TAGS)), np.ones(len(TAGS))])
  assert np.isfinite(judge.scores(ends)).all()
  with pytest.raises(ValueError, match='MTT_musicnn'):
    family.TagJudge(musicnn.MSD_TAGS, np.full((4, 50), 0.5))


def test_which_families_are_judged():
  np.testing.assert_array_equal(
      family.is_judged(['flutes', 'brass', 'voice']), [True, False, True])


def _clips(rng, kinds, rate=24_000, seconds=0.5):
  """'reed' is a steady rich tone, 'bell' a decaying pure one; any pitch."""
  t = np.arange(int(seconds * rate)) / rate
  clips = []
  for kind in kinds:
    f0 = rng.uniform(200, 400)
    if kind == 'reed':
      clip = sum(np.sin(2 * np.pi * k * f0 * t) / k for k in range(1, 12))
    else:
      clip = np.sin(2 * np.pi * f0 * t) * np.exp(-8 * (t % 0.25))
    clips.append(rng.uniform(0.05, 0.5) * clip
                 + 1e-3 * rng.standard_normal(len(t)))
  return np.array(clips, np.float32)


def test_classifier_tells_two_timbres_apart():
  rng = np.random.default_rng(0)
  kinds = np.array(['reed', 'bell'] * 12)
  classifier = family.TimbreClassifier().fit(_clips(rng, kinds), kinds)
  heard = classifier.predict(_clips(rng, kinds))
  assert family.agreement(kinds, heard) > 0.9
  assert family.p_value(kinds, heard) < 0.001


def test_classifier_on_shuffled_labels_sits_at_chance():
  rng = np.random.default_rng(0)
  kinds = np.array(['reed', 'bell'] * 20)
  train, test = _clips(rng, kinds), _clips(rng, kinds)
  found, expected = [], []
  for _ in range(6):
    labels = rng.permutation(kinds)
    heard = family.TimbreClassifier().fit(train, labels).predict(test)
    found.append(family.agreement(kinds, heard))
    expected.append(family.chance(kinds, heard))
  assert abs(np.mean(found) - np.mean(expected)) < 0.2


def test_statistics_ignore_loudness_and_survive_silence():
  clip = _clips(np.random.default_rng(0), ['reed'])[0]
  loud = family.timbre_statistics(clip, 24_000)
  np.testing.assert_allclose(
      family.timbre_statistics(0.1 * clip, 24_000), loud, atol=1e-4)
  silent = family.timbre_statistics(np.zeros(500), 24_000)
  assert silent.shape == loud.shape and np.isfinite(silent).all()


def test_classifier_needs_two_labels():
  with pytest.raises(errors.UserError, match='at least 2'):
    family.TimbreClassifier().fit(np.zeros((2, 4800)), ['voice', 'voice'])
