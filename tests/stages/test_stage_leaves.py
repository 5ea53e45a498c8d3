"""Every stage leaf builds, and its header tells its parameter count."""

import re

import pytest

from musiclm_jax import configs

LEAVES = [f'{stage}_{size}' for stage in ('semantic', 'coarse', 'fine')
          for size in ('tiny', 'demo', 'gpu', 'base')]
LEAVES.append('coarse_without_semantic_base')


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
    millions = dict(semantic=430, coarse=438, fine=428,
                    coarse_without_semantic=436.5)[leaf.removesuffix('_base')]
    assert abs(stage.num_params() / 1e6 - millions) < 1.0


def test_without_a_semantic_stage_codes_follow_mulan_tokens():
  config = configs.load(
      'coarse_without_semantic_base', {'MODEL_DIR': 'x', 'CACHE_DIR': 'y'})
  placed = config.arguments['trainable'].model.layout.placed
  assert [(s.name, s.start, s.length) for s in placed] == [
      ('mulan', 0, 12), ('coarse', 13, 2000)]


def test_loss_and_memory_are_settings():
  bindings = dict(MODEL_DIR='x', CACHE_DIR='y', Z_LOSS=1e-4,
                  LABEL_SMOOTHING=0.1, MICROBATCH=64)
  trainable = configs.load('semantic_base', bindings).arguments['trainable']
  assert trainable.microbatch == 64
  assert (trainable.model.z_loss, trainable.model.label_smoothing) == (1e-4, 0.1)
