"""Files and bundles of either architecture: what does not fit is one line."""

import json

import command_line
import numpy as np
import pytest
import small_framecodec as small
import soundfile

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.codecs import tokenizer as codec_tokenizer
from musiclm_jax.codecs.soundstream import model as soundstream

RATE, HOP = 24_000, 240  # a bundle has the audio rate
SPEC = specs.CodecSpec(
    strides=(8, 30), num_codebooks=4, codebook_size=32, coarse_codebooks=1)
_run = command_line.run


def _save(directory, config):
  rng = np.random.default_rng(2)
  params = small.params(config)
  codebooks = rng.normal(size=(4, 32, config.latent_dim)).astype(np.float32)
  bundle.save_component(
      directory / 'codec', config.kind, config, config.spec,
      dict(params=params, codebooks=codebooks))
  bundle.write_manifest(
      directory, specs.TokenSpec(codec=config.spec), name=directory.name)
  return directory


@pytest.fixture(name='frames', scope='module')
def _frames(tmp_path_factory):
  """A bundle with a codec at the frame rate, and nothing else."""
  return _save(tmp_path_factory.mktemp('frames'), small.config(
      spec=SPEC, encoder_lookahead=2, decoder_lookahead=1))


@pytest.fixture(name='samples', scope='module')
def _samples(tmp_path_factory):
  """A bundle with a SoundStream of the same token grid."""
  config = soundstream.SoundStreamConfig(
      spec=SPEC, encoder_channels=2, decoder_channels=2, latent_dim=4,
      dilations=(1,))
  return _save(tmp_path_factory.mktemp('samples'), config)


def _sound(path, samples, subtype='FLOAT'):
  soundfile.write(path, samples, RATE, subtype=subtype)
  return path


@pytest.mark.parametrize('length', [1, HOP - 1, HOP, 21 * HOP + 5])
def test_a_clip_of_any_length_there_and_back(capsys, tmp_path, frames, length):
  audio = small.noise(22, rows=1, hop=HOP)[0, :length]
  source = _sound(tmp_path / 'a.wav', audio)
  code, out, _ = _run(capsys, 'codec', 'encode', source, '-o',
                      tmp_path / 'a.slm', '--bundle', frames)
  count = -(-length // HOP)
  assert code == 0 and f'{count} frames of 4 codes' in out
  # A frame of 10 ms, and three that are waited for.
  assert 'latency 40 ms' in out
  code, _, _ = _run(capsys, 'codec', 'decode', tmp_path / 'a.slm', '-o',
                    tmp_path / 'b.wav', '--bundle', frames)
  assert code == 0
  back, rate = soundfile.read(tmp_path / 'b.wav')
  assert rate == RATE and len(back) == length
  loaded = bundle.Bundle(frames).get('codec')
  expected = loaded.decode(loaded.encode(audio[None]))[0, :length]
  expected *= min(1.0, 0.99 / np.abs(expected).max())  # the file's peak
  np.testing.assert_allclose(back, expected, atol=2e-4)


@pytest.mark.parametrize('made, read', [
    ('frames', 'samples'), ('samples', 'frames')])
def test_a_file_of_the_other_architecture_is_refused(
    capsys, tmp_path, request, made, read):
  made, read = (request.getfixturevalue(name) for name in (made, read))
  source = _sound(tmp_path / 'a.wav', small.noise(5, rows=1, hop=HOP)[0])
  assert _run(capsys, 'codec', 'encode', source, '-o', tmp_path / 'a.slm',
              '--bundle', made)[0] == 0
  code, out, err = _run(capsys, 'codec', 'decode', tmp_path / 'a.slm', '-o',
                        tmp_path / 'b.wav', '--bundle', read)
  assert code == 2 and not out and err.count('\n') == 1
  assert 'was made by a codec of other weights' in err
  assert not list(tmp_path.glob('*b*'))


def test_an_architecture_that_nobody_knows_is_refused(
    capsys, tmp_path, frames):
  directory = tmp_path / 'bundle'
  (directory / 'codec').mkdir(parents=True)
  for path in frames.rglob('*'):
    if path.is_file():
      (directory / path.relative_to(frames)).write_bytes(path.read_bytes())
  about = directory / 'codec' / 'config.json'
  about.write_text(json.dumps(dict(
      json.loads(about.read_text()), kind='wavelets')))
  source = _sound(tmp_path / 'a.wav', small.noise(5, rows=1, hop=HOP)[0])
  code, out, err = _run(capsys, 'codec', 'encode', source, '-o',
                        tmp_path / 'a.slm', '--bundle', directory)
  assert code == 2 and not out and err.count('\n') == 1
  assert "architecture 'wavelets'; known are framecodec, soundstream" in err
  assert not list(tmp_path.glob('*.slm*'))
  with pytest.raises(errors.UserError, match='wavelets'):
    codec_tokenizer.from_component(bundle.load_component(directory / 'codec'))


def test_samples_that_are_no_numbers_are_refused(capsys, tmp_path, frames):
  audio = small.noise(5, rows=1, hop=HOP)[0]
  audio[200] = np.nan
  source = _sound(tmp_path / 'a.wav', audio)
  code, out, err = _run(capsys, 'codec', 'encode', source, '-o',
                        tmp_path / 'a.slm', '--bundle', frames)
  assert code == 2 and not out and err.count('\n') == 1 and 'NaN' in err
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.wav']
