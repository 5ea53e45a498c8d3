"""M4A, AAC, WMA and the like, by ffmpeg where it is installed."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from musiclm_jax import audio
from musiclm_jax import audio_stream
from musiclm_jax.audio_files import coded

_KINDS = ('a.m4a', 'a.aac', 'a.wma', 'a.mka', 'a.mp4')


@pytest.fixture(name='sound', scope='module')
def _sound(tmp_path_factory):
  """A folder with a tone of 3 s in each format."""
  ffmpeg = pytest.importorskip('imageio_ffmpeg').get_ffmpeg_exe()
  folder = tmp_path_factory.mktemp('coded')
  tone = 0.4 * np.sin(2 * np.pi * 1000 * np.arange(3 * 44_100) / 44_100)
  soundfile.write(folder / 'a.wav', np.stack([tone, tone], 1), 44_100)
  for name in _KINDS:
    subprocess.run([ffmpeg, '-v', 'error', '-i', str(folder / 'a.wav'),
                    str(folder / name)], check=True)
  return folder


@pytest.mark.parametrize('name', _KINDS)
def test_they_are_read(sound, name):
  heard = audio.read(sound / name, 24_000)
  assert len(heard) / 24_000 == pytest.approx(3, abs=0.15)
  middle = heard[12_000:60_000]
  spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
  assert np.argmax(spectrum) / 2 == pytest.approx(1000, abs=1)
  assert np.max(np.abs(middle)) == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize('name', _KINDS)
def test_what_is_damaged_is_unusable(sound, name, tmp_path):
  (tmp_path / name).write_bytes((sound / name).read_bytes()[:60])
  with pytest.raises(audio_stream.Unusable, match='not readable audio') as told:
    audio.read(tmp_path / name, 24_000)
  assert told.value.reason in ('unreadable', 'empty')


def test_without_the_decoder_its_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
  (tmp_path / 'a.m4a').write_bytes(b'\0\0\0\x20ftypM4A ' + bytes(99))
  with pytest.raises(audio_stream.Unusable,
                     match='pip install imageio-ffmpeg') as told:
    audio.read(tmp_path / 'a.m4a', 24_000)
  assert told.value.reason == 'format'


@pytest.mark.parametrize('kind', ['wav', 'flac', 'mp3', 'ogg', 'aiff'])
def test_other_formats_are_not_taken_for_one(tmp_path, kind):
  soundfile.write(tmp_path / f'a.{kind}', np.zeros(9000), 24_000)
  with open(tmp_path / f'a.{kind}', 'rb') as file:
    assert not coded.format_of(file.read(16))
