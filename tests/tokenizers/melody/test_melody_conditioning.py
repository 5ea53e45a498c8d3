"""A melody among a stage's conditions: cache, sequences, dropout, decoding."""

import dataclasses
import json
import re
import types

import fake_tokens
import jax
import numpy as np
import pytest
import tiny_stage

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler
from musiclm_jax.systems.musiclm import tracks
from musiclm_jax.systems.musiclm import windows
from musiclm_jax.systems.musiclm.stages import model as stage_lib
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokens import conditioning
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import precompute
from musiclm_jax.tokens import preprocessors
from musiclm_jax.tokens import source as source_lib
from musiclm_jax.tokens import tasks
from musiclm_jax.training import optim

_WITH = ('mulan', 'melody')


class FakeMelody:
  """Code q of the window at second w is that second's mark + q."""

  codebooks = None

  def encode(self, audio, stride_seconds):
    assert stride_seconds == 1 and len(audio) == 1
    marks = np.round(audio[0, ::fake_tokens.RATE_HZ] * 32767).astype(int)
    assert np.all(marks > 0), 'padding is not heard'
    marks = marks[:max(1, len(marks) - 3)]
    return ((marks[:, None] + np.arange(24)) % 512).reshape(1, -1)


def _tokenizers(melody=True):
  made = fake_tokens.tokenizers()
  if not melody:
    return made
  return dataclasses.replace(
      made, melody=FakeMelody(), hashes=dict(made.hashes, melody='m'))


@pytest.fixture(name='caches', scope='module')
def _caches(tmp_path_factory):
  """{True: a cache with melody, False: one without}."""
  root = tmp_path_factory.mktemp('melody_cache')
  corpus = fake_tokens.write_corpus(root / 'corpus')
  return {melody: precompute.tokenize(
      _tokenizers(melody), corpus, root / f'cache{melody}', shard_seconds=60)
          for melody in (True, False)}


def _stage(name='semantic', crop=0, conditions=_WITH):
  return specs.StageSpec(name, fake_tokens.TOKENS, crop, conditions)


def test_the_prefix_of_ten_seconds_has_84_tokens():
  layout = layout_lib.for_stage(specs.StageSpec(
      'semantic', crop_seconds=10, conditions=_WITH))
  mulan, melody, target = layout.placed
  assert mulan.length + melody.length == 84 and melody.length == 72
  assert [(p.start, p.stop) for p in layout.placed] == [
      (0, 12), (13, 85), (86, 336)]
  # Two separators, 12 x 1024 MuLan ids, 24 x 512 melody ids.
  assert [p.first_id for p in layout.placed] == [3, 12_291, 24_579]
  assert layout.vocab_size == 24_579 + 1024 and target.length == 250
  half = layout_lib.for_stage(specs.StageSpec('semantic', conditions=_WITH))
  assert half.segment('melody').length == 216 and half.length == 980


def test_the_cache_holds_a_window_for_every_second(caches):
  cache = caches[True]
  assert cache.has_melody and not caches[False].has_melody
  assert cache.fingerprint != caches[False].fingerprint
  assert cache.about['bundle']['melody'] == 'm'
  stored = cache.records('train')
  for track, seconds in enumerate((45, 33, 12, 7, 3)):
    found = tasks.parse(stored.read(track), cache.described())['melody']
    marks = fake_tokens.marks(track, max(1, seconds - 3))
    np.testing.assert_array_equal(found, marks[:, None] + np.arange(24))
  info = json.loads((cache.streams_dir / 'info.train.json').read_text())
  assert info['features']['melody'] == dict(shape=[None, 24], dtype='int32')


def test_a_cache_without_melody_serves_stages_without(caches):
  batches = lambda stage, cache: next(source_lib.TaskBatches(
      str(cache.directory), stage, 2, eval_split='train').batches(0))
  plain = _stage(conditions=('mulan',))
  old, new = (batches(plain, caches[m]) for m in (False, True))
  for name, value in old.items():
    np.testing.assert_array_equal(value, new[name])
  with pytest.raises(errors.UserError, match='no melody'):
    batches(_stage(), caches[False])


def _example(cache, track):
  return tasks.parse(cache.records('train').read(track), cache.described())


@pytest.mark.parametrize('name, crop, conditions', [
    ('semantic', 30, _WITH), ('semantic', 10, _WITH),
    ('coarse', 10, ('mulan', 'melody', 'semantic')), ('semantic', 5, _WITH)])
def test_sequences_equal_layout_build(caches, name, crop, conditions):
  stage = _stage(name, crop, conditions)
  layout = layout_lib.for_stage(stage)
  for track, seconds in enumerate((45, 33, 12, 7, 3)):
    example = _example(caches[True], track)
    for seed in range(3):
      start = int(preprocessors.crop_start(seconds, crop, [seed, track]))
      found = preprocessors.crop_and_build(
          example, [seed, track], stage, dict(mulan=fake_tokens.Joint.codebooks))
      codes = fake_tokens.crop_codes(track, seconds, start, crop)
      rows = []
      for second in range(start, start + crop - 3, 3):
        inside = second + 4 <= seconds or second == 0
        mark = fake_tokens.marks(track, 60)[second]
        rows.append(mark + np.arange(24) if inside else np.full(24, -1))
      codes['melody'] = np.array(rows)
      expected = layout.build({s.name: codes[s.name] for s in layout.segments})
      np.testing.assert_array_equal(
          np.concatenate([found['inputs'], found['targets']]), expected)


def test_dropout_takes_its_share_and_nothing_else(caches):
  stage = _stage(crop=10)
  place = layout_lib.for_stage(stage).segment('melody')
  example = _example(caches[True], 0)
  count, dropped = 300, 0
  build = lambda seed, share: {k: v.numpy() for k, v in (
      preprocessors.crop_and_build(
          example, seed, stage, dict(mulan=fake_tokens.Joint.codebooks),
          conditioning.Conditioning({'melody': share}))).items()}
  for index in range(count):
    found = build([7, index], 0.3)
    part = found['inputs'][place.start:place.stop]
    assert np.all(part == 0) or np.all(part > 0), 'whole or not at all'
    dropped += part[0] == 0
    if index < 20:
      kept, none = build([7, index], 0.0), build([7, index], 1.0)
      np.testing.assert_array_equal(found['targets'], kept['targets'])
      assert np.all(kept['inputs'] > 0)
      rest = np.delete(np.arange(len(kept['inputs'])),
                       np.arange(place.start, place.stop))
      np.testing.assert_array_equal(none['inputs'][rest], kept['inputs'][rest])
      assert np.all(none['inputs'][place.start:place.stop] == 0)
      np.testing.assert_array_equal(build([7, index], 0.3)['inputs'],
                                    found['inputs'])
  # Three standard deviations of a binomial share.
  assert abs(dropped / count - 0.3) < 3 * np.sqrt(0.3 * 0.7 / count)


def test_batches_drop_in_training_and_keep_for_evaluation(caches):
  stage = _stage(crop=10)
  place = layout_lib.for_stage(stage).segment('melody')
  source = source_lib.TaskBatches(
      str(caches[True].directory), stage, 8,
      conditioning=conditioning.Conditioning({'melody': 0.5}))
  part = lambda batch: batch['decoder_target_tokens'][:, place.start]
  stream = source.batches(0)
  first = np.concatenate([part(next(stream)) for _ in range(4)])
  assert 4 < (first == 0).sum() < 28
  np.testing.assert_array_equal(part(next(source.batches(3))), first[24:])
  assert all(np.all(part(b) > 0) for b in source.eval_batches())


def test_a_condition_that_the_stage_lacks_cannot_be_dropped(caches):
  source = source_lib.TaskBatches(
      str(caches[True].directory), _stage(conditions=('mulan',)), 8,
      conditioning=conditioning.Conditioning({'melody': 0.5}))
  with pytest.raises(errors.UserError, match="names 'melody'"):
    next(source.batches(0))


def _tiny(conditions=_WITH):
  tokens = tiny_stage.tokens_spec(8)
  tokens = dataclasses.replace(tokens, melody=dataclasses.replace(
      tokens.melody, codebook_size=8, num_codebooks=2))
  return stage_lib.StageModel(
      specs.StageSpec('semantic', tokens, 4, conditions),
      tiny_stage.config(num_layers=1, embed_dim=32, mlp_dim=48))


def _batch(layout, seed, melody=None):
  """The target is the melody's first code, over and over."""
  codes = tiny_stage.codes(layout, 16, seed)
  codes['semantic'] = np.broadcast_to(
      codes['melody'][:, :1, :1], codes['semantic'].shape)
  drop = np.arange(16) % 2 == 0 if melody is None else not melody
  codes['melody'] = np.where(
      np.reshape(drop, (-1, 1, 1)), -1, codes['melody'])
  return tiny_stage.batch_of(layout, codes)


@pytest.fixture(name='both_ways', scope='module')
def _both_ways():
  """A stage trained with a melody in half of its sequences."""
  stage = _tiny()
  trained = trainer.StageTrainable(stage, optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=10, schedule='constant'))
  state = jax.jit(trained.init)(jax.random.key(0), None)
  update = jax.jit(trained.update)
  for step in range(120):
    state, _ = update(state, _batch(stage.layout, step), jax.random.key(step))
  return stage_lib.TrainedStage(stage, state.params)


def test_a_stage_with_dropout_serves_with_and_without(both_ways):
  stage, target = both_ways.model, both_ways.layout.target
  first = {}
  for melody in (True, False):
    batch = _batch(both_ways.layout, 1000, melody)
    logits = tiny_stage.logits(
        stage, both_ways.params, batch['decoder_input_tokens'])
    labels = batch['decoder_target_tokens'][:, target.start:] - target.first_id
    right = logits.reshape(16, target.length, -1).argmax(-1) == labels
    first[melody] = right[:, 0].mean()
    assert right[:, 4:].mean() > 0.9  # both go on with what has begun
  assert first[True] > 0.9 and first[False] < 0.6


@pytest.mark.parametrize('melody', [True, False])
def test_cached_equals_teacher_forced(both_ways, melody):
  batch = _batch(both_ways.layout, 2000, melody)
  batch = {k: v[:2] for k, v in batch.items()}
  found = sampler.Sampler(both_ways).score(batch['decoder_target_tokens'])
  logits = tiny_stage.logits(
      both_ways.model, both_ways.params, batch['decoder_input_tokens'])
  np.testing.assert_allclose(found, logits.reshape(found.shape), atol=1e-4)


def test_generation_heeds_a_melody_and_does_without(both_ways):
  made = sampler.Sampler(both_ways)
  rng = np.random.default_rng(0)
  codes = dict(mulan=rng.integers(0, 8, (4, 1, 12)))
  # A row a second; of the window at second 0 the first code is the tune.
  melody = rng.integers(0, 8, (4, 2, 2))
  drawn = {}
  for name, given in (('with', dict(codes, melody=melody)), ('without', codes)):
    request = tracks.Request(4, 0, np.arange(4), dict(given))
    track = tracks.Track(made, request, categorical.Draw(0.0))
    while track.done < 4:
      track.advance(4)
    drawn[name] = request.codes['semantic'][..., 0]
    assert drawn[name].shape == (4, 100) and drawn[name].min() >= 0
  assert np.mean(drawn['with'] == melody[:, :1, 0]) > 0.9
  assert np.mean(drawn['without'] == melody[:, :1, 0]) < 0.9


def test_windows_take_the_melody_of_their_seconds():
  layout = layout_lib.for_stage(specs.StageSpec(
      'coarse', specs.TokenSpec(), 10, ('mulan', 'melody', 'semantic')))
  own = dict(mulan=np.zeros((3, 1, 12), int), coarse=np.zeros((3, 0, 4), int),
             semantic=np.zeros((3, 0, 1), int))
  codes = np.arange(20)[None, :, None] + np.zeros((3, 1, 24), int)
  def take(start, **given):
    request = tracks.Request(30, 0, np.arange(3), dict(given, **own))
    tokens = tracks._window_tokens(  # pylint: disable=protected-access
        types.SimpleNamespace(layout=layout), request,
        windows.Window(0, start, start + 10, start))
    return layout.split(tokens)['melody']
  assert take(5, melody=codes)[0, :, 0].tolist() == [5, 8, 11]
  assert take(15, melody=codes)[0, :, 0].tolist() == [15, 18, -1]
  nothing = take(5)
  assert nothing.shape == (3, 3, 24) and np.all(nothing == -1)


@pytest.mark.parametrize('size', ['tiny', 'demo', 'gpu', 'base'])
def test_the_leaf(size):
  arguments = configs.load(f'semantic_melody_{size}', dict(
      MODEL_DIR='x', CACHE_DIR='y')).arguments
  stage, source = arguments['trainable'].model, arguments['source']
  assert stage.spec.conditions == _WITH == source.stage.conditions
  assert source.conditioning.share('melody') == 0.5
  header = re.search(r'Parameters: ([\d,]+)', configs.resolve(
      f'semantic_melody_{size}').read_text())[1]
  assert stage.num_params() == int(header.replace(',', ''))


@pytest.mark.parametrize('parts, found', [
    (('codec', 'w2vbert', 'mulan'), None),
    (('codec', 'w2vbert', 'mulan', 'melody'), 'melody')])
def test_a_bundles_melody_is_loaded_where_it_has_one(
    tmp_path, monkeypatch, parts, found):
  bundle_lib.write_manifest(tmp_path, fake_tokens.TOKENS)
  for name in parts:
    (tmp_path / name).mkdir()
    for file in ('config.json', 'weights.safetensors'):
      (tmp_path / name / file).write_text(name)

  class Parts(bundle_lib.Bundle):
    tokens = fake_tokens.TOKENS

    def get(self, name):
      return name

  monkeypatch.setattr(bundle_lib, 'Bundle', Parts)
  loaded = loading.Tokenizers.load(tmp_path)
  assert loaded.melody == found and sorted(loaded.hashes) == sorted(parts)
  assert (loaded.codec, loaded.semantic, loaded.joint) == parts[:3]
