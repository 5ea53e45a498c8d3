"""Every stage leaf builds, and its header tells its parameter count."""

import dataclasses
import json
import pathlib
import re

import pytest

import musiclm_jax
from musiclm_jax import configs
from musiclm_jax import specs

SHIPPED = pathlib.Path(musiclm_jax.__file__).parent / 'pretrained'

LEAVES = [f'{stage}_{size}' for stage in ('semantic', 'coarse', 'fine')
          for size in ('tiny', 'demo', 'gpu', 'base')]
LEAVES.append('coarse_without_semantic_base')
WITH_MELODY = [f'semantic_melody_{size}'
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
    millions = dict(semantic=430, coarse=438, fine=428,
                    coarse_without_semantic=436.5)[leaf.removesuffix('_base')]
    assert abs(stage.num_params() / 1e6 - millions) < 1.0


@pytest.mark.parametrize('leaf', LEAVES + WITH_MELODY)
def test_headers_count_with_the_shipped_tokenizers(leaf):
  """How many ids there are is the cache's to say, not the leaf's."""
  stage = configs.load(
      leaf, {'MODEL_DIR': 'x', 'CACHE_DIR': 'y'}).arguments['trainable'].model
  config = json.loads((SHIPPED / 'semantic/config.json').read_text('utf-8'))
  tokens = specs.from_dict(specs.StageSpec, config['spec']).tokens
  shipped = dataclasses.replace(
      stage, spec=dataclasses.replace(stage.spec, tokens=tokens))
  text = (configs.gin_root() / f'{leaf}.gin').read_text(encoding='utf-8')
  own, other = re.search(
      r'# Parameters: ([\d,]+)(?:; with the shipped tokenizers ([\d,]+))?\n',
      text).groups()
  # Not said where it is the same.
  assert f'{shipped.num_params():,}' == (other or own) and own != other


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
