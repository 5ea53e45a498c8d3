"""From text to audio with tiny random stages and stand-in tokenizers."""

import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.generation import long
from musiclm_jax.generation import pipeline

RATE, HOP = 24_000, 480


class FakeCodec:
  """Each frame becomes its mean code; remembers only the last frame."""

  spec = tiny_stage.tokens_spec().codec

  def decode(self, codes):
    assert codes.min() >= 0 and codes.shape[-1] == 12
    past = np.concatenate([codes[:, :1] * 0, codes[:, :-1]], axis=1)
    value = (codes + past).mean(axis=-1) / 16.0
    return np.repeat(value, HOP, axis=1).astype(np.float32)


class FakeMulan:

  def embed_text(self, texts):
    return np.stack([np.full(128, float(len(t))) for t in texts])

  def quantize(self, embeddings):
    first = embeddings[:, :1].astype(np.int64)
    return (first + np.arange(12)) % 16


class FakeBundle:

  def __init__(self):
    self.parts = {name: tiny_stage.trained(name, num_layers=1)
                  for name in ('semantic', 'coarse', 'fine')}
    self.parts.update(soundstream=FakeCodec(), mulan=FakeMulan())

  def get(self, name):
    return self.parts[name]


@pytest.fixture(scope='module', name='made')
def _made():
  return pipeline.Pipeline(FakeBundle())


def test_shapes_and_range(made):
  seen = []
  result = made.generate(['a jig', 'a slow air'], seconds=2.5, samples=2,
                         progress=lambda *a: seen.append(a))
  assert result.audio.shape == (4, 60_000)
  assert result.audio.dtype == np.float32
  assert np.abs(result.audio).max() <= 0.99
  assert np.abs(result.audio).max(axis=1).min() > 0.01
  assert result.semantic.shape == (4, 75)
  assert result.acoustic.shape == (4, 150, 12)
  assert result.semantic.min() >= 0 and result.acoustic.min() >= 0
  assert result.prompts == ['a jig', 'a jig', 'a slow air', 'a slow air']
  np.testing.assert_array_equal(result.mulan[0], (5 + np.arange(12)) % 16)
  assert (result.semantic[0] != result.semantic[1]).any()
  assert [s for s, d, _ in seen if d == 3] == [
      'semantic', 'coarse', 'fine', 'audio']
  assert {t for _, _, t in seen} == {3}


def test_same_seed_same_bytes(made):
  first = made.generate('a jig', seconds=3, seed=7)
  again = made.generate('a jig', seconds=3, seed=7)
  other = made.generate('a jig', seconds=3, seed=8)
  assert first.audio.tobytes() == again.audio.tobytes()
  assert first.audio.tobytes() != other.audio.tobytes()


def test_no_program_is_compiled_twice(made):
  for seconds in (1, 3, 5):
    made.generate('a jig', seconds=seconds)
  counts = [
      made.sampler(n).compilations for n in ('semantic', 'coarse', 'fine')]
  for seconds in (1, 3, 5):
    made.generate('another', seconds=seconds, seed=3,
                  temperatures={'semantic': 0.7, 'fine': 0.0})
  assert counts == [
      made.sampler(n).compilations for n in ('semantic', 'coarse', 'fine')]


def test_a_longer_clip_begins_like_a_shorter_one(made):
  """Windows draw from keys of their own index, however many there are.

  Within the first window of each stage nothing depends on the length but the
  padding of conditions that a position may or may not look at.
  """
  short = made.generate('a jig', seconds=4, seed=1)
  longer = made.generate('a jig', seconds=9, seed=1)
  np.testing.assert_array_equal(short.semantic, longer.semantic[:, :100])
  np.testing.assert_array_equal(short.acoustic[:, :200],
                                longer.acoustic[:, :200])


def stage_windows(monkeypatch, name, seconds):
  """The windows that a stage draws, and the prefix it is given for each."""
  stage = tiny_stage.trained(name)
  seen = []

  class Recorder:
    layout = stage.layout
    def __init__(self):
      self.stage = stage
    def sample(self, tokens, keys, prompt, stop, draw, rows=None):
      del keys, draw
      tokens = tokens.copy()
      seen.append((tokens.copy(), prompt, stop, rows))
      low, _ = self.layout.legal_ranges()
      tokens[:, prompt:stop] = low[prompt:stop] + len(seen)  # this call's mark
      return tokens

  rng = np.random.default_rng(0)
  rates = {'semantic': (25, 1), 'coarse': (50, 4)}
  codes = {n: rng.integers(0, 16, (1, seconds * r, q))
           for n, (r, q) in rates.items() if n in stage.spec.conditions}
  codes['mulan'] = rng.integers(0, 16, (1, 1, 12))
  request = long.Request(seconds, 0, np.zeros(1, int), codes)
  long.generate_stage(Recorder(), request, None)
  return stage.layout, seen, codes


def test_overlapping_windows_keep_their_prefix(monkeypatch):
  layout, seen, codes = stage_windows(monkeypatch, 'coarse', 4)  # 2 s crops
  marks = codes['coarse'][0, :, 0]
  np.testing.assert_array_equal(
      marks, np.repeat([1, 2, 3], [100, 50, 50]))
  tokens, prompt, stop, _ = seen[1]
  assert prompt == layout.target.start + 200 and stop == layout.length
  prefix = layout.segment('coarse').to_codes(tokens[:, layout.target.start:])
  assert (prefix[0, :50] == 1).all() and (prefix[0, 50:] == -1).all()
  semantic = layout.segment('semantic')
  found = semantic.to_codes(tokens[:, semantic.start:semantic.stop])
  np.testing.assert_array_equal(found, codes['semantic'][:, 25:75])


def test_conditions_beyond_the_end_are_padding(monkeypatch):
  layout, seen, codes = stage_windows(monkeypatch, 'coarse', 1)
  tokens, prompt, stop, _ = seen[0]
  assert (prompt, stop) == (layout.target.start, layout.target.start + 200)
  semantic = layout.segment('semantic')
  found = semantic.to_codes(tokens[:, semantic.start:semantic.stop])
  np.testing.assert_array_equal(found[:, :25], codes['semantic'])
  assert (found[:, 25:] == -1).all()


def test_fine_windows_share_one_shape(monkeypatch):
  _, seen, codes = stage_windows(monkeypatch, 'fine', 6)  # 1 s crops
  assert [(len(t), rows) for t, _, _, rows in seen] == [(4, 4), (2, 4)]
  np.testing.assert_array_equal(
      codes['fine'][0, :, 0], np.repeat([1, 2], [200, 100]))


def test_window_plans_cover_every_second_once():
  for seconds in list(range(1, 70)) + [599, 600]:
    plans = [long.overlapping(seconds, crop) for crop in (30, 10, 1)]
    for windows in plans + [long.aligned(seconds, 3)]:
      drawn = [s for w in windows for s in range(w.drawn_from, w.stop)]
      assert drawn == list(range(seconds))
      assert [w.index for w in windows] == list(range(len(windows)))
    for window in long.overlapping(seconds, 30):
      assert window.stop - window.start <= 30
      assert window.index == 0 or window.drawn_from - window.start == 15
    for window in long.aligned(seconds, 3):
      assert window.stop - window.start == min(3, seconds)


def test_long_audio_decodes_in_stretches(made):
  codes = np.random.default_rng(0).integers(0, 16, (1, 50 * 95, 12))
  request = long.Request(95, 0, np.zeros(1, int), {})
  np.testing.assert_array_equal(
      made._decode(codes, request), FakeCodec().decode(codes))  # pylint: disable=protected-access


@pytest.mark.parametrize('settings,message', [
    (dict(prompts=[]), 'no prompt'),
    (dict(prompts=['']), 'the prompt is'),
    (dict(prompts=['  ']), 'the prompt is'),
    (dict(seconds=0), 'seconds is 0; expected 1 to 600'),
    (dict(seconds=-3), 'seconds is -3'),
    (dict(seconds=601), 'seconds is 601'),
    (dict(seconds=float('nan')), 'seconds is nan'),
    (dict(seconds='ten'), 'seconds is ten'),
    (dict(samples=0), 'samples is 0'),
    (dict(temperatures={'fine': -1}), 'fine temperature is -1'),
    (dict(temperatures={'medium': 1}), 'unknown stage'),
    (dict(top_p=0.0), 'top_p'),
])
def test_bad_settings_are_refused(made, settings, message):
  with pytest.raises(errors.UserError, match=message):
    made.generate(**{'prompts': ['a jig'], **settings})


def test_complete_draws_only_what_is_missing():
  made = pipeline.Pipeline(FakeBundle())
  rng = np.random.default_rng(0)
  given = {'coarse': rng.integers(0, 16, (2, 100, 4)).astype(np.int32)}
  codes, audio = made.complete(given, 2)
  assert sorted(codes) == ['coarse', 'fine']  # nobody needed S or M
  np.testing.assert_array_equal(codes['coarse'], given['coarse'])
  assert codes['fine'].shape == (2, 100, 8) and codes['fine'].min() >= 0
  assert audio.shape == (2, 2 * RATE)
  again, _ = made.complete(given, 2)
  np.testing.assert_array_equal(codes['fine'], again['fine'])


def test_complete_from_text_codes_equals_generate():
  made = pipeline.Pipeline(FakeBundle())
  result = made.generate(['a tune', 'another one'], seconds=2, seed=3)
  codes, _ = made.complete({'mulan': result.mulan[:, None]}, 2, seed=3,
                           samples=np.zeros(2, int))
  np.testing.assert_array_equal(codes['semantic'][..., 0], result.semantic)
  np.testing.assert_array_equal(codes['fine'], result.acoustic[..., 4:])
