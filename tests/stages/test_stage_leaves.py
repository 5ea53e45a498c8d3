"""Every stage leaf builds, and its header tells its parameter count."""

import re

import pytest

from musiclm_jax import configs

LEAVES = [f'{stage}_{size}' for stage in ('semantic', 'coarse', 'fine')
          for size in ('tiny', 'demo', 'gpu', 'base')]


@pytest.mark.parametrize('leaf', LEAVES)
def test_leaf(leaf):
  config = configs.load(leaf, {'MODEL_DIR': 'x', 'CACHE_DIR': 'y'})
  stage = config.arguments['trainable'].model
  source = config.arguments['source']
  assert stage.spec.name == leaf.split('_')[0]
  assert source.stage == stage.spec and source.cache_dir == 'y'
  text = (configs.gin_root() / f'{leaf}.gin').read_text(encoding='utf-8')
  header = re.search(r'# Parameters: ([\d,]+)', text).group(1)
  assert stage.num_params() == int(header.replace(',', ''))
  if leaf.endswith('_base'):
    millions = dict(semantic=430, coarse=438, fine=428)[stage.spec.name]
    assert abs(stage.num_params() / 1e6 - millions) < 1.0
