"""The bundle that ships: complete, small, documented, and it makes sound."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import cli

_LIMIT_BYTES = 30_000_000


@pytest.fixture(name='shipped', scope='module')
def _shipped():
  return bundle_lib.Bundle(bundle_lib.shipped())


def test_it_is_complete_and_small(shipped):
  shipped.require(*bundle_lib.COMPONENTS)
  size = sum(f.stat().st_size for f in shipped.directory.rglob('*')
             if f.is_file())
  assert size < _LIMIT_BYTES


def test_it_says_what_it_was_trained_on(shipped):
  assert shipped.manifest['corpus']['licence']
  for name in bundle_lib.COMPONENTS:
    assert shipped.manifest['training'][name]['steps'] > 0
  card = (shipped.directory / 'MODEL_CARD.md').read_text(encoding='utf-8')
  for word in ('licence', 'steps', 'folk_gm', 'Not for'):
    assert word.lower() in card.lower()


@pytest.fixture(name='waves', scope='module')
def _waves(tmp_path_factory):
  """{name: path}: a clip, the same again, and one of another seed."""
  folder = tmp_path_factory.mktemp('waves')
  waves = {}
  for name, seed in (('first', 1), ('again', 1), ('other', 2)):
    waves[name] = folder / f'{name}.wav'
    cli.main(['generate', 'a slow waltz on accordion', '--seconds', '2',
              '--seed', str(seed), '-o', str(waves[name])])
  return waves


def test_a_clip_has_the_length_and_is_not_silence(waves):
  with soundfile.SoundFile(waves['first']) as file:
    assert file.samplerate == 24_000 and file.channels == 1
    assert file.title == 'a slow waltz on accordion'
    sound = file.read()
  assert len(sound) == 48_000
  assert np.sqrt(np.mean(sound**2)) > 1e-3 and np.abs(sound).max() <= 0.99
  halves = [np.sqrt(np.mean(h**2)) for h in np.split(sound, 4)]
  assert min(halves) > 1e-4, 'part of the clip is silent'


def test_the_same_seed_gives_the_same_bytes(waves):
  digest = {name: hashlib.sha256(path.read_bytes()).digest()
            for name, path in waves.items()}
  assert digest['first'] == digest['again'] != digest['other']


def test_codes_round_trip_through_files(waves, tmp_path):
  codes, back = tmp_path / 'codes.npy', tmp_path / 'back.wav'
  cli.main(['codec', 'encode', str(waves['first']), '-o', str(codes)])
  assert np.load(codes).shape == (100, 12)
  cli.main(['codec', 'decode', str(codes), '-o', str(back), '--levels', '4'])
  assert soundfile.info(back).frames == 48_000


def test_generating_needs_no_tensorflow(tmp_path):
  code = ('import sys; from musiclm_jax import cli\n'
          'cli.main(["inspect", "bundle"])\n'
          'import musiclm_jax.generation.pipeline\n'
          'sys.exit("tensorflow" in sys.modules)')
  result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr[-400:]
