"""What the music should be like: checked, read, and made into conditions."""

import numpy as np
import pytest
import soundfile
import tiny_bundle

from musiclm_jax import errors
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering
from musiclm_jax.systems.musiclm import story

RATE = tiny_bundle.RATE


def asked(bundle, *prompt, **wanted):
  return steering.asked(bundle, *prompt, **wanted)


@pytest.mark.parametrize('wanted, message', [
    (dict(), 'nothing says what the music should be like; expected a prompt'),
    (dict(prompt=' '), 'the prompt is empty'),
    (dict(prompt=7), 'the prompt is a number; expected text'),
    (dict(prompt='x', story=(story.Part(0, 'y'),)), 'a prompt and a story'),
    (dict(story='missing.yaml'), 'story missing.yaml does not exist'),
    (dict(story=(story.Part(0, 'x'), story.Part(9, 'y')), seconds=9),
     'has a part at 0:09, but the music ends at 0:09'),
    (dict(story=(story.Part(0, 'x'), story.Part(590, 'y'))),
     'seconds is 605; expected 1 to 600'),
    (dict(like='missing.wav'), 'missing.wav does not exist'),
    (dict(like=np.zeros(RATE)), 'like is silent'),
    (dict(like=np.ones(RATE // 2)), 'like has 0.50 s; expected 1 to 600 s'),
    (dict(like=np.ones((RATE, 2))), 'like is an array of shape (24000, 2)'),
    (dict(melody=np.full(RATE, np.nan)), 'melody is an array'),
    (dict(melody='.'), 'audio file . is a folder'),
    (dict(continue_from=np.ones(400 * RATE), seconds=300),
     'continue_from has 400 s and seconds is 300; expected at most 600 s'),
    (dict(prompt='x', levels=3), 'levels is 3; expected 4 to 12'),
    (dict(prompt='x', levels=13), 'levels is 13; expected 4 to 12'),
    (dict(prompt='x', like_weight=0.5), 'like_weight is for like'),
    (dict(like=np.ones(RATE), like_weight=0.5), 'like_weight is for like'),
])
def test_mistakes(bundle, wanted, message):
  with pytest.raises(errors.UserError) as error:
    asked(bundle, **wanted)
  assert message in str(error.value) and '\n' not in str(error.value)


def test_messages_use_the_shells_names(bundle):
  with pytest.raises(errors.UserError, match='--continue-from is silent'):
    asked(bundle, continue_from=np.zeros(RATE), named=settings_lib.option)


def test_a_melody_needs_a_bundle_that_heeds_one(bundle, tmp_path):
  without = tiny_bundle.without(bundle, tmp_path, 'melody')
  with pytest.raises(errors.UserError, match='part has no melody component'):
    asked(without, melody=tiny_bundle.tone(5))
  # An embedder alone does not help.
  (tmp_path / 'deaf').mkdir()
  deaf = tiny_bundle.without(bundle, tmp_path / 'deaf', 'semantic')
  (deaf.directory / 'semantic').symlink_to(bundle.directory / 'coarse')
  with pytest.raises(errors.UserError, match='no stage of the bundle'):
    asked(deaf, 'x', melody=tiny_bundle.tone(5))


def test_only_what_is_needed_is_asked_of_a_bundle(bundle, tmp_path):
  rough = tiny_bundle.without(bundle, tmp_path, 'fine', 'w2vbert', 'melody')
  asked(rough, 'x', levels=4)
  with pytest.raises(errors.UserError, match='has no fine'):
    asked(rough, 'x')
  with pytest.raises(errors.UserError, match='has no w2vbert'):
    asked(rough, levels=4, continue_from=tiny_bundle.tone(2))


def test_files_and_titles(bundle, tmp_path):
  path = tmp_path / 'song.wav'
  soundfile.write(path, np.stack(2 * [tiny_bundle.tone(3)], 1), RATE)
  settings, found = asked(bundle, ' a \n jig ', like=str(path),
                          continue_from=tiny_bundle.tone(2.5))
  assert found.parts == (story.Part(0, 'a jig'),)
  assert found.title == (
      'a jig, like song.wav, going on from a recording')
  np.testing.assert_allclose(found.like, tiny_bundle.tone(3), atol=1e-3)
  np.testing.assert_array_equal(found.before, tiny_bundle.tone(2.5)[RATE // 2:])
  assert settings == settings_lib.Settings()


def test_a_story_gives_the_length(bundle):
  parts = (story.Part(0, 'x'), story.Part(30, 'y'))
  assert asked(bundle, story=parts)[0].seconds == 45
  settings, found = asked(bundle, story=parts, seconds=31)
  assert settings.seconds == 31 and found.title == 'x / y'


class Mulan:
  """Text points one way, audio another."""

  def embed_text(self, texts):
    return np.eye(3, dtype=np.float32)[[0] * len(texts)]

  def embed_audio(self, audio):
    return np.eye(3, dtype=np.float32)[[1 if audio.mean() > 0 else 2]]

  def quantize(self, embeddings):
    return np.asarray(embeddings > 0, np.int32)


class Bundle:
  """A bundle whose only component is `Mulan`."""

  def __init__(self, bundle):
    self.tokens = bundle.tokens

  def tokenizer(self, role):
    assert role == 'joint'
    return Mulan()


@pytest.mark.parametrize('weight, expected', [
    (0.0, [1, 0, 0]), (1.0, [0, 1, 0]), (0.5, [2**-0.5, 2**-0.5, 0])])
def test_text_and_song_are_mixed_by_weight(bundle, weight, expected):
  given = steering.Steering((story.Part(0, 'x'),), like=np.ones(9))
  found = steering.conditions(
      given, settings_lib.Settings(like_weight=weight), Bundle(bundle))
  np.testing.assert_allclose(found.targets, [expected], atol=1e-6)
  np.testing.assert_array_equal(
      found.codes['mulan'], [[np.asarray(expected) > 0]])


def test_a_song_alone_is_what_is_wanted(bundle):
  found = steering.conditions(
      steering.Steering(like=np.ones(9)), settings_lib.Settings(),
      Bundle(bundle))
  np.testing.assert_allclose(found.targets, [[0, 1, 0]])


def test_similarity_counts_each_part_by_its_length():
  """2 s known, then 1 s like its prompt, then 2 s unlike theirs."""
  wanted = np.float32([[0, 1, 0], [0, 0.5, 0]])
  given = steering.Conditions({}, wanted, changes=(0, 3), known=2)
  audio = np.ones(50)
  audio[:20] = -1.0  # would be the third direction
  found = steering.similarity(audio, given, Mulan(), rate=10)
  assert found == pytest.approx((1 * 1.0 + 2 * 0.5) / 3)


def test_a_melody_begins_where_the_new_music_does(bundle):
  tune = tiny_bundle.tone(6)
  found = steering.conditions(
      steering.Steering(melody=tune, before=tiny_bundle.tone(2)),
      settings_lib.Settings(), bundle)
  codes = found.codes['melody'][0]
  assert (codes[:2] == -1).all() and codes[2:].min() >= 0
  expected = bundle.get('melody').encode(tune[None], stride_seconds=1)
  np.testing.assert_array_equal(codes[2:].reshape(-1), expected.reshape(-1))
