"""The leaves of SoundStream: they parse, build and have their sizes."""

import re

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax import configs


@pytest.mark.parametrize('size', ['tiny', 'demo', 'gpu', 'base'])
def test_the_header_states_the_number_of_parameters(size):
  leaf = f'soundstream_{size}'
  trainable = configs.load(
      leaf, dict(MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')
  ).arguments['trainable']
  batch = dict(audio=jax.ShapeDtypeStruct((2, 24_000), jnp.float32))
  state = jax.eval_shape(trainable.init, jax.random.key(0), batch)
  header = re.search(r'Parameters: ([\d,]+), and ([\d,]+) in the codebooks',
                     configs.resolve(leaf).read_text())
  count = sum(x.size for x in jax.tree.leaves(state.params))
  assert count == int(header[1].replace(',', ''))
  assert state.rvq.codebooks.size == int(header[2].replace(',', ''))
  if size == 'demo':
    assert count + state.rvq.codebooks.size < 2_500_000
