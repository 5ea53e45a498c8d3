"""Conditions against numbers worked out by hand, and a stage that heeds M."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import conditions
from musiclm_jax.evaluation import streams as streams_lib


class Joint:
  """Two levels: which unit vector is nearest, and nothing more."""

  codebooks = np.stack([np.eye(4), np.zeros((4, 4))]).astype(np.float32)

  def quantize(self, embeddings):
    first = np.argmax(embeddings, axis=-1)
    return np.stack([first, np.zeros_like(first)], axis=-1)


def test_pairs_against_hand():
  audio = np.eye(4)
  text = np.eye(4)[[0, 1, 3, 2]] * 0.8  # two of four in their cell
  section, figures = conditions.pairs(Joint(), audio, text)
  assert figures['pairs_equal_level1'] == 0.5
  assert figures['pairs_equal_level2'] == 1.0
  # Rolled: 2 0 1 3 against 0 1 2 3.
  assert figures['pairs_equal_level1_shuffled'] == 0.25
  np.testing.assert_allclose(figures['pairs_cosine'], 0.4)
  np.testing.assert_allclose(figures['pairs_audio_variance_left'], 0, atol=1e-9)
  # Each is 0.2 from its cell, and 0.64 * 3 / 4 from the mean of all.
  np.testing.assert_allclose(
      figures['pairs_text_variance_left'], 0.04 / (0.64 * 0.75), rtol=1e-5)
  assert section.title == 'Text beside audio: 4 pairs'


def _rigged():
  """A stage whose loss is what is asked of M, and streams of two clips."""
  stage = tiny_stage.trained('coarse')
  layout = stage.layout
  place = layout.segment('mulan')

  def target_nats(unused_params, batch):
    """0.5 in the first second where M's first code is the clip's number, 1 in
    the later ones, whatever M is; 2 where there is no M."""
    tokens = batch['decoder_target_tokens']
    asked = tokens[:, place.start] - place.first_id
    clip = tokens[:, layout.target.start] - layout.target.first_id
    first = jnp.where(asked < 0, 2.0, jnp.where(asked == clip, 0.5, 1.5))
    second = layout.target.length // stage.spec.crop_seconds
    nats = jnp.where(jnp.arange(layout.target.length) < second,
                     first[:, None], 1.0)
    return nats, batch['decoder_loss_weights'][:, layout.target.start:]

  model = types.SimpleNamespace(target_nats=target_nats)
  fake = types.SimpleNamespace(
      model=model, params=None, spec=stage.spec, layout=layout)
  frames = stage.spec.crop_seconds * 50
  acoustic = np.zeros((3, frames, 12), np.int32)
  acoustic[:, 0, 0] = [0, 1, 2]
  streams = streams_lib.Streams(
      dict(acoustic=acoustic, mulan=np.eye(3, 12)[:, None],
           semantic=np.zeros((3, frames // 2, 1), np.int32)),
      np.full(3, stage.spec.crop_seconds))
  return fake, streams


class Named(Joint):
  """12 levels, as the stage has; the first says which vector it is."""

  def quantize(self, embeddings):
    return np.repeat(np.argmax(embeddings, -1)[:, None], 12, axis=1)


def test_nats_under_each_condition():
  stage, streams = _rigged()
  text = np.eye(3, 12)[[0, 1, 1]]  # one caption is another clip's
  found = conditions.nats(stage, streams, Named(), text)
  np.testing.assert_allclose(found.first['audio'], [0.5, 0.5, 0.5])
  np.testing.assert_allclose(found.first['text'], [0.5, 0.5, 1.5])
  np.testing.assert_allclose(found.first['audio_other'], [1.5, 1.5, 1.5])
  np.testing.assert_allclose(found.first['text_other'], [1.5, 1.5, 1.5])
  np.testing.assert_allclose(found.first['nothing'], [2, 2, 2])
  np.testing.assert_allclose(found.whole['audio'], [0.75] * 3)
  section, figures = conditions._stage('coarse', found)  # pylint: disable=protected-access
  np.testing.assert_allclose(figures['coarse_first_second_audio_worth'], 1.0)
  assert figures['coarse_first_second_text_worth_low'] < (
      figures['coarse_first_second_text_worth'])
  assert section.verdict.startswith('in the first second its own M is worth 1')


def test_past_a_clips_end_nothing_counts():
  stage, streams = _rigged()
  acoustic = streams.acoustic.copy()
  acoustic[1, 50:] = -1  # a second long
  short = dataclasses.replace(
      streams, features=dict(streams.features, acoustic=acoustic))
  found = conditions.nats(stage, short, Named(), np.eye(3, 12))
  np.testing.assert_allclose(found.whole['audio'], [0.75, 0.5, 0.75])


def test_a_bundle_without_mulan(tmp_path):
  from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
  from musiclm_jax import specs  # pylint: disable=g-import-not-at-top
  bundle_lib.write_manifest(tmp_path, specs.TokenSpec())
  with pytest.raises(errors.UserError, match='has no mulan'):
    conditions.evaluate(bundle_lib.Bundle(tmp_path), tmp_path)
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', 'conditions', '--bundle', str(tmp_path)])
  assert stopped.value.code == 2
