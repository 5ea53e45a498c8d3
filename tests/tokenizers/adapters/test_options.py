"""Options and refusals; none of this needs torch."""

import doctest
import fractions
import importlib
import json
import subprocess
import sys

import numpy as np
import pytest

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.tokenizers.adapters import fits
from musiclm_jax.tokenizers.adapters import hub
from musiclm_jax.tokenizers.adapters import options
from musiclm_jax.tokenizers.adapters import registry
from musiclm_jax.tokenizers.adapters import semantic
from musiclm_jax.tokenizers.adapters import waveforms


def checkpoint(folder, **config):
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(config))
  return folder


def test_examples_in_docstrings():
  assert doctest.testmod(waveforms).attempted
  assert not doctest.testmod(waveforms).failed


def test_a_full_choice(tmp_path):
  found = options.parse('semantic', f'hf:{tmp_path}:layer=7:rate=25')
  assert found == options.SemanticOptions(str(tmp_path), 7, 25)
  assert options.parse('joint', f'hf:{tmp_path}') == options.JointOptions(
      str(tmp_path), 12, 1024, 1000)


def test_a_colon_in_the_directory(tmp_path):
  folder = tmp_path / 'a:b=c'
  folder.mkdir()
  inner = folder / 'd'
  inner.mkdir()
  found = options.parse('codec', f'hf:{inner}:codebooks=8:coarse=2')
  assert found == options.CodecOptions(str(inner), 8, 2)


@pytest.mark.parametrize('kind, text, message', [
    ('codec', '/models/encodec', 'expected hf:DIR'),
    ('codec', 'hf:', 'expected hf:DIR'),
    ('codec', 'hf:/no/where', 'no directory /no/where'),
    ('codec', 'hf:{tmp}:layer=7', "unknown option of --codec 'layer'; known: "
                                  'coarse, codebooks'),
    ('codec', 'hf:{tmp}:codebooks=many', 'expected a whole number'),
    ('codec', 'hf:{tmp}:coarse=0', 'a whole number from 1'),
    ('semantic', 'hf:{tmp}', 'names no layer'),
    ('joint', 'hf:{tmp}:clusters=7', 'known: clips, codebooks, entries')])
def test_choices_that_are_refused(tmp_path, kind, text, message):
  with pytest.raises(errors.UserError, match=message) as error:
    options.parse(kind, text.format(tmp=tmp_path))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind, known', [
    ('codec', 'dac, encodec, mimi'), ('joint', 'clap'),
    ('semantic', 'hubert, mert_model, unispeech, unispeech-sat, wav2vec2')])
def test_unknown_model_types_list_the_known(tmp_path, kind, known):
  folder = checkpoint(tmp_path / 'm', model_type='bert')
  choice = options.parse(
      kind, f'hf:{folder}' + (':layer=1' if kind == 'semantic' else ''))
  with pytest.raises(errors.UserError, match=f"type 'bert'.*{known}"):
    registry.adapt({kind: choice}, None, '', tmp_path / 'cache')


def test_a_directory_without_a_configuration(tmp_path):
  with pytest.raises(errors.UserError, match='no config.json'):
    hub.model_type(tmp_path, ['clap'], '--joint')
  (tmp_path / 'config.json').write_text('{')
  with pytest.raises(errors.UserError, match='is not JSON'):
    hub.model_type(tmp_path, ['clap'], '--joint')


@pytest.mark.parametrize('package', ['torch', 'transformers'])
def test_missing_packages_name_the_command(tmp_path, monkeypatch, package):
  folder = checkpoint(tmp_path / 'm', model_type='encodec')
  choice = options.parse('codec', f'hf:{folder}')
  real = importlib.import_module

  def without(name):
    if name == package:
      raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    return real(name) if name not in ('torch', 'transformers') else None

  monkeypatch.setattr(hub.importlib, 'import_module', without)
  with pytest.raises(errors.UserError, match=(
      f'{package} is missing; run `pip install torch transformers`')):
    registry.adapt({'codec': choice}, None, '', tmp_path / 'cache')


def test_a_package_that_does_not_load(monkeypatch):
  def broken(name):
    raise OSError('libfoo.so: cannot open shared object file\nmore')

  monkeypatch.setattr(hub.importlib, 'import_module', broken)
  with pytest.raises(errors.UserError, match='does not load .libfoo') as error:
    hub.package('torch')
  assert '\n' not in str(error.value)


def test_importing_adapters_brings_no_torch():
  code = ('import sys, musiclm_jax.tokenizers.adapters.registry as r; '
          '[r._module(k) for k in r.COMPONENTS]; '
          'sys.exit("torch" in sys.modules or "transformers" in sys.modules)')
  result = subprocess.run([sys.executable, '-c', code], check=False)
  assert result.returncode == 0


@pytest.mark.parametrize('rate, hop, expected', [
    (24_000, 320, 75), (16_000, 320, 50), (32_000, 640, 50), (24_000, 480, 50)])
def test_whole_frame_rates(rate, hop, expected):
  assert waveforms.frame_rate('d', rate, hop) == expected


@pytest.mark.parametrize('rate, hop, shown', [
    (24_000, 1920, '12.5'), (44_100, 512, '86.1328'), (22_050, 315, '70'),
    (24_000, fractions.Fraction(24_000) / fractions.Fraction(12.5), '12.5')])
def test_frame_rates_off_the_grid(rate, hop, shown):
  with pytest.raises(errors.UserError, match=f'has {shown} frames a second'):
    waveforms.frame_rate('d', rate, hop)


def test_pieces_cover_everything_once():
  for length in (1, 9, 10, 11, 37):
    covered = []
    for start, stop, first, last in waveforms.pieces(length, 10, 3, 1):
      assert 0 <= start <= first < last <= stop <= length
      covered += range(first, last)
    assert covered == list(range(length))


def test_resampling_equals_that_of_the_models():
  from musiclm_jax import audio as audio_lib  # pylint: disable=g-import-not-at-top
  signal = np.random.default_rng(0).normal(size=(2, 4801)).astype(np.float32)
  for rate in (16_000, 48_000):
    np.testing.assert_allclose(
        waveforms.resample(signal, 24_000, rate),
        audio_lib.resample(signal, 24_000, rate), atol=1e-5)


def test_fits_come_back_by_their_key_only(tmp_path):
  arrays = dict(mean=np.arange(3, dtype=np.float32))
  fits.save(tmp_path, 'w2vbert', 'k' * 16, arrays, dict(vectors=1))
  found = fits.load(tmp_path, 'w2vbert', 'k' * 16)
  np.testing.assert_array_equal(found['mean'], arrays['mean'])
  assert fits.load(tmp_path, 'w2vbert', 'other') is None
  assert fits.load(tmp_path, 'mulan', 'k' * 16) is None
  assert fits.digest(arrays) == fits.digest(found)
  assert fits.digest(arrays) != fits.digest(dict(mean=arrays['mean'] + 1))


def test_another_cache_is_refused_before_any_work(tmp_path):
  (tmp_path / 'fingerprint.json').write_text(
      json.dumps(dict(bundle=dict(w2vbert='aaaa-bbbb'))))
  fits.refuse_other(tmp_path, 'w2vbert', 'aaaa')
  for component, key in (('w2vbert', 'cccc'), ('mulan', 'aaaa')):
    with pytest.raises(errors.UserError, match='add --replace'):
      fits.refuse_other(tmp_path, component, key)


def test_fingerprints_follow_weights_and_configuration(tmp_path):
  folder = checkpoint(tmp_path / 'm', model_type='clap')
  seen = {hub.fingerprint(folder)}
  (folder / 'model.safetensors').write_bytes(b'1')
  seen.add(hub.fingerprint(folder))
  (folder / 'model.safetensors').write_bytes(b'2')
  seen.add(hub.fingerprint(folder))
  (folder / 'config.json').write_text('{}')
  seen.add(hub.fingerprint(folder))
  (folder / 'README.md').write_text('about')
  assert len(seen) == 4 and hub.fingerprint(folder) in seen


def test_a_mert_that_is_not_hubert_inside(tmp_path):
  folder = checkpoint(tmp_path / 'm', model_type='mert_model',
                      feature_extractor_cqt=True)
  with pytest.raises(errors.UserError, match='feature_extractor_cqt = True'):
    semantic.SemanticTokenizer(options.SemanticOptions(str(folder), 1))
  semantic._check_mert(checkpoint(
      tmp_path / 'n', feature_extractor_cqt=False, attention_relax=-1.0))


def test_the_command_wants_a_bundle_or_all_three(tmp_path, capsys):
  folder = checkpoint(tmp_path / 'm', model_type='clap')
  with pytest.raises(SystemExit) as stopped:
    cli.main(['precompute', '--joint', f'hf:{folder}', '--corpus', 'c',
              '--cache', str(tmp_path / 'cache')])
  error = capsys.readouterr().err
  assert stopped.value.code == 2 and error.count('\n') == 1
  assert 'no --bundle; give one, or --codec and --semantic as well' in error


def test_grids_that_do_not_meet(monkeypatch):
  from musiclm_jax.tokenizers import loading  # pylint: disable=g-import-not-at-top

  class Fake:
    def __init__(self, spec):
      self.spec = spec

  adapted = {
      'codec': registry.Adapted(
          Fake(specs.CodecSpec(strides=(320,))), 'codec', 'a'),
      'w2vbert': registry.Adapted(Fake(specs.SemanticSpec(
          mel_hop_samples=320, subsampling=1)), 'semantic', 'b'),
      'mulan': registry.Adapted(Fake(specs.JointSpec()), 'joint', 'c')}
  with pytest.raises(errors.UserError, match='a divisor of the codec rate, 75 '
                                             'Hz.*:rate=25'):
    loading.Tokenizers.load(None, adapted)
  adapted['w2vbert'].tokenizer.spec = specs.SemanticSpec(
      mel_hop_samples=320, subsampling=2)
  made = loading.Tokenizers.load(None, adapted)
  assert made.tokens.codec_frames_per_semantic == 3
  assert made.hashes == dict(codec='a', w2vbert='b', mulan='c')
