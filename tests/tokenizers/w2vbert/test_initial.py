"""Starting from audio: ids that last, heads that see them, nothing else moved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_w2vbert

from musiclm_jax import errors
from musiclm_jax.tokenizers.w2vbert import losses
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import trainer
from musiclm_jax.training import optim

CONFIG = dataclasses.replace(tiny_w2vbert.TINY, logit_scale=4.0)


@pytest.fixture(scope='module')
def started():
  """(audio, plain parameters, those started from the audio)."""
  audio = tiny_w2vbert.play(4, 3.0)
  params = [
      jax.jit(trainer.W2vBertTrainable(
          CONFIG, optim.OptimizerConfig(), start_from_audio=start).init)(
              jax.random.key(0), {'audio': audio}).params
      for start in (False, True)]
  return audio, *params


@pytest.fixture(scope='module')
def heard(started):
  """Features and `Outputs` of nothing masked, for either start."""
  module = w2vbert_model.W2vBert(CONFIG)
  apply = jax.jit(lambda params: (
      module.apply({'params': params}, started[0], method='encode')[0],
      module.apply({'params': params}, started[0])))
  return [apply(params) for params in started[1:]]


def test_only_the_four_parts_differ(started):
  _, plain, audio = started
  assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, audio)
  for name in plain:
    same = jax.tree.all(jax.tree.map(
        lambda a, b: bool((a == b).all()), plain[name], audio[name]))
    assert same == (name not in ('input', 'quantizer', 'context', 'logits'))


def test_ids_are_the_nearest_entries_and_last_longer(started, heard):
  codebook = np.asarray(started[2]['quantizer']['codebook'])
  features, out = heard[1]
  flat = np.asarray(features).reshape(-1, CONFIG.dim)
  flat = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
  distance = np.square(flat[:, None] - codebook).sum(-1)
  ids = np.asarray(out.ids)
  assert (distance.argmin(1) == ids.ravel()).mean() > 0.99
  # k-means: each entry is the mean of what is nearest to it, or nearly.
  explained = 1 - distance.min(1).sum() / np.square(flat).sum()
  assert explained > 0.7
  stays = [np.mean(i[:, 1:] == i[:, :-1])
           for i in (np.asarray(heard[0][1].ids), ids)]
  assert stays[1] > stays[0]
  used = losses.code_perplexity(ids, np.ones(ids.shape, bool), 32)
  assert used > 16
  assert np.std(out.code_logits) == pytest.approx(CONFIG.logit_scale, rel=0.01)


def test_the_input_is_standardised(started, heard):
  put_in = heard[1][0] @ started[2]['input']['kernel'] + (
      started[2]['input']['bias'])
  np.testing.assert_allclose(put_in.mean((0, 1)), 0.0, atol=1e-3)


def test_a_head_that_gives_the_feature_names_its_id(started, heard):
  """What both heads start out to do with the right context."""
  params, (features, out) = started[2], heard[1]
  valid = np.ones(features.shape[:2], bool)
  context = np.asarray(w2vbert_model.standardize(features, valid))
  assert np.array_equal(params['context']['kernel'], np.eye(CONFIG.dim))
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  found = unit(context) @ unit(np.asarray(params['quantizer']['codebook'])).T
  assert np.mean(found.argmax(-1) == out.ids) > 0.8
  logits = context @ params['logits']['kernel']
  chance = np.bincount(np.ravel(out.ids)).max() / np.size(out.ids)
  assert np.mean(logits.argmax(-1) == out.ids) > 2 * chance


def test_two_widths_that_differ_are_refused():
  trained = trainer.W2vBertTrainable(
      dataclasses.replace(CONFIG, codebook_dim=8), start_from_audio=True)
  with pytest.raises(errors.UserError, match='codebook_dim=8 and dim=16'):
    jax.eval_shape(trained.init, jax.random.key(0),
                   {'audio': jnp.zeros((1, 24_000))})
