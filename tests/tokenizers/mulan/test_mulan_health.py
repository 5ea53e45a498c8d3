"""MuLan: runs that stop for their reasons, codebooks that are not exported."""

import json

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax.nn import resnet
from musiclm_jax.tokenizers.mulan import model as mulan_model
from musiclm_jax.tokenizers.mulan import rvq
from musiclm_jax.tokenizers.mulan import trainer
from musiclm_jax.training import gates
from musiclm_jax.training import loop
from musiclm_jax.training import optim
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

# As small as it goes: it is not to learn.
DULL = mulan_model.MulanConfig(num_mels=8, audio=resnet.ResNetConfig(
    stage_blocks=(1,), stage_channels=(4,), block='basic', stem='patches',
    stem_channels=4, norm_groups=2))


class Same(trainable.BatchSource):
  """A batch source of one batch."""

  def __init__(self, audio):
    rng = np.random.default_rng(1)
    self.batch = dict(
        audio=audio.astype(np.float32),
        track=np.arange(len(audio), dtype=np.int32),
        text_features=rng.normal(size=(len(audio), 384)).astype(np.float32))

  def batches(self, start_step, share=shares.WHOLE):
    del start_step
    while True:
      yield share.of(self.batch)

  def eval_batches(self, share=shares.WHOLE):
    yield share.of(self.batch)


def _noise(count):
  """[count, 10 s] noise of different colours."""
  noise = np.random.default_rng(0).normal(size=(count, 240_000))
  colours = np.linspace(0.01, 1, 120_001)**np.linspace(-2, 2, count)[:, None]
  noise = np.fft.irfft(np.fft.rfft(noise) * colours)
  return 0.1 * noise / noise.std(1, keepdims=True)


def _stopped(model_dir, source):
  """(message, name of the gate) of a run without learning."""
  trained = trainer.MulanTrainable(
      DULL, optim.OptimizerConfig(learning_rate=0.0), stuck_rows=3)
  with pytest.raises(gates.Tripped) as caught:
    loop.train(trained, source, str(model_dir), 20, log_every=1,
               eval_every=20, checkpoint_every=20)
  event = json.loads((model_dir / 'run.json').read_text())['events'][0]
  assert event['step'] in (3, 4)  # as soon as three rows in a row are stuck
  return str(caught.value), event['gate']


def test_a_loss_at_chance_stops_the_run(tmp_path):
  """Different recordings and captions, of which nothing is learned."""
  message, gate = _stopped(tmp_path, Same(_noise(8)))
  assert gate == 'contrastive_chance'
  assert 'loss_over_chance is ' in message and 'over 0.98' in message
  assert 'ln 2(B-1)' in message and 'captions belong' in message


def test_embeddings_in_one_point_stop_the_run(tmp_path):
  """All captions are the same."""
  source = Same(_noise(4))
  source.batch['text_features'][:] = source.batch['text_features'][0]
  message, gate = _stopped(tmp_path, source)
  assert gate == 'embedding_collapse'
  assert 'spread/text is ' in message and 'under 0.01' in message
  assert 'have collapsed' in message and 'captions that are all' in message


def test_a_collapsed_codebook_is_not_exported():
  rng = np.random.default_rng(0)
  codes = rng.integers(0, 64, (500, 3))
  rvq.check_usage(codes, 64, 0.5)  # nearly all entries are in use
  codes[:, 0] = 7
  with pytest.raises(errors.UserError) as caught:
    rvq.check_usage(codes, 64, 0.5)
  message = str(caught.value)
  assert 'the 500 vectors it was fitted to use 1 of the 64' in message
  assert 'level 1' in message and 'nearly all the same' in message
  rvq.check_usage(codes, 64, 0.0)  # on request
  few = np.stack([np.arange(40), np.zeros(40, int)], axis=1)
  rvq.check_usage(few, 64, 0.5)  # told apart by the first level: no more is left
