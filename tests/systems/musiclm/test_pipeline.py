"""Windows, tracks and the way from codes to audio, on a tiny random bundle."""

import types

import jax
import numpy as np
import plain_codec
import pytest
import tiny_bundle
import tiny_stage

from musiclm_jax import bundle as bundle_lib
from musiclm_jax.decoding import categorical
from musiclm_jax.systems.musiclm import pipeline
from musiclm_jax.systems.musiclm import settings
from musiclm_jax.systems.musiclm import tracks

_MULAN = np.arange(12, dtype=np.int32)[None, None]


class Recorder:
  """Stands in for a Sampler: draws the number of the window that it begins."""

  def __init__(self, name):
    self.stage = tiny_stage.trained(name)
    self.layout = self.stage.layout
    self.begun = []

  def begin(self, tokens, keys, prompt, draw):
    del draw
    tokens = np.array(tokens)
    self.begun.append(
        (tokens.copy(), np.asarray(jax.random.key_data(keys)), prompt))
    return types.SimpleNamespace(
        tokens=tokens, position=prompt, mark=len(self.begun))

  def advance(self, decoding, stop):
    low, _ = self.layout.legal_ranges()
    part = slice(decoding.position, stop)
    decoding.tokens[:, part] = low[part] + decoding.mark
    decoding.position = stop


def recorded(name, seconds, lanes=1, **more):
  """(the Recorder, the codes) of a stage that draws `seconds`."""
  made, rng = Recorder(name), np.random.default_rng(0)
  codes = {p.name: rng.integers(
      0, 16, (1, seconds * p.num_frames // made.stage.spec.crop_seconds,
              p.num_codebooks))
           for p in made.layout.placed
           if p.name not in ('mulan', made.layout.target.name)}
  request = tracks.Request(seconds, 0, np.zeros(1, int), {
      'mulan': _MULAN, **codes, **more.pop('codes', {})}, **more)
  track = tracks.Track(made, request, lanes=lanes)
  while track.done < seconds:
    track.advance(seconds)
  return made, request.codes


def part_of(made, name, tokens):
  placed = made.layout.segment(name)
  return placed.to_codes(tokens[:, placed.start:placed.stop])


def test_overlapping_windows_keep_their_prefix():
  made, codes = recorded('coarse', 4)  # 2 s crops
  np.testing.assert_array_equal(
      codes['coarse'][0, :, 0], np.repeat([1, 2, 3], [100, 50, 50]))
  tokens, _, prompt = made.begun[1]
  assert prompt == made.layout.target.start + 200
  prefix = part_of(made, 'coarse', tokens)
  assert (prefix[0, :50] == 1).all() and (prefix[0, 50:] == -1).all()
  np.testing.assert_array_equal(
      part_of(made, 'semantic', tokens), codes['semantic'][:, 25:75])


def test_conditions_beyond_the_end_are_padding():
  made, codes = recorded('coarse', 1)
  tokens, _, prompt = made.begun[0]
  assert prompt == made.layout.target.start
  found = part_of(made, 'semantic', tokens)
  np.testing.assert_array_equal(found[:, :25], codes['semantic'])
  assert (found[:, 25:] == -1).all()


def test_each_window_takes_the_prompt_in_force_where_its_new_part_begins():
  mulan = np.stack([_MULAN[0, 0], _MULAN[0, 0] + 4])[None]
  made, _ = recorded('coarse', 5, codes=dict(mulan=mulan), changes=(0, 3))
  found = [part_of(made, 'mulan', tokens)[0, 0, 0]
           for tokens, _, _ in made.begun]
  assert found == [0, 0, 4, 4]  # new parts begin at 0, 2, 3, 4
  # A semantic window ends at a change.
  _, codes = recorded('semantic', 8, codes=dict(mulan=mulan), changes=(0, 3))
  np.testing.assert_array_equal(
      codes['semantic'][0, ::25, 0], [1, 1, 1, 2, 2, 3, 3, 4])


def test_what_is_known_is_a_prefix_and_stays():
  known = np.full((1, 150, 4), 9)
  made, codes = recorded('coarse', 5, codes=dict(coarse=known))
  np.testing.assert_array_equal(
      codes['coarse'][0, ::50, 0], [9, 9, 9, 1, 2])
  assert (part_of(made, 'coarse', made.begun[0][0])[0, :50] == 9).all()


def test_fine_windows_are_drawn_side_by_side_in_their_own_lanes():
  made, codes = recorded('fine', 6, lanes=4)  # 1 s crops
  assert [len(tokens) for tokens, _, _ in made.begun] == [4, 4]
  np.testing.assert_array_equal(
      codes['fine'][0, ::50, 0], [1, 1, 1, 1, 2, 2])
  # What a lane is given depends on its window alone, not on how many there are.
  fewer, _ = recorded('fine', 2, lanes=4)
  for place in (0, 1):
    expected = jax.random.key_data(categorical.row_keys(0, 2, place, [0]))
    for found in (made, fewer):
      np.testing.assert_array_equal(found.begun[0][1][place], expected[0])
  # Lanes without a window repeat the first.
  np.testing.assert_array_equal(fewer.begun[0][0][2], fewer.begun[0][0][0])


def test_the_last_fine_window_ends_at_the_end_and_its_overlap_is_forced():
  """4 s in crops of 3: seconds 1 to 4, of which 1 to 3 are there already."""
  stage = tiny_stage.stage_model('fine', seconds=3)
  layout = stage.layout
  made = Recorder('fine')
  made.stage, made.layout = types.SimpleNamespace(spec=stage.spec), layout
  coarse = np.random.default_rng(0).integers(0, 16, (1, 200, 4))
  request = tracks.Request(4, 0, np.zeros(1, int), dict(coarse=coarse))
  track = tracks.Track(made, request)
  while track.done < 4:
    track.advance(4)
  np.testing.assert_array_equal(
      request.codes['fine'][0, :, 0], np.repeat([1, 2], [150, 50]))
  tokens, _, prompt = made.begun[1]
  np.testing.assert_array_equal(part_of(made, 'coarse', tokens), coarse[:, 50:])
  forced = part_of(made, 'fine', tokens)
  assert (forced[0, :100] == 1).all() and (forced[0, 100:] == -1).all()
  assert prompt == layout.target.start + 2 * 50 * 8


@pytest.fixture(scope='module', name='made')
def _made(model):
  return model._pipeline  # pylint: disable=protected-access


def test_complete_draws_only_what_is_missing(made):
  rng = np.random.default_rng(0)
  given = {'coarse': rng.integers(0, 16, (1, 100, 4)).astype(np.int32)}
  codes, audio = made.complete(given, 2)
  assert sorted(codes) == ['coarse', 'fine']  # nobody needed S or M
  np.testing.assert_array_equal(codes['coarse'], given['coarse'])
  assert codes['fine'].shape == (1, 100, 8) and codes['fine'].min() >= 0
  # In pieces of a second or at once, the codec renders the same.
  expected = made.codec.decode(
      np.concatenate([codes['coarse'], codes['fine']], axis=-1))
  assert audio.shape == (1, 2 * tiny_bundle.RATE)
  np.testing.assert_allclose(
      audio, expected, atol=1e-5 * np.abs(expected).max())
  again, _ = made.complete(given, 2)
  np.testing.assert_array_equal(codes['fine'], again['fine'])


def test_no_program_is_compiled_twice(made):
  draw = lambda seconds, seed: made.complete(
      {'mulan': _MULAN}, seconds, seed=seed)
  for seconds in (1, 3, 5):
    draw(seconds, 0)
  count = lambda: [made.sampler(n).compilations for n in settings.STAGES]
  before = count()
  for seconds in (5, 2, 3):
    draw(seconds, 1)
  assert count() == before


def test_a_longer_clip_begins_like_a_shorter_one(made):
  """Windows draw from keys of their own index, however many there are.

  Within the first window of each stage nothing depends on the length but the
  padding of conditions that a position may or may not look at.
  """
  short, heard = made.complete({'mulan': _MULAN}, 3, seed=1)
  longer, more = made.complete({'mulan': _MULAN}, 5, seed=1)
  np.testing.assert_array_equal(short['semantic'], longer['semantic'][:, :75])
  for name in ('coarse', 'fine'):
    np.testing.assert_array_equal(short[name][:, :100], longer[name][:, :100])
  assert heard[:, :48_000].tobytes() == more[:, :48_000].tobytes()


def test_bytes_are_the_same_however_many_windows_are_real(bundle, made):
  """Two lanes: the third window stands alone in a batch of two."""
  wide = pipeline.Pipeline(bundle, lanes=2)
  coarse = np.random.default_rng(0).integers(0, 16, (1, 200, 4))
  three, sound = wide.complete({'coarse': coarse[:, :150]}, 3)
  four, longer = wide.complete({'coarse': coarse}, 4)
  np.testing.assert_array_equal(three['fine'], four['fine'][:, :150])
  assert sound.tobytes() == longer[:, :sound.shape[1]].tobytes()
  one, _ = made.complete({'coarse': coarse}, 4)
  assert one['fine'].shape == four['fine'].shape


def test_a_codec_of_other_people_is_heard(bundle, made):
  """Nothing is asked of a codec but its contract."""
  foreign = bundle_lib.Bundle(bundle.directory)
  codec = plain_codec.PlainCodec(bundle.tokens.codec)
  foreign.use('codec', codec, 'plain')
  through = pipeline.Pipeline(foreign)
  through._samplers = made._samplers  # compiled already
  request = tracks.Request(3, 1, np.zeros(1, int), {'mulan': _MULAN})
  generation = through.start(request)
  parts = list(generation.chunks())
  hop, rate = codec.spec.hop_samples, tiny_bundle.RATE
  assert [p.shape[1] for p in parts] == [rate - hop, rate, rate, hop]
  expected = codec.decode(generation.acoustic())
  np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)
  again, _ = made.complete({'mulan': _MULAN}, 3, seed=1)
  np.testing.assert_array_equal(generation.codes['fine'], again['fine'])


def test_what_progress_raises_ends_the_work(made):
  class Stop(Exception):
    pass

  def progress(stage, done, total):
    assert total == 5
    if stage == 'coarse' and done:
      raise Stop

  with pytest.raises(Stop):
    made.complete({'mulan': _MULAN}, 5, progress=progress)
