"""The model as a user of Python holds it, on a tiny random bundle."""

import numpy as np
import pytest
import tiny_bundle

import musiclm_jax
from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.systems.musiclm import model as model_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering as steering_lib
from musiclm_jax.systems.musiclm import story

RATE = tiny_bundle.RATE


def test_one_line_is_enough(bundle):
  model = musiclm_jax.load(bundle.directory)
  assert model.sample_rate_hz == RATE
  assert model.bundle.identity == 'tiny'
  with pytest.raises(errors.UserError, match='no bundle at nowhere'):
    musiclm_jax.load('nowhere')


def test_shapes_range_and_seeds(model):
  seen = []
  audio = model.generate('a jig', seconds=2.5, seed=7,
                         progress=lambda *a: seen.append(a))
  assert audio.shape == (60_000,) and audio.dtype == np.float32
  assert 0.01 < np.abs(audio).max() <= 0.99
  assert [s for s, d, _ in seen if d == 3] == [
      'semantic', 'coarse', 'fine', 'audio']
  assert {t for _, _, t in seen} == {3}
  again = model.generate('a jig', seconds=2.5, seed=7)
  other = model.generate('a jig', seconds=2.5, seed=8)
  assert audio.tobytes() == again.tobytes() != other.tobytes()


def test_a_stream_is_what_generate_returns(model):
  chunks = list(model.stream('a jig', seconds=2.5, seed=7))
  assert [len(c) for c in chunks] == [24_000, 24_000, 12_000]
  whole = audio_lib.limit_peak(np.concatenate(chunks))
  np.testing.assert_array_equal(
      whole, model.generate('a jig', seconds=2.5, seed=7))


def test_a_stream_draws_no_more_than_it_must(model):
  """For the first second: the conditions of one window, not the whole clip."""
  drawn = {}
  def progress(stage, done, total):
    assert total == 9
    drawn[stage] = done
  chunks = model.stream('a jig', seconds=9, progress=progress)
  next(chunks)
  assert drawn == dict(semantic=2, coarse=1, fine=1, audio=1)
  chunks.close()


def test_a_stream_is_refused_before_it_begins(model):
  for wanted in (dict(best_of=2), dict(samples=9)):
    with pytest.raises(errors.UserError, match='a stream has no best_of'):
      model.stream('a jig', **wanted)


def make(model, prompt=None, **wanted):
  settings, steering = steering_lib.asked(model.bundle, prompt, **wanted)
  return model.make(steering, settings)


@pytest.fixture(name='pair', scope='module')
def _pair(model):
  """{variation: the Result of two samples}."""
  return {vary: make(model, 'a jig', seconds=2, samples=2, vary=vary)
          for vary in settings_lib.VARIATIONS}


def test_variations_hold_what_they_say(pair):
  first, second = pair['semantics'].takes
  assert (first.semantic != second.semantic).any()
  assert (first.acoustic != second.acoustic).any()
  held, other = pair['acoustics'].takes
  np.testing.assert_array_equal(held.semantic, other.semantic)
  assert (held.acoustic != other.acoustic).any()
  # M is that of the prompt in all of them.
  np.testing.assert_array_equal(
      pair['semantics'].mulan, pair['acoustics'].mulan)


def test_the_best_are_the_most_similar(model, pair):
  best = make(model, 'a jig', seconds=2, best_of=2)
  rows = np.stack([take.sound.read() for take in pair['semantics'].takes])
  target = model.bundle.get('mulan').embed_text(['a jig'])[0]
  scores = np.array([
      model.bundle.get('mulan').embed_audio(row[None])[0] @ target
      for row in rows])
  assert len(best.takes) == 1
  assert best.takes[0].sample == np.argmax(scores)
  assert best.takes[0].similarity == pytest.approx(scores.max(), abs=1e-5)
  np.testing.assert_array_equal(
      best.takes[0].sound.read(), rows[np.argmax(scores)])


def test_fewer_levels(model):
  full = make(model, 'a jig', seconds=2).takes[0]
  for levels in (4, 6):
    take = make(model, 'a jig', seconds=2, levels=levels).takes[0]
    assert take.acoustic.shape == (100, levels) and take.acoustic.min() >= 0
    np.testing.assert_array_equal(take.acoustic[:, :4], full.acoustic[:, :4])


def test_going_on_begins_with_the_recording_as_the_codec_renders_it(model):
  before = tiny_bundle.tone(2.6)
  result = make(model, continue_from=before, seconds=1.5)
  whole = before[-2 * RATE:]  # the end counts, so the part goes at the start
  codec = model.bundle.get('codec')
  codes = codec.encode(whole[None])
  take = result.takes[0]
  np.testing.assert_array_equal(take.acoustic[:100], codes[0])
  assert result.known == 2 and len(take.sound.read()) == 3.5 * RATE
  expected = codec.decode(codes)[0]
  np.testing.assert_allclose(take.sound.read()[:2 * RATE], expected,
                             atol=1e-5 * np.abs(expected).max())
  np.testing.assert_array_equal(
      take.semantic[:50],
      model.bundle.get('w2vbert').encode(whole[None])[0])
  assert take.semantic[50:].min() >= 0
  assert result.joins['semantic'] == [2]


def test_a_story_changes_the_prompt(model):
  parts = (story.Part(0, 'a jig'), story.Part(2, 'a slow air'))
  result = make(model, story=parts, seconds=4)
  alone = make(model, 'a jig', seconds=2)
  assert result.changes == (0, 2) and result.joins['semantic'] == [2]
  assert (result.mulan[0] != result.mulan[1]).any()
  # Until the change it is the music of the first prompt.
  np.testing.assert_array_equal(
      result.takes[0].semantic[:50], alone.takes[0].semantic)
  np.testing.assert_array_equal(
      result.takes[0].acoustic[:50], alone.takes[0].acoustic[:50])


def test_audio_in_memory():
  memory = model_lib.Memory()
  block = np.ones(3)
  memory.write(block)
  block[:] = 0.0  # the caller may use it again
  memory.write(block[:1])
  np.testing.assert_array_equal(memory.read(), [1, 1, 1, 0])
