"""The leaves of w2v-BERT and MuLan: they parse, build and have their sizes."""

import re

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax import configs

_LEAVES = [f'{model}_{size}' for model in ('w2vbert', 'mulan')
           for size in ('tiny', 'demo', 'gpu', 'base')] + ['mulan_ast_base']


def _load(leaf):
  bindings = dict(MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')
  if leaf in ('mulan_base', 'mulan_ast_base'):
    bindings['TEXT_CHECKPOINT'] = '/nowhere/bert'
  return configs.load(leaf, bindings).arguments


@pytest.mark.parametrize('leaf', _LEAVES)
def test_the_header_states_the_number_of_parameters(leaf):
  trainable = _load(leaf)['trainable']
  shape = jax.ShapeDtypeStruct
  batch = dict(
      audio=shape((2, 240_000), jnp.float32),
      text_features=shape((2, 384), jnp.float32),
      text_ids=shape((2, 8), jnp.int32), text_mask=shape((2, 8), jnp.bool_))
  state = jax.eval_shape(trainable.init, jax.random.PRNGKey(0), batch)
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  header = re.search(r'Parameters: ([\d,]+)',
                     configs.resolve(leaf).read_text())[1]
  assert count == int(header.replace(',', ''))


def test_demo_fits_the_shipped_bundle():
  for leaf, limit in (('w2vbert_demo', 2_500_000), ('mulan_demo', 1_250_000)):
    header = re.search(r'Parameters: ([\d,]+)',
                       configs.resolve(leaf).read_text())[1]
    assert int(header.replace(',', '')) < limit


@pytest.mark.parametrize('leaf', [x for x in _LEAVES if 'mulan' in x])
def test_source_and_model_agree_on_the_text(leaf):
  arguments = _load(leaf)
  text, source = arguments['trainable'].model.text, arguments['source']
  assert source.checkpoint == text.checkpoint
  assert source.pooling == text.encoder.pooling
  assert source.max_tokens == (0 if text.frozen else text.max_tokens)
  assert source.window_seconds == (
      arguments['trainable'].model.joint.window_seconds)


@pytest.mark.parametrize('leaf', [x for x in _LEAVES if 'mulan' in x])
def test_the_gates_of_mulan_wait_for_the_end_of_the_warm_up(leaf):
  arguments = _load(leaf)
  trainable = arguments['trainable']
  steps = trainable.stuck_rows * arguments['log_every']
  assert steps >= 2 * trainable.optimizer.warmup_steps


def test_the_paper_sized_mulan_fits_by_micro_batches():
  for leaf, batch in (('mulan_base', 6144), ('mulan_ast_base', 5120)):
    arguments = _load(leaf)
    assert arguments['source'].batch_size == batch  # paper
    rows = arguments['trainable'].microbatch
    assert batch % rows == 0 and rows % 256 == 0  # over up to 256 devices
