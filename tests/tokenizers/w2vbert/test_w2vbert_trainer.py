"""Training: rates, one batch learned, and runs that stop for their reasons."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny_w2vbert

from musiclm_jax import configs
from musiclm_jax.tokenizers.w2vbert import trainer
from musiclm_jax.training import gates
from musiclm_jax.training import loop
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import optim
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

TINY = tiny_w2vbert.TINY
# As small as it goes: it is not to learn.
DULL = dataclasses.replace(
    TINY, conv_channels=(2, 2), dim=4, num_heads=1, mlp_dim=4, codebook_dim=4,
    prediction_blocks=1)


@dataclasses.dataclass(frozen=True)
class Same(trainable.BatchSource):
  """A batch source of one batch."""

  audio: np.ndarray

  def batches(self, start_step, share=shares.WHOLE):
    del start_step
    while True:
      yield share.of({'audio': self.audio})

  def eval_batches(self, share=shares.WHOLE):
    yield share.of({'audio': self.audio})


def test_gumbel_temperature_falls_to_its_floor():
  trained = trainer.W2vBertTrainable(
      dataclasses.replace(TINY, gumbel_decay=0.5))
  values = [float(trained.gumbel_temperature(s)) for s in (0, 1, 2, 9)]
  np.testing.assert_allclose(values, [2.0, 1.0, 0.5, 0.5])


@pytest.mark.slow
def test_encoder_and_quantizer_learn_at_their_share_of_the_rate():
  batch, rng = {'audio': tiny_w2vbert.play(2, 1.0)}, jax.random.PRNGKey(1)
  moved = {}
  for share in (1.0, 0.25):
    trained = trainer.W2vBertTrainable(TINY, optim.OptimizerConfig(
        learning_rate=1e-3, warmup_steps=1, weight_decay=0.0),
        target_rate=share)
    state = jax.jit(trained.init)(jax.random.PRNGKey(0), batch)
    after, _ = jax.jit(trained.update)(state, batch, rng)
    moved[share] = jax.tree.map(
        lambda a, b: a - b, after.params, state.params)
  for name, full in moved[1.0].items():
    factor = 0.25 if name in ('encoder', 'quantizer') else 1.0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, factor * b, atol=3e-6),
        moved[0.25][name], full)


def test_learns_one_batch_and_no_gate_stops_it(tmp_path):
  """Far below what guessing gives, with spans drawn anew at every step.

  A candidate that equals the true one cannot be told from it, so that only
  others count here.
  """
  config = dataclasses.replace(
      TINY, dim=32, conv_channels=(8, 8), gumbel_decay=0.97, gumbel_noise=0.2,
      logit_scale=4.0, exclude_equal=True)
  trained = trainer.W2vBertTrainable(
      config, optim.OptimizerConfig(
          learning_rate=8e-3, warmup_steps=10, schedule='constant'),
      target_rate=0.05, stuck_evaluations=2)
  result = loop.train(
      trained, Same(tiny_w2vbert.play(2, 2.0)), str(tmp_path), 300,
      eval_every=100, checkpoint_every=0, log_every=100)
  assert result.reason == 'finished' and int(result.state.step) == 300
  assert len(metrics_writer.read(tmp_path, 'eval')) == 3
  after = result.metrics
  assert 3.5 < after['contrastive_chance'] <= np.log(101)
  # Seeds reach 0.6 and less after 300 steps; so do the predictions below.
  assert after['contrastive'] < 0.75 * after['contrastive_chance']
  np.testing.assert_allclose(
      after['contrastive_over_chance'],
      after['contrastive'] / after['contrastive_chance'], rtol=1e-3)
  # Below the entropy of the ids: context is used, not their frequency alone.
  assert after['prediction'] < 0.7 * after['prediction_chance']
  assert after['contrastive_accuracy'] > 0.4
  assert after['prediction_accuracy'] > 0.3
  assert after['code_perplexity'] > 6.0


def _without_learning():
  return trainer.W2vBertTrainable(
      DULL, optim.OptimizerConfig(learning_rate=0.0), stuck_evaluations=3)


def test_a_loss_at_chance_stops_the_run(tmp_path):
  """Without learning: the candidates differ, the context tells nothing."""
  with pytest.raises(gates.Tripped) as caught:
    loop.train(_without_learning(), Same(tiny_w2vbert.play(2, 2.0)),
               str(tmp_path), 20, log_every=1, eval_every=2,
               checkpoint_every=20)
  event, = json.loads((tmp_path / 'run.json').read_text())['events']
  assert event['gate'] == 'contrastive_chance'
  assert event['step'] == 6  # three evaluations, no sooner
  message = str(caught.value)
  assert 'contrastive_over_chance is ' in message
  assert 'over 0.99 for 3 evaluations' in message
  assert 'sits at chance (ln 101' in message and 'warm-up' in message


def test_a_collapsed_codebook_is_named_before_what_follows_from_it():
  """Silence: nearly every step has the same id, all candidates are equal."""
  trained = _without_learning()
  batch = {'audio': np.zeros((2, 48_000), np.float32)}
  state = jax.jit(trained.init)(jax.random.key(0), batch)
  row = jax.jit(trained.evaluate)(state, batch, jax.random.key(1))
  first, second = (gate.tripped([row] * 3) for gate in trained.gates())
  assert first.startswith('code_perplexity is 1.')
  assert 'under 2 for 3 evaluations' in first
  assert 'has collapsed' in first and 'diversity_weight' in first
  assert second.startswith('contrastive_over_chance is 1')


def test_where_the_gates_stand():
  codebook, chance = trainer.W2vBertTrainable().gates()
  rows = lambda **metrics: [metrics] * 5
  assert codebook.tripped(rows(code_perplexity=10.0))  # of 1024 entries
  assert not codebook.tripped(rows(code_perplexity=11.0))
  assert chance.tripped(rows(contrastive_over_chance=1.0))
  assert not chance.tripped(rows(contrastive_over_chance=0.98))
  assert not chance.tripped(rows(contrastive_over_chance=1.0)[:4])
  assert not trainer.W2vBertTrainable(stuck_evaluations=0).gates()


@pytest.mark.parametrize('size', ['demo', 'gpu', 'base'])
def test_no_gate_closes_within_the_warm_up(size):
  arguments = configs.load(f'w2vbert_{size}', dict(
      MODEL_DIR='/nowhere', CORPUS_DIR='/nowhere')).arguments
  trained = arguments['trainable']
  first = trained.stuck_evaluations * arguments['eval_every']
  assert first >= 2 * trained.optimizer.warmup_steps
