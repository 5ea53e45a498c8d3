"""Specs: derived rates, checks, fingerprints and differences."""

import dataclasses

import pytest

from musiclm_jax import specs


def test_the_papers_rates_follow_from_the_strides():
  codec = specs.CodecSpec()
  assert codec.hop_samples == 480
  assert codec.frame_rate_hz == 50
  assert codec.bitrate_bps == 6_000
  assert codec.num_frames(1) == 1
  assert codec.num_frames(480) == 1
  assert codec.num_frames(481) == 2
  assert specs.SemanticSpec().frame_rate_hz == 25
  assert specs.TokenSpec().codec_frames_per_semantic == 2


@pytest.mark.parametrize('seconds, windows', [(3, 1), (10, 1), (11, 2), (30, 21)])
def test_mulan_windows(seconds, windows):
  assert specs.JointSpec().num_windows(seconds) == windows


@pytest.mark.parametrize('seconds, windows', [(4, 1), (10, 3), (30, 9)])
def test_melody_windows(seconds, windows):
  assert specs.MelodySpec().num_windows(seconds) == windows


def test_impossible_rates_are_refused():
  with pytest.raises(ValueError, match='strides'):
    specs.CodecSpec(strides=(7, 7))
  with pytest.raises(ValueError, match='codec.sample_rate_hz'):
    specs.TokenSpec(codec=specs.CodecSpec(sample_rate_hz=48_000))
  with pytest.raises(ValueError, match='coarse_codebooks'):
    specs.CodecSpec(coarse_codebooks=12)
  with pytest.raises(ValueError, match="one of.*semantic"):
    specs.StageSpec('middle')


def test_round_trip_and_fingerprint():
  stage = specs.StageSpec('coarse')
  again = specs.from_dict(specs.StageSpec, specs.to_dict(stage))
  assert again == stage
  assert specs.fingerprint(again) == specs.fingerprint(stage)
  other = dataclasses.replace(stage, crop_seconds=5)
  assert specs.fingerprint(other) != specs.fingerprint(stage)


def test_difference_names_the_fields():
  found = specs.TokenSpec(
      codec=specs.CodecSpec(num_codebooks=8),
      joint=specs.JointSpec(embedding_dim=64))
  assert specs.difference(found, specs.TokenSpec()) == [
      'codec.num_codebooks: 8, expected 12',
      'joint.embedding_dim: 64, expected 128']


def test_unknown_fields_are_refused():
  with pytest.raises(ValueError, match='has no field'):
    specs.from_dict(specs.CodecSpec, {'stride': 3})
