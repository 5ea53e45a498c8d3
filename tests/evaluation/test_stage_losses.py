"""Stages whose loss is known, beside the baselines."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
import random_bundle
import tiny_stage

from musiclm_jax import bundle as bundle_lib
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import stage_losses
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.tokens import layout as layout_lib

K = random_bundle.SIZE
_SECONDS = tiny_stage.SECONDS['semantic']
_STAY = 0.9


def _copying(clips, seed):
  """Streams whose semantic codes are mostly those of the frame before."""
  rng = np.random.default_rng(seed)
  codes = rng.integers(0, K, (clips, _SECONDS * 25, 1))
  for t in range(1, codes.shape[1]):
    keep = rng.random(clips) < _STAY
    codes[keep, t] = codes[keep, t - 1]
  windows = rng.standard_normal((clips, 1, 128)).astype(np.float32)
  return streams_lib.Streams(
      dict(semantic=codes.astype(np.int32), mulan=windows),
      np.full(clips, _SECONDS))


class _Joint:

  def quantize(self, embeddings):
    return np.zeros((len(embeddings), 12), np.int32)


def _stage(nats_of):
  """A stage whose loss at each target token is `nats_of(token, before)`."""
  spec = tiny_stage.stage_model('semantic', K).spec
  layout = layout_lib.for_stage(spec)

  def loss(params, batch):
    del params
    tokens = batch['decoder_target_tokens'][:, layout.target.start:]
    before = batch['decoder_input_tokens'][:, layout.target.start:]
    weights = batch['decoder_loss_weights'][:, layout.target.start:]
    nats = nats_of(tokens, before)
    return 0.0, {'loss': (nats * weights).sum() / weights.sum()}

  return types.SimpleNamespace(
      spec=spec, layout=layout, params={}, model=types.SimpleNamespace(loss=loss))


def _copy_nats(tokens, before):
  """The cost under the chain itself: no model of one frame can do better."""
  same, other = _STAY + (1 - _STAY) / K, (1 - _STAY) / K
  return jnp.where(tokens == before, -np.log(same), -np.log(other))


def _report(nats_of):
  return stage_losses.report(
      _stage(nats_of), _copying(12, 1), _copying(40, 0), _Joint())


def test_a_stage_that_copies_is_caught_by_the_bigram():
  report = _report(_copy_nats)
  assert report.loss[0] < 0.4 * report.unigram[0]  # a unigram is impressed,
  assert report.loss[0] == pytest.approx(report.bigram[0], abs=0.07)
  slightly_worse = _report(lambda t, b: _copy_nats(t, b) + 0.1)
  assert 'no better than copying' in slightly_worse.verdict()
  assert report.repeats[0] == pytest.approx(_STAY + (1 - _STAY) / K, abs=0.02)


def test_a_stage_that_knows_more_is_told_so():
  report = _report(lambda t, b: _copy_nats(t, b) * 0.3)
  assert report.verdict().startswith('better than copying')


def test_a_stage_that_guesses_is_told_so():
  report = _report(lambda t, b: jnp.full(t.shape, np.log(K)))
  assert report.loss[0] == pytest.approx(np.log(K), abs=1e-5)
  assert 'no better than the frequencies' in report.verdict()
  assert 'does not heed its conditions' in report.verdict()


def test_padding_has_no_loss():
  streams = _copying(12, 1)
  seconds = np.array([_SECONDS, 2] * 6)
  short = streams_lib.Streams(dict(
      streams.features, semantic=streams_lib._ended(
          streams.semantic, seconds, 25)), seconds)
  cost = lambda t, b: jnp.where(t == 0, 1e6, 1.0)
  report = stage_losses.report(_stage(cost), short, None, _Joint())
  assert report.loss[0] == pytest.approx(1, abs=1e-6)
  assert report.bigram is None


@pytest.mark.parametrize('name', ['semantic', 'coarse', 'fine'])
def test_random_weights_are_no_better_than_guessing(folder, name):
  bundle = bundle_lib.Bundle(folder / 'bundle')
  data = held_out.load(folder / 'corpus', 4, _SECONDS, 6, 24_000)
  encode = lambda clips: streams_lib.encode(bundle, clips)
  report = stage_losses.report(
      bundle.get(name), encode(data.clips), encode(data.train),
      bundle.get('mulan'))
  assert report.loss.mean() > 0.9 * np.log(K)
  assert report.loss.mean() > report.unigram.mean()
  levels = dict(semantic=1, coarse=4, fine=8)[name]
  assert all(len(x) == levels for x in (
      report.loss, report.unigram, report.bigram, report.usage))
  assert set(report.figures()) >= {
      f'{name}_loss', f'{name}_unigram_entropy', f'{name}_bigram_entropy'}
