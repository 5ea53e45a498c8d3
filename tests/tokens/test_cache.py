"""The cache: what it refuses, and that it needs no TensorFlow."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib


def test_no_tensorflow_is_imported():
  code = ('import sys; from musiclm_jax.tokens import cache, layout, source; '
          'sys.exit(any(m in sys.modules for m in ("tensorflow", "seqio")))')
  assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_a_cache_of_another_spec_names_the_fields(cache_dir):
  cache = cache_lib.Cache(cache_dir)
  cache.check(specs.StageSpec('coarse', cache.tokens))
  tokens = dataclasses.replace(
      cache.tokens,
      codec=dataclasses.replace(cache.tokens.codec, num_codebooks=8),
      semantic=dataclasses.replace(cache.tokens.semantic, codebook_size=500))
  with pytest.raises(errors.UserError) as caught:
    cache.check(specs.StageSpec('coarse', tokens))
  message = str(caught.value)
  assert 'codec.num_codebooks: 12, expected 8' in message
  assert 'semantic.codebook_size: 16, expected 500' in message
  assert 'mulan' not in message and '\n' not in message


def test_what_is_no_cache_is_refused(tmp_path, cache_dir):
  with pytest.raises(errors.UserError, match='not a finished token cache'):
    cache_lib.Cache(tmp_path)
  copy = tmp_path / 'copy'
  shutil.copytree(cache_dir, copy)
  (copy / cache_lib.STREAMS_TASK / cache_lib.COMPLETED).unlink()
  with pytest.raises(errors.UserError, match='not a finished token cache'):
    cache_lib.Cache(copy)


def test_another_format_and_split_are_refused(tmp_path, cache_dir):
  copy = tmp_path / 'copy'
  shutil.copytree(cache_dir, copy)
  with pytest.raises(errors.UserError, match='known: train, validation'):
    cache_lib.Cache(copy).index('test')
  next((copy / cache_lib.STREAMS_TASK).glob('train.tfrecord*')).unlink()
  with pytest.raises(errors.UserError, match='is missing'):
    cache_lib.Cache(copy).records('train')
  path = copy / cache_lib.FINGERPRINT
  path.write_text(json.dumps(dict(json.loads(path.read_text()), format='v0')))
  with pytest.raises(errors.UserError, match="has format 'v0'.*--replace"):
    cache_lib.Cache(copy)


def test_describe_is_flat_and_counts(cache_dir):
  described = cache_lib.describe(cache_dir)
  assert described['corpus'] == 'fake' and described['mulan_hash'] == 'c'
  assert described['train_tracks'] == 5 and described['train_seconds'] == 100
  assert described['validation_acoustic_tokens'] == 45 * 600
  assert not any(isinstance(v, dict) for v in described.values())


def test_the_grid_of_a_cache_and_of_none(cache_dir, tmp_path):
  assert cache_lib.tokens_of(cache_dir) == cache_lib.Cache(cache_dir).tokens
  assert cache_lib.tokens_of(cache_dir) != specs.TokenSpec()
  assert cache_lib.tokens_of(tmp_path / 'none') == specs.TokenSpec()


@pytest.mark.parametrize('damage, fault', [
    (lambda path: path.unlink(), 'it is missing'),
    (lambda path: path.write_bytes(b''), 'it is damaged'),
    (lambda path: path.write_bytes(path.read_bytes()[:200]), 'it is damaged'),
    (lambda path: path.write_text('text'), 'it is damaged'),
    (lambda path: np.save(path.open('wb'), np.zeros(3)), 'it is damaged'),
    (lambda path: np.savez(path, other=np.zeros(3)), 'it lacks mulan'),
])
def test_damaged_codebooks_are_one_line(tmp_path, cache_dir, damage, fault):
  copy = tmp_path / 'copy'
  shutil.copytree(cache_dir, copy)
  damage(copy / cache_lib.CODEBOOKS)
  with pytest.raises(errors.UserError) as caught:
    cache_lib.Cache(copy).codebooks  # pylint: disable=expression-not-assigned
  message = str(caught.value)
  assert f'{cache_lib.CODEBOOKS} cannot be read: {fault}' in message
  assert '--replace' in message and '\n' not in message


@pytest.mark.parametrize('name, damage, message', [
    ('fingerprint.json', b'', 'fingerprint.json is damaged (no JSON); run `mu'),
    ('fingerprint.json', b'[]', 'is damaged (a list, expected a dict)'),
    ('musiclm_tokens/info.train.json', b'{"num', 'info.train.json is damaged'),
    ('musiclm_tokens/info.train.json', b'{}', 'it has no num_shards'),
    ('musiclm_tokens/info.train.json', None, 'info.train.json is missing'),
    ('musiclm_tokens/index.train.npz', None, 'it is missing'),
])
def test_damage_is_named(tmp_path, cache_dir, name, damage, message):
  path = tmp_path / 'copy' / name
  shutil.copytree(cache_dir, tmp_path / 'copy')
  path.unlink() if damage is None else path.write_bytes(damage)
  with pytest.raises(errors.UserError) as caught:
    cache_lib.Cache(tmp_path / 'copy').records('train')
  assert message in str(caught.value) and '--replace' in str(caught.value)


def test_a_damaged_index_is_one_line(tmp_path, cache_dir):
  copy = tmp_path / 'copy'
  shutil.copytree(cache_dir, copy)
  path = copy / cache_lib.STREAMS_TASK / 'index.train.npz'
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(errors.UserError, match='index.train.npz.*is damaged'):
    cache_lib.Cache(copy).index('train')
