"""The loss, the heads, the masks and the sizes of the stages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax.decoding import decoder
from musiclm_jax.systems.musiclm.stages import model

NAMES = ('semantic', 'coarse', 'fine')


def loss_by_hand(stage, params, batch):
  """Nats of each target token from the decoder's logits, in NumPy."""
  logits = tiny_stage.logits(stage, params, batch['decoder_input_tokens'])
  target = stage.layout.target
  labels = np.asarray(batch['decoder_target_tokens'])[:, target.start:]
  logits = logits.astype(np.float64).reshape(labels.shape + (-1,))
  nats = np.zeros(labels.shape)
  for b, p in np.ndindex(labels.shape):
    first = target.first_id + (p % target.num_codebooks) * target.codebook_size
    label = labels[b, p] - (first if stage.config.head == 'target' else 0)
    nats[b, p] = -logits[b, p, max(label, 0)] + np.log(
        np.exp(logits[b, p]).sum())
  return nats


@pytest.mark.parametrize('head', decoder.HEADS)
@pytest.mark.parametrize('name', [
    pytest.param('coarse', marks=pytest.mark.slow), 'fine'])
def test_loss_is_the_mean_over_target_tokens(name, head):
  stage = tiny_stage.stage_model(name, head=head, seconds=1)
  params = tiny_stage.init(stage)
  codes = tiny_stage.codes(stage.layout)
  codes[name][1, 30:] = -1  # the second track ends here
  batch = tiny_stage.batch_of(stage.layout, codes)
  nats = loss_by_hand(stage, params, batch)
  weights = batch['decoder_loss_weights'][:, stage.layout.target.start:]
  levels = stage.layout.target.num_codebooks
  assert weights.sum() == 80 * levels
  value, metrics = jax.jit(stage.loss)(params, batch)
  expected = (nats * weights).sum() / weights.sum()
  assert abs(float(value) - expected) < 1e-4
  assert abs(float(metrics['loss']) - expected) < 1e-4
  first = 1 if name == 'coarse' else 5
  for level in range(levels):
    part = nats[:, level::levels] * weights[:, level::levels]
    expected = part.sum() / weights[:, level::levels].sum()
    found = float(metrics[f'loss_level_{first + level}'])
    assert abs(found - expected) < 1e-4
  uniform = np.log(16 if head == 'target'
                   else decoder.padded_vocab_size(stage.layout))
  assert abs(float(value) - uniform) < 1.5


def test_smoothing_and_z_loss_add_to_the_loss_only():
  stage = tiny_stage.stage_model('coarse', seconds=1)
  params = tiny_stage.init(stage)
  batch = tiny_stage.batch_of(stage.layout, tiny_stage.codes(stage.layout))
  logits = tiny_stage.logits(stage, params, batch['decoder_input_tokens'])
  log_z = np.log(np.exp(logits).sum(-1))
  nats = loss_by_hand(stage, params, batch).mean()
  other = model.StageModel(stage.spec, stage.config, z_loss=0.1,
                           label_smoothing=0.2)
  value, metrics = jax.jit(other.loss)(params, batch)
  expected = (0.8 * nats + 0.2 * (log_z[..., None] - logits).mean() +
              0.1 * (log_z**2).mean())
  assert abs(float(value) - expected) < 1e-4
  assert abs(float(metrics['loss']) - nats) < 1e-4


@pytest.mark.parametrize('head', decoder.HEADS)
def test_a_loss_by_blocks_is_the_same(head):
  """With all that adds to it, its metrics, its gradients, and likelihoods."""
  plain = dataclasses.replace(
      tiny_stage.stage_model('coarse', seconds=1, head=head), z_loss=0.1,
      label_smoothing=0.2)
  layout = plain.layout
  # 64 tokens or 16 frames of four levels: what is left at the end are 8, or 2.
  blocks = dataclasses.replace(plain, config=dataclasses.replace(
      plain.config, loss_block=64))
  params = tiny_stage.trained('coarse', seconds=1, head=head).params
  codes = tiny_stage.codes(layout)
  codes['coarse'][1, 30:] = -1
  batch = tiny_stage.batch_of(layout, codes)

  def of(stage):
    return jax.tree.map(np.asarray, jax.jit(lambda params: (
        jax.value_and_grad(stage.loss, has_aux=True)(params, batch),
        stage.log_likelihood(params, batch)))(params))

  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()), of(blocks), of(plain))
  text = lambda stage: jax.jit(jax.grad(
      lambda *x: stage.loss(*x)[0])).lower(params, batch).as_text()
  classes = 16 if head == 'target' else decoder.padded_vocab_size(layout)
  whole = f'4x2x50x{classes}xf32' if head == 'target' else (
      f'1x2x200x{classes}xf32')
  assert whole in text(plain) and whole not in text(blocks)


@pytest.mark.parametrize('name', [
    'semantic', pytest.param('coarse', marks=pytest.mark.slow), 'fine'])
def test_padding_changes_nothing(name):
  """Neither zeros after the sequence nor those where a track has ended."""
  stage = tiny_stage.stage_model(name)
  trained = tiny_stage.trained(name)
  layout = stage.layout
  codes = tiny_stage.codes(layout)
  for segment in codes:
    if segment != 'mulan':
      codes[segment][1, codes[segment].shape[1] // 2:] = -1
  batch = tiny_stage.batch_of(layout, codes)
  loss = jax.jit(stage.loss)
  value, _ = loss(trained.params, batch)
  longer = {k: np.pad(v, ((0, 0), (0, 37))) for k, v in batch.items()}
  assert float(loss(trained.params, longer)[0]) == float(value)
  # The other row of the batch cannot see how much of this one is padding.
  alone = {k: v[:1] for k, v in batch.items()}
  both = tiny_stage.logits(stage, trained.params, batch['decoder_input_tokens'])
  one = tiny_stage.logits(stage, trained.params, alone['decoder_input_tokens'])
  np.testing.assert_allclose(both[:1], one, atol=1e-5)
  # Whatever vector padding is embedded as, position 0 excepted: shift it.
  inputs = batch['decoder_input_tokens']
  free = layout.vocab_size  # an id that no token has
  params = dict(trained.params)
  params['token_embedding'] = params['token_embedding'].at[free].set(
      params['token_embedding'][0])
  begun = np.where(np.arange(inputs.shape[1]) == 0, free, inputs)
  same = tiny_stage.logits(stage, params, begun)
  params['token_embedding'] = params['token_embedding'].at[0].set(7.0)
  moved = tiny_stage.logits(stage, params, begun)
  real = batch['decoder_loss_weights'][:, layout.target.start:] > 0
  # A real position whose own input is padding does not exist but the first.
  flat = lambda x: np.asarray(x).reshape(real.shape + (-1,))
  np.testing.assert_allclose(flat(moved)[real], flat(same)[real], atol=1e-5)
  assert np.abs(flat(moved)[~real] - flat(same)[~real]).max() > 1e-3


def test_time_features_are_sines_of_the_time():
  layout = tiny_stage.stage_model('coarse').layout
  found = decoder.time_features(layout, 6)
  place = layout.target.start + 4 * 25 + 2  # its input: frame 25, level 2
  seconds = 25 / 50
  periods = np.array([0.04, (0.04 * 80)**0.5, 80])
  angles = 2 * np.pi * seconds / periods
  np.testing.assert_allclose(
      found[place], np.r_[np.sin(angles), np.cos(angles)], atol=1e-5)
  assert (found[:layout.placed[0].stop + 2] == 0).all()  # M has no time
  # The network adds them to its embeddings.
  stage = tiny_stage.trained('coarse', time_features=6)
  inputs = tiny_stage.batch_of(
      layout, tiny_stage.codes(layout))['decoder_input_tokens']
  without = {k: v for k, v in stage.params.items() if k != 'time_embedding'}
  none = dict(stage.params, time_embedding=np.zeros((6, 16), np.float32))
  plain = tiny_stage.stage_model('coarse')
  np.testing.assert_allclose(
      tiny_stage.logits(stage.model, none, inputs),
      tiny_stage.logits(plain, without, inputs), atol=1e-6)
  moved = tiny_stage.logits(stage.model, stage.params, inputs)
  assert np.abs(moved - tiny_stage.logits(plain, without, inputs)).max() > 1e-2


def test_time_features_come_in_pairs():
  with pytest.raises(errors.UserError, match='positive even number'):
    tiny_stage.config(time_features=7)


@pytest.mark.parametrize('name', NAMES)
def test_causal(name):
  """A token changes the logits after its position and none before."""
  trained = tiny_stage.trained(name)
  layout = trained.layout
  inputs = tiny_stage.batch_of(
      layout, tiny_stage.codes(layout))['decoder_input_tokens']
  base = tiny_stage.logits(trained.model, trained.params, inputs)
  place = layout.target.start + 40
  changed = inputs.copy()
  changed[:, place] = layout.target.first_id
  found = tiny_stage.logits(trained.model, trained.params, changed)
  flat = lambda x: x.reshape(len(inputs), layout.target.length, -1)
  moved = np.abs(flat(found) - flat(base)).max(axis=(0, 2))
  assert moved[:40].max() == 0 and moved[40] > 1e-4


def test_both_heads_agree_on_the_legal_ids():
  """Under the same tables the two heads give the same logits."""
  wide = tiny_stage.trained('fine', head='vocab')
  layout, table = wide.layout, wide.params['logits_embedding']
  narrow = tiny_stage.stage_model('fine', head='target')
  params = dict(wide.params, logits_embedding=table[
      layout.target.first_id:layout.target.last_id])
  inputs = tiny_stage.batch_of(
      layout, tiny_stage.codes(layout))['decoder_input_tokens']
  full = tiny_stage.logits(wide.model, wide.params, inputs)
  part = tiny_stage.logits(narrow, params, inputs).reshape(
      2, layout.target.length, -1)
  low, high = layout.legal_ranges()
  for p in range(layout.target.length):
    ids = slice(low[layout.target.start + p], high[layout.target.start + p])
    np.testing.assert_allclose(full[:, p, ids], part[:, p], atol=1e-5)


def test_axes_name_every_dimension():
  stage = tiny_stage.stage_model('coarse')
  params, axes = tiny_stage.init(stage), stage.logical_axes()
  is_axes = lambda x: isinstance(x, tuple)
  assert jax.tree.structure(params) == jax.tree.structure(axes, is_leaf=is_axes)
  ranks = jax.tree.map(lambda a, p: len(a) == p.ndim, axes, params,
                       is_leaf=is_axes)
  assert all(jax.tree.leaves(ranks))


def test_component_round_trip(tmp_path):
  trained = tiny_stage.trained('coarse')
  bundle.save_component(tmp_path / 'coarse', 'coarse', trained.config,
                        trained.spec, jax.tree.map(np.asarray, trained.params))
  found = model.from_component(bundle.load_component(tmp_path / 'coarse'))
  assert (found.spec, found.config) == (trained.spec, trained.config)
  jax.tree.map(np.testing.assert_array_equal, found.params, trained.params)


def test_settings_are_checked():
  with pytest.raises(errors.UserError, match='unknown head .*target, vocab'):
    decoder.DecoderConfig(head='both')
  with pytest.raises(errors.UserError, match='loss_block is -1'):
    decoder.DecoderConfig(loss_block=-1)
  with pytest.raises(errors.UserError, match='scan_unroll is -2'):
    decoder.DecoderConfig(scan_unroll=-2)
  for wrong in (1.5, 'x', None):
    with pytest.raises(errors.UserError, match='expected a whole number'):
      decoder.DecoderConfig(num_layers=wrong)
  with pytest.raises(errors.UserError, match='dropout_rate is 1.0'):
    decoder.DecoderConfig(dropout_rate=1.0)
  stage = tiny_stage.stage_model('fine')
  with pytest.raises(ValueError, match='expected at least 601'):
    stage.logits(tiny_stage.init(stage), jnp.zeros((1, 100), jnp.int32))
