"""Layout: bijective, legal ranges, errors; the three paper sequences."""

import doctest

import numpy as np
import pytest

from musiclm_jax import specs
from musiclm_jax.tokens import layout as layout_lib


def _random_codes(layout, rng, batch=2):
  return {
      s.name: rng.integers(0, s.codebook_size,
                           (batch, s.num_frames, s.num_codebooks))
      for s in layout.placed}


@pytest.mark.parametrize('stage, length', [
    ('semantic', 12 + 1 + 750),
    ('coarse', 12 + 1 + 250 + 1 + 2000),
    ('fine', 600 + 1 + 1200),
])
def test_paper_lengths_and_round_trip(stage, length):
  layout = layout_lib.for_stage(specs.StageSpec(stage))
  assert layout.length == length
  codes = _random_codes(layout, np.random.default_rng(0))
  tokens = layout.build(codes)
  assert tokens.shape == (2, length) and tokens.dtype == np.int32
  back = layout.split(tokens)
  for name, value in codes.items():
    np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_every_token_is_in_its_legal_range_and_no_id_means_two_things(stage):
  layout = layout_lib.for_stage(specs.StageSpec(stage), seconds=2)
  low, high = layout.legal_ranges()
  tokens = layout.build(_random_codes(layout, np.random.default_rng(1)))
  assert (tokens >= low).all() and (tokens < high).all()
  spans = sorted({(int(a), int(b)) for a, b in zip(low, high)})
  assert spans[0][0] == 1 and spans[-1][1] == layout.vocab_size
  for (_, stop), (start, _) in zip(spans, spans[1:]):
    assert start == stop, 'ranges overlap or leave a hole'


def test_flattening_is_time_major_level_minor():
  layout = layout_lib.for_stage(specs.StageSpec('fine'), seconds=1)
  coarse = np.zeros((50, 4), np.int64)
  fine = np.arange(50 * 8).reshape(50, 8) % 1024
  tokens = layout.build({'coarse': coarse, 'fine': fine})
  # [coarse 200][sep][fine 400]; ids: pad 0, sep 1, coarse 2.., fine 4098..
  assert tokens[:5].tolist() == [2, 1026, 2050, 3074, 2]
  assert tokens[200] == 1
  first = 2 + 4 * 1024
  assert tokens[201:204].tolist() == [first, first + 1024 + 1,
                                      first + 2 * 1024 + 2]
  assert tokens[201 + 8] == first + 8  # level 1 of frame 1 holds code 8


def test_padding_survives_both_ways():
  layout = layout_lib.for_stage(specs.StageSpec('semantic'), seconds=2)
  codes = _random_codes(layout, np.random.default_rng(2), batch=1)
  codes['semantic'][:, 30:] = -1
  tokens = layout.build(codes)
  assert (tokens[0, 13 + 30:] == 0).all()
  np.testing.assert_array_equal(layout.split(tokens)['semantic'],
                                codes['semantic'])


def test_weights_cover_the_target_only():
  layout = layout_lib.for_stage(specs.StageSpec('coarse'))
  weights = layout.target_weights()
  assert weights.sum() == 2000 and weights[:264].sum() == 0


def test_other_lengths_keep_the_vocabulary():
  layout = layout_lib.for_stage(specs.StageSpec('semantic'))
  short = layout.with_frames(semantic=100)
  assert short.length == 113
  assert short.vocab_size == layout.vocab_size
  assert short.target.first_id == layout.target.first_id


def test_inputs_have_the_time_of_the_token_before():
  spec = specs.StageSpec('coarse', conditions=('mulan', 'melody', 'semantic'))
  placed = layout_lib.for_stage(spec)
  seconds = placed.input_seconds()
  assert seconds.shape == (placed.length,)
  assert np.isnan(seconds[:14]).all()  # the first, M of 12, a separator
  melody = placed.segment('melody')
  at = lambda segment, frame, level: seconds[
      segment.start + frame * segment.num_codebooks + level + 1]
  assert at(melody, 0, 0) == 0.0 and at(melody, 0, 23) == 0.0
  assert at(melody, 1, 0) == 3.0
  assert np.isnan(seconds[melody.stop + 1])  # what follows a separator
  semantic = placed.segment('semantic')
  np.testing.assert_allclose(at(semantic, 249, 0), 9.96, rtol=1e-6)
  np.testing.assert_allclose(at(placed.target, 7, 3), 0.14, rtol=1e-6)
  np.testing.assert_allclose(seconds[-1], 9.98, rtol=1e-6)


def test_errors_say_what_came():
  layout = layout_lib.for_stage(specs.StageSpec('semantic'), seconds=2)
  segment = layout.segment('semantic')
  with pytest.raises(ValueError, match='5..1024'):
    segment.to_tokens(np.array([[5], [1024]]))
  with pytest.raises(ValueError, match='2 codebooks; expected 1'):
    segment.to_tokens(np.zeros((4, 2), int))
  with pytest.raises(ValueError, match='outside the ids'):
    segment.to_codes(np.array([7]))
  with pytest.raises(ValueError, match='expected 63'):
    layout.split(np.zeros(62, int))
  with pytest.raises(ValueError, match='not the separator'):
    layout.split(np.zeros(63, int))
  with pytest.raises(ValueError, match="no segment 'fine'"):
    layout.segment('fine')
  with pytest.raises(ValueError, match="unknown segment 'drums'; known: mulan"):
    layout_lib.for_stage(specs.StageSpec('semantic', conditions=('drums',)))


def test_worked_example():
  assert doctest.testmod(layout_lib).failed == 0
  assert doctest.testmod(layout_lib).attempted > 0
