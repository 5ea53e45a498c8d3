"""The layout: its doctests, round trips and what it refuses."""

import doctest

import numpy as np
import pytest

from musiclm_jax import specs
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import source


@pytest.mark.parametrize('module', [layout_lib, source])
def test_examples_in_docstrings(module):
  result = doctest.testmod(module)
  assert result.attempted and not result.failed


@pytest.mark.parametrize('name, length, vocab_size', [
    ('semantic', 12 + 1 + 750, 1 + 1 + 13 * 1024),
    ('coarse', 12 + 1 + 250 + 1 + 2000, 1 + 2 + 17 * 1024),
    ('fine', 600 + 1 + 1200, 1 + 1 + 12 * 1024),
])
def test_paper_sizes(name, length, vocab_size):
  layout = layout_lib.for_stage(specs.StageSpec(name))
  assert (layout.length, layout.vocab_size) == (length, vocab_size)


@pytest.mark.parametrize('name', ['semantic', 'coarse', 'fine'])
def test_codes_come_back(name):
  layout = layout_lib.for_stage(specs.StageSpec(name))
  rng = np.random.default_rng(0)
  codes = {s.name: rng.integers(0, 1024, (2, s.num_frames, s.num_codebooks))
           for s in layout.segments}
  codes[layout.target.name][1, layout.target.num_frames // 2:] = -1
  tokens = layout.build(codes)
  low, high = layout.legal_ranges()
  padded = tokens == 0
  assert np.all(padded | ((tokens >= low) & (tokens < high)))
  back = layout.split(tokens)
  for segment in codes:
    np.testing.assert_array_equal(back[segment], codes[segment])


def test_fine_sequence_by_hand():
  """Two frames: coarse level-minor, then the separator, then levels 5-12."""
  layout = layout_lib.for_stage(specs.StageSpec('fine')).with_frames(
      coarse=2, fine=2)
  coarse = np.array([[0, 1, 2, 3], [1023, 0, 0, -1]])
  fine = np.arange(16).reshape(2, 8)
  k = 1024
  np.testing.assert_array_equal(
      layout.build(dict(coarse=coarse, fine=fine)),
      [2, 2 + k + 1, 2 + 2 * k + 2, 2 + 3 * k + 3, 2 + 1023, 2 + k, 2 + 2 * k,
       0, 1] + [2 + (4 + i % 8) * k + i for i in range(16)])


def test_ids_of_another_level_are_refused():
  target = layout_lib.for_stage(specs.StageSpec('coarse')).target
  with pytest.raises(ValueError, match='outside the ids of its level'):
    target.to_codes([target.first_id + 1024, 0, 0, 0])
  with pytest.raises(ValueError, match='expected 0..1023, or -1'):
    target.to_tokens(np.full((1, 4), 1024))
