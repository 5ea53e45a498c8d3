"""Specs: derived rates, checks, fingerprints and differences."""

import dataclasses
import doctest

import pytest

from musiclm_jax import specs
from musiclm_jax.systems.musiclm import streams


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


@pytest.mark.parametrize('spec, expected', [
    (specs.AudioSpec(), '47ae3b653e8e04d8'),
    (specs.CodecSpec(), '0a846b729f0c3de3'),
    (specs.SemanticSpec(), 'd52fb5a462135a8a'),
    (specs.JointSpec(), '49a89e454776d382'),
    (specs.MelodySpec(), '542dc57285a1016e'),
    (specs.TokenSpec(), 'ce506a7760288da1'),
    (specs.StageSpec('semantic'), '12da66a0ba1c936f'),
    (specs.StageSpec('semantic', conditions=('mulan', 'melody')),
     '930becd89c540162'),
    (specs.StageSpec('coarse'), '4188ebc6fdbb4b97'),
    (specs.StageSpec('fine'), '34df23caffcb6d6f'),
], ids=lambda x: getattr(x, 'name', type(x).__name__))
def test_fingerprints_on_disk_stay(spec, expected):
  """Bundles and caches store these: another one would refuse them all."""
  assert specs.fingerprint(spec) == expected


def test_stage_specs_take_the_defaults_of_their_system():
  stage = specs.StageSpec('coarse')
  assert stage.system.name == 'musiclm'
  assert stage.crop_seconds == 10 and stage.conditions == ('mulan', 'semantic')
  assert [s.name for s in stage.streams] == ['mulan', 'semantic', 'coarse']
  assert stage.sources == ('mulan', 'melody', 'semantic', 'acoustic')
  own = specs.StageSpec('coarse', crop_seconds=4, conditions=('mulan',))
  assert own.crop_seconds == 4 and own.conditions == ('mulan',)


def test_two_systems_cannot_have_a_stage_of_one_name():
  stages = (specs.StageDefaults('coarse', (), 5),)
  with pytest.raises(ValueError, match="'coarse'.*than those of musiclm"):
    specs.register(specs.SystemSpec('other', lambda tokens: (), stages))
  assert specs.StageSpec('coarse').crop_seconds == 10


@pytest.mark.parametrize('values, words', [
    (dict(), 'rate_hz of toy is 0'),
    (dict(kind='lines', rate_hz=2), "kind is 'lines'"),
    (dict(kind=specs.WINDOWS, window_seconds=4), 'window_stride_seconds'),
    (dict(kind=specs.CROP), 'window_seconds'),
    (dict(rate_hz=2, codebook_size=0), 'codebook_size'),
    (dict(rate_hz=2, first_level=3, source_codebooks=4), 'first_level'),
])
def test_impossible_streams_are_refused(values, words):
  values = {'codebook_size': 8, **values}
  with pytest.raises(ValueError, match=words):
    specs.StreamSpec('toy', 'toy', 2, **values)


def test_a_stream_of_windows_needs_a_whole_one():
  stream = specs.StreamSpec('toy', 'toy', 1, 8, kind=specs.WINDOWS,
                            window_seconds=4, window_stride_seconds=3)
  assert [stream.num_frames(s) for s in (4, 6, 7, 30)] == [1, 1, 2, 9]
  with pytest.raises(ValueError, match='at least one window of 4 s'):
    stream.num_frames(3)


def test_worked_examples():
  for module in (specs, streams):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


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
