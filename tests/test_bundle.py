"""Bundles: storage round trips, damage, other fingerprints."""

import json

import numpy as np
import plain_codec
import pytest

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs


def _weights():
  rng = np.random.default_rng(0)
  return {'a': {'kernel': rng.normal(size=(128, 64)).astype(np.float32),
                'bias': rng.normal(size=64).astype(np.float32)},
          'count': np.arange(3)}


@pytest.fixture(name='directory')
def _directory(tmp_path):
  bundle.save_component(tmp_path / 'codec', 'soundstream', {'width': 2},
                        specs.CodecSpec(), _weights(), {'steps': 7})
  bundle.write_manifest(tmp_path, specs.TokenSpec(), name='b')
  return tmp_path


@pytest.mark.parametrize('storage, tolerance', [
    ('float32', 0), ('float16', 1e-3), ('int8', 0.02)])
def test_storage_round_trip(tmp_path, storage, tolerance):
  bundle.save_component(tmp_path / 'c', 'soundstream', {}, specs.CodecSpec(),
                        _weights(), storage=storage)
  tree = bundle.load_component(tmp_path / 'c').tree()
  expected = _weights()
  np.testing.assert_array_equal(tree['count'], expected['count'])
  kernel = tree['a']['kernel']
  assert kernel.dtype == np.float32
  np.testing.assert_allclose(kernel, expected['a']['kernel'], atol=tolerance)


def test_int8_has_a_scale_for_each_row(tmp_path):
  rows = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
  rows *= np.logspace(-3, 3, 64, dtype=np.float32)[:, None]
  bundle.save_component(tmp_path / 'c', 'soundstream', {}, specs.CodecSpec(),
                        {'w': rows}, storage='int8')
  found = bundle.load_component(tmp_path / 'c').weights['w']
  error = np.abs(found - rows).max(axis=-1) / np.abs(rows).max(axis=-1)
  assert error.max() < 0.006  # half a step of 127, and float16's of the scale


def test_int8_is_a_quarter(tmp_path):
  sizes = {}
  for storage in ('float32', 'int8'):
    bundle.save_component(
        tmp_path / storage, 'soundstream', {}, specs.CodecSpec(),
        {'w': np.ones((256, 512), np.float32)}, storage=storage)
    sizes[storage] = (tmp_path / storage / 'weights.safetensors').stat().st_size
  assert sizes['int8'] < 0.27 * sizes['float32']


def test_what_was_saved_is_known(directory):
  component = bundle.load_component(directory / 'codec')
  assert component.kind == 'soundstream' and component.config == {'width': 2}
  assert component.metadata == {'steps': 7}
  found = bundle.Bundle(directory)
  assert found.tokens == specs.TokenSpec() and found.identity == 'b'
  assert found.manifest['components'] == ['codec']


def test_components_enter_the_manifest(tmp_path):
  """The first one makes it; of another grid, none comes in."""
  grid = specs.CodecSpec(num_codebooks=8)
  bundle.save_component(tmp_path / 'codec', 'soundstream', {}, grid,
                        _weights(), metadata=dict(steps=2))
  bundle.enter(tmp_path, 'codec')
  found = bundle.Bundle(tmp_path)
  assert found.tokens == specs.TokenSpec(codec=grid)
  assert found.identity == tmp_path.name
  bundle.write_manifest(tmp_path, found.tokens, name='kept')
  bundle.save_component(tmp_path / 'mulan', 'mulan', {}, specs.JointSpec(),
                        _weights(), metadata=dict(steps=9))
  bundle.enter(tmp_path, 'mulan')
  found = bundle.Bundle(tmp_path)
  assert found.manifest['training'] == dict(
      codec=dict(steps=2), mulan=dict(steps=9))
  assert found.manifest['components'] == ['codec', 'mulan']
  assert found.identity == 'kept' and found.tokens.codec == grid
  bundle.save_component(tmp_path / 'coarse', 'coarse', {},
                        specs.StageSpec('coarse'), _weights())
  with pytest.raises(errors.UserError, match='num_codebooks: 12, expected 8'):
    bundle.enter(tmp_path, 'coarse')


def test_a_tokenizer_brings_its_own_grid(tmp_path):
  """Only what is there fixes a grid, and it may be trained anew."""
  small, other = (specs.JointSpec(codebook_size=n) for n in (256, 128))
  save = lambda name, spec: bundle.save_component(
      tmp_path / name, name, {}, spec, _weights())
  save('w2vbert', specs.SemanticSpec())
  bundle.enter(tmp_path, 'w2vbert')
  for spec in (small, other, small):
    save('mulan', spec)
    bundle.enter(tmp_path, 'mulan')
    assert bundle.Bundle(tmp_path).tokens == specs.TokenSpec(joint=spec)
  save('coarse', specs.StageSpec(
      'coarse', specs.TokenSpec(joint=small, codec=specs.CodecSpec(
          num_codebooks=8))))
  bundle.enter(tmp_path, 'coarse')
  assert bundle.Bundle(tmp_path).tokens.codec.num_codebooks == 8
  save('mulan', other)
  with pytest.raises(errors.UserError, match='the coarse beside it.*128'):
    bundle.enter(tmp_path, 'mulan')


def test_missing_and_damaged(directory):
  with pytest.raises(errors.UserError, match='no bundle at'):
    bundle.Bundle(directory / 'nowhere')
  found = bundle.Bundle(directory)
  with pytest.raises(errors.UserError, match='no mulan, fine'):
    found.require('codec', 'mulan', 'fine')
  with pytest.raises(errors.UserError, match='no complete mulan'):
    found.get('mulan')
  (directory / 'codec' / 'weights.safetensors').write_bytes(b'no')
  with pytest.raises(errors.UserError, match='damaged'):
    found.get('codec')


def test_another_spec_is_refused_by_field(directory):
  bundle.save_component(
      directory / 'codec', 'soundstream', {},
      specs.CodecSpec(num_codebooks=8), _weights())
  with pytest.raises(errors.UserError, match='num_codebooks: 8, expected 12'):
    bundle.Bundle(directory).get('codec')


@pytest.mark.parametrize('name, content, message', [
    ('manifest.json', b'', 'manifest.json is damaged (no JSON); export'),
    ('manifest.json', b'{"format": "musi', 'manifest.json is damaged (no JSON'),
    ('manifest.json', b'[]', 'manifest.json is damaged (a list, expected'),
    ('manifest.json', b'{"format": "musiclm_jax.bundle.v1"}',
     'manifest.json is damaged (it has no tokens)'),
    ('manifest.json', b'{"format": "musiclm_jax.bundle.v1", "tokens": {"x":1}}',
     'manifest.json is damaged (TokenSpec has no field'),
    ('codec/config.json', b'', 'config.json is damaged (no JSON)'),
    ('codec/config.json', b'{}', 'config.json is damaged (it has no kind'),
    ('codec/weights.safetensors', b'no', 'safetensors is damaged (its by'),
])
def test_damage_is_named(directory, name, content, message):
  (directory / name).write_bytes(content)
  with pytest.raises(errors.UserError) as told:
    found = bundle.Bundle(directory)
    assert found.tokens
    found.get('codec')
  assert message in str(told.value) and str(directory) in str(told.value)


def test_weights_of_another_component_are_noticed(directory):
  bundle.save_component(directory / 'mulan', 'mulan', {}, specs.JointSpec(),
                        {'w': np.zeros(3)})
  found = bundle.Bundle(directory)
  (directory / 'mulan' / 'weights.safetensors').replace(
      directory / 'codec' / 'weights.safetensors')
  with pytest.raises(errors.UserError, match='not those that were exported as '
                     'soundstream'):
    found.get('codec')
  bundle.save_component(directory / 'fine', 'coarse', {},
                        specs.StageSpec('coarse'), _weights())
  with pytest.raises(errors.UserError, match='fine holds a component of kind c'):
    found.get('fine')
  # Exported before weights had a digest: their names tell.
  path = directory / 'codec' / 'config.json'
  stored = json.loads(path.read_text())
  del stored['weights_sha256']
  path.write_text(json.dumps(stored | {'config': {}}))
  with pytest.raises(errors.UserError, match='do not make a codec'):
    found.get('codec')


def test_an_edited_spec_is_noticed(directory):
  path = directory / 'codec' / 'config.json'
  stored = json.loads(path.read_text())
  stored['spec']['codebook_size'] = 512
  path.write_text(json.dumps(stored))
  with pytest.raises(errors.UserError, match='was edited'):
    bundle.load_component(path.parent)


def test_unknown_names():
  with pytest.raises(errors.UserError, match='unknown component'):
    bundle.save_component('x', 'vocoder', {}, specs.CodecSpec(), {})
  with pytest.raises(errors.UserError, match='unknown storage'):
    bundle.save_component('x', 'mulan', {}, specs.CodecSpec(), {},
                          storage='int4')


def test_a_tokenizer_has_a_role_and_a_stage_its_name(directory):
  found = bundle.Bundle(directory)
  asked = []
  found.get = asked.append
  for role in ('codec', 'semantic', 'joint', 'melody'):
    found.tokenizer(role)
  found.stage('semantic')
  assert asked == ['codec', 'w2vbert', 'mulan', 'melody', 'semantic']
  with pytest.raises(errors.UserError, match="unknown role of a tokenizer 'mul"):
    found.tokenizer('mulan')
  with pytest.raises(errors.UserError, match="unknown stage 'w2vbert'"):
    found.stage('w2vbert')


def test_a_tokenizer_of_other_origin_takes_a_role(tmp_path):
  bundle.write_manifest(tmp_path, specs.TokenSpec())
  found = bundle.Bundle(tmp_path)
  codec = plain_codec.PlainCodec(specs.CodecSpec())
  before = found.weights_fingerprint()
  assert not found.has('codec')
  found.use('codec', codec, 'abc')
  found.require('codec')
  assert found.tokenizer('codec') is codec is found.get('codec')
  assert found.component_hash('codec') == 'abc'
  assert found.weights_fingerprint() != before
  assert found.stored_spec('codec') == specs.to_dict(codec.spec)
  assert found.stored_metadata('codec') == {}
  other = plain_codec.PlainCodec(specs.CodecSpec(num_codebooks=8))
  with pytest.raises(errors.UserError, match='num_codebooks: 8, expected 12'):
    found.use('codec', other, 'abc')
  with pytest.raises(TypeError, match='PlainCodec is no JointEmbedder: embed_a'):
    found.use('joint', codec, 'abc')
  assert not found.has('mulan')


def test_scalars_stay_scalars(tmp_path):
  bundle.save_component(tmp_path / 'fine', 'fine', {}, specs.StageSpec('fine'),
                        {'a': {'b': np.float32(0.5)}})
  weights = bundle.load_component(tmp_path / 'fine').weights
  assert weights['a/b'].shape == () and weights['a/b'] == 0.5


def test_the_fingerprint_of_weights_follows_them(tmp_path):
  def fingerprint(value):
    bundle.save_component(tmp_path / 'fine', 'fine', {},
                          specs.StageSpec('fine'), {'a': np.full(3, value)})
    bundle.write_manifest(tmp_path, specs.TokenSpec())
    return bundle.Bundle(tmp_path).weights_fingerprint()

  assert fingerprint(1.0) == fingerprint(1.0) != fingerprint(2.0)
