"""Clips from anywhere; the ladder and modelability on a folder of files."""

import json

import numpy as np
import pytest
import random_bundle
import soundfile

from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import modelability

_RATE = 24_000


@pytest.fixture(name='files', scope='module')
def _files(tmp_path_factory):
  """Six recordings of 6 s, one of silence, one that is no audio; captions."""
  place = tmp_path_factory.mktemp('files')
  rng = np.random.default_rng(4)
  lines = ['id,caption,track']
  for i in range(6):
    family = random_bundle.FAMILIES[i % 3]
    soundfile.write(place / f'{i}.wav', random_bundle.tones(family, 6, rng),
                    _RATE)
    lines.append(f'{i}.wav,{family} playing,tune{i // 2}')
  soundfile.write(place / 'quiet.wav', np.zeros(3 * _RATE), _RATE)
  (place / 'broken.wav').write_bytes(b'RIFFno')
  (place / 'captions.csv').write_text('\n'.join(lines))
  return place


def test_of_a_folder(files):
  found = any_music.of_folder(
      files, 20, 2, _RATE, files / 'captions.csv')
  assert found.clips.audio.shape == (6, 2 * _RATE)
  assert found.set.counted() == {'unreadable': 1, 'silent': 1}
  assert sorted(found.clips.ids) == list('012345')
  for row, name in enumerate(found.clips.ids):
    whole, _ = soundfile.read(files / f'{name}.wav')
    np.testing.assert_allclose(  # the middle
        found.clips.audio[row], whole[2 * _RATE:4 * _RATE], atol=1e-6)
    assert found.tracks[row] == f'tune{int(name) // 2}'
    assert found.clips.captions[row].endswith(' playing')


def test_of_a_corpus(folder):
  found = any_music.of_corpus(folder / 'corpus', 4, 20, _RATE)
  assert found.split == 'test' and len(found.clips) == 4
  assert (found.clips.seconds == 12).all()  # all that they have
  assert not found.clips.audio[:, 12 * _RATE:].any()
  assert len(set(found.clips.families[:3])) == 3  # in turn


def test_too_little_to_hear(tmp_path):
  soundfile.write(tmp_path / 'a.wav', np.zeros(_RATE), _RATE)
  with pytest.raises(errors.UserError, match=r'has 0 usable clips \(1 silent\)'):
    any_music.of_folder(tmp_path, 5, 1, _RATE)


def test_the_ladder_on_a_folder(folder, files, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'ladder', '--bundle', str(folder / 'bundle'), '--data',
            str(files), '--clips', '3', '--seconds', '2', '--json', 'l.json',
            '--report', 'l.html'])
  assert 'Oracle ladder: mel distance' in capsys.readouterr().out
  figures = json.loads((tmp_path / 'l.json').read_text())
  assert figures['ladder_clips'] == 3
  for rung in ('codec', 'fine', 'coarse'):
    low, mean, high = (figures[f'ladder_{rung}_mel_distance_db{end}']
                       for end in ('_low', '', '_high'))
    assert low <= mean <= high
  assert 'ladder_all_mel_distance_db' not in figures  # no captions
  assert (tmp_path / 'l.html').read_text().count('<audio') == 3 * 4


def test_modelability_of_a_folder(
    folder, files, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'modelability', '--bundle', str(folder / 'bundle'),
            '--data', str(files), '--steps', '2', '--levels', '1',
            '--train-clips', '4', '--json', 'm.json'])
  assert 'modelability of 1 levels, 2 steps' in capsys.readouterr().out
  figures = json.loads((tmp_path / 'm.json').read_text())
  assert figures['modelability_clips'] == 2  # the first and the sixth file
  assert 0 < figures['modelability_nats_per_second'] < 1000
  assert figures['provenance']['clips']['files']['refused'] == {
      'unreadable': 1, 'silent': 1}


class _Codec:
  """Codes that tell the pieces apart."""

  def __init__(self, spec):
    self.spec = spec

  def encode(self, audio):
    codes = np.abs(audio[:, ::480]).astype(int) % self.spec.codebook_size
    return np.repeat(codes[..., None], self.spec.num_codebooks, axis=-1)


def test_no_recording_is_in_both_parts(files, monkeypatch):
  seen = {}
  monkeypatch.setattr(
      modelability.codec_modelability, 'of_codes',
      lambda train, held, tracks, *rest: seen.update(
          train=train, held=held, tracks=tracks))
  spec = random_bundle.tokens().codec
  modelability.of_folder(
      _Codec(spec), files, modelability.modelability.Config(levels=2), 3, 9)
  assert seen['train'].shape == (3, 250, 2)
  assert seen['held'].shape[1:] == (250, 2)
  assert len(set(seen['tracks'])) == len(seen['tracks']) == len(seen['held'])


def test_a_folder_of_one_recording(tmp_path, files):
  audio, _ = soundfile.read(files / '0.wav')
  soundfile.write(tmp_path / 'a.wav', audio, _RATE)
  spec = random_bundle.tokens().codec
  with pytest.raises(errors.UserError, match='left for its train part'):
    modelability.of_folder(
        _Codec(spec), tmp_path, modelability.modelability.Config(), 3, 9)
