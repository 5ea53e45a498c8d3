"""What training does to conditions: shares, whose tokens, and nothing else."""

import fake_tokens
import former_cache
import numpy as np
import pytest
import tensorflow as tf

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import conditioning
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import mixture
from musiclm_jax.tokens import preprocessors
from musiclm_jax.tokens import source as source_lib
from musiclm_jax.tokens import tasks

COUNT = 400


def stage(name='coarse', crop=4):
  return specs.StageSpec(name, fake_tokens.TOKENS, crop)


@pytest.fixture(name='example', scope='module')
def example_fixture(cache_dir):
  cache = cache_lib.Cache(cache_dir)
  return tasks.parse(cache.records('train').read(0), cache.described())


def build(example, seed, *settings, spec=stage()):
  built = preprocessors.crop_and_build(
      example, [3, seed], spec, dict(mulan=fake_tokens.Joint.codebooks),
      conditioning.Conditioning(*settings))
  return {name: value.numpy() for name, value in built.items()}


def mulan_codes(built, spec=stage()):
  place = layout_lib.for_stage(spec).segment('mulan')
  return place.to_codes(built['inputs'][place.start:place.stop])[0]


def within(found, share):
  """Three standard deviations of a binomial share."""
  return abs(found - share) < 3 * np.sqrt(share * (1 - share) / COUNT)


def test_the_cache_holds_the_captions_embeddings(example):
  np.testing.assert_allclose(
      preprocessors.vectors(example['mulan_text'], 8),
      [fake_tokens.text_embedding(text) for text in ('tune 0', 'lively')],
      atol=5e-4)  # half precision


def test_each_condition_has_draws_of_its_own(example):
  layout = layout_lib.for_stage(stage())
  whole = [build(example, seed) for seed in range(COUNT)]
  dropped = {name: [] for name in ('mulan', 'semantic')}
  for seed, kept in enumerate(whole):
    found = build(example, seed, {'mulan': 0.3, 'semantic': 0.5})
    np.testing.assert_array_equal(found['targets'], kept['targets'])
    for name, gone in dropped.items():
      place = layout.segment(name)
      part = slice(place.start, place.stop)
      gone.append(bool(np.all(found['inputs'][part] == 0)))
      if gone[-1]:
        kept['inputs'][part] = 0
    # What is not dropped, and the separators, stay.
    np.testing.assert_array_equal(found['inputs'], kept['inputs'])
  mulan, semantic = (np.array(dropped[n]) for n in ('mulan', 'semantic'))
  assert within(mulan.mean(), 0.3) and within(semantic.mean(), 0.5)
  assert within((mulan & semantic).mean(), 0.15)


def test_a_share_of_the_sequences_is_asked_with_captions(example):
  texts = [tuple(fake_tokens.residual_codes(fake_tokens.text_embedding(text)))
           for text in ('tune 0', 'lively')]
  counts = {None: 0, **{text: 0 for text in texts}}
  for seed in range(COUNT):
    own = mulan_codes(build(example, seed))
    codes = mulan_codes(build(example, seed, (), 0.6))
    counts[None if np.array_equal(codes, own) else tuple(codes)] += 1
  for text in texts:
    assert within(counts[text] / COUNT, 0.3)
  assert within(counts[None] / COUNT, 0.4)


def test_a_track_without_captions_keeps_its_audio(example):
  silent = dict(example, mulan_text=tf.zeros([0, 8]))
  for seed in range(8):
    np.testing.assert_array_equal(build(silent, seed, (), 1.0)['inputs'],
                                  build(example, seed)['inputs'])


def test_noise_moves_an_embedding_by_its_length(example):
  """At 0.01 codes stay, at 10 the audio is lost in it."""
  same = lambda noise: np.mean([
      mulan_codes(build(example, seed, (), 0.0, noise))[0] ==
      mulan_codes(build(example, seed))[0] for seed in range(100)])
  assert same(0.01) > 0.9 and same(10.0) < 0.4


@pytest.mark.parametrize('settings, name, words', [
    (dict(dropout={'melody': 0.1}), 'coarse', "names 'melody'"),
    (dict(text_share=0.5), 'fine', 'is not conditioned'),
    (dict(noise=0.5), 'fine', 'is not conditioned')])
def test_what_a_stage_has_no_use_for(cache_dir, settings, name, words):
  source = source_lib.TaskBatches(
      str(cache_dir), stage(name), 2,
      conditioning=conditioning.Conditioning(**settings))
  with pytest.raises(errors.UserError, match=words):
    next(source.batches(0))


@pytest.mark.parametrize('settings', [
    dict(dropout={'mulan': 1.5}), dict(dropout={'mulan': 'half'}),
    dict(dropout=0.5), dict(text_share=-0.1), dict(noise=float('nan'))])
def test_impossible_values(settings):
  with pytest.raises(errors.UserError):
    conditioning.Conditioning(**settings)


def test_an_older_cache_trains_but_has_no_text(cache_dir, tmp_path):
  """Format v2: records without the captions' embeddings."""
  former_cache.write(cache_dir, tmp_path / 'cache', former_cache.V2)
  batches = lambda share: source_lib.TaskBatches(
      str(tmp_path / 'cache'), stage(), 2,
      conditioning=conditioning.Conditioning(text_share=share)).batches(0)
  next(batches(0.0))
  with pytest.raises(errors.UserError, match='older token cache'):
    next(batches(0.5))


def test_a_cache_of_floats_trains_as_one_of_halves(cache_dir, tmp_path):
  """Format v3: embeddings as lists of float32."""
  former_cache.write(cache_dir, tmp_path / 'cache', former_cache.V3)
  assert cache_lib.Cache(tmp_path / 'cache').described()['mulan']['shape'] == [
      None, 8]
  found = [next(source_lib.TaskBatches(
      str(place), stage(), 4, conditioning=conditioning.Conditioning(
          text_share=0.5)).batches(3)) for place in (cache_dir, tmp_path / 'cache')]
  for name, values in found[0].items():
    np.testing.assert_array_equal(values, found[1][name])
  with pytest.raises(errors.UserError, match='precompute the older one again'):
    mixture.load(f'{cache_dir},{tmp_path / "cache"}')


def test_what_a_stage_can_go_without():
  of = lambda dropout: conditioning.optional(
      {'conditioning': {'dropout': dropout}})
  assert of({'mulan': 0.15, 'melody': 0.5, 'semantic': 0.0}) == (
      'melody', 'mulan')
  assert conditioning.optional({'steps': 3}) == ()  # of an older bundle
  for damaged in (None, 3, {'dropout': None}):
    with pytest.raises(errors.UserError, match='damaged'):
      conditioning.optional({'conditioning': damaged})


def test_macros_reach_the_source():
  source = configs.load('coarse_demo', [
      "MODEL_DIR = 'x'", "CACHE_DIR = 'y'", 'TEXT_SHARE = 0.25',
      "CONDITION_DROPOUT = {'mulan': 0.2}", 'CONDITION_NOISE = 0.5',
  ]).arguments['source']
  assert source.conditioning == conditioning.Conditioning(
      {'mulan': 0.2}, 0.25, 0.5)
  assert configs.load('coarse_base', [
      "MODEL_DIR = 'x'", "CACHE_DIR = 'y'",
  ]).arguments['source'].conditioning == conditioning.Conditioning()
