"""What is sent is checked, decoded in another process, and goes away."""

import dataclasses
import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from musiclm_jax import errors
from musiclm_jax.serving import decoder
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.serving import uploads as uploads_lib

RATE = 24_000
TONE = (0.3 * np.sin(np.arange(2 * RATE) / 20)).astype(np.float32)


@pytest.fixture(name='make')
def _make(tmp_path):
  """Function from limits to Uploads in `tmp_path/uploads`."""
  (tmp_path / 'uploads').mkdir()

  def make(clock=time.monotonic, **limits):
    return uploads_lib.Uploads(
        tmp_path / 'uploads', limits_lib.Limits(**limits), RATE, clock)

  return make


def sent(uploads, content):
  """A file as it came: bytes, or samples."""
  path = uploads.place()
  if isinstance(content, bytes):
    path.write_bytes(content)
  else:
    soundfile.write(path, content, RATE, format='WAV', subtype='FLOAT')
  return path


def test_samples_come_back_and_the_file_goes(make, tmp_path):
  uploads = make()
  path = sent(uploads, np.stack([TONE, TONE / 2], 1))
  upload = uploads.take(path)
  assert upload.seconds == 2.0 and not path.exists()
  np.testing.assert_allclose(
      uploads.samples(upload.id), 0.75 * TONE, atol=1e-6)
  assert [f.suffix for f in (tmp_path / 'uploads').iterdir()] == ['.f32']


@pytest.mark.parametrize('content, line', [
    (b'', 'the file is not a file of sound that is known here; expected WAV'),
    (b'#!/bin/sh\n', 'the file is not a file of sound that is known here'),
    (b'RIFF\0\0\0\0WAVEjunk', 'the file is not readable audio: '),
    (b'OggS' + bytes(100), 'the file is not readable audio: '),
    (b'ID3' + bytes(100), 'the file is not readable audio: '),
    (np.zeros((9, 3)), 'the file has 3 channels; expected mono or stereo.'),
    (np.full(9, np.nan), 'the file holds NaN or infinite samples.'),
    (np.zeros(0), 'the file is empty: it holds no samples at 24000 Hz.'),
    (np.tile(TONE, 2), 'the file is longer than 3 s, the limit of this server'),
])
def test_what_cannot_be_used(make, tmp_path, content, line):
  uploads = make(upload_seconds=3)
  with pytest.raises(errors.UserError) as error:
    uploads.take(sent(uploads, content))
  text = str(error.value)
  assert text.startswith(line) and '\n' not in text
  assert str(tmp_path) not in text, 'a path of the server is shown'
  assert not list((tmp_path / 'uploads').iterdir())


def test_all_of_a_recording_is_taken(make):
  out = io.BytesIO()
  soundfile.write(out, TONE, RATE, format='WAV', subtype='PCM_16')
  content = bytearray(out.getvalue())
  at = content.index(b'data') + 4
  content[at:at + 4] = bytes(4)  # the recorder has never told the length
  uploads = make()
  assert uploads.take(sent(uploads, bytes(content))).seconds == 2.0


def test_a_large_file_is_not_even_opened(make):
  uploads = make(upload_mib=1)
  with pytest.raises(uploads_lib.TooLarge, match='larger than 1 MiB'):
    uploads.take(sent(uploads, bytes((1 << 20) + 1)))


def test_decoding_takes_so_long_at_most(make, tmp_path):
  uploads = make(upload_time_s=0.01)
  with pytest.raises(errors.UserError, match='longer than 0.01 s to decode'):
    uploads.take(sent(uploads, TONE))
  assert not list((tmp_path / 'uploads').iterdir())


def test_decoding_takes_so_much_memory_at_most(make, tmp_path):
  uploads = make(upload_memory_mib=20)
  with pytest.raises(errors.UserError, match='within the memory and time'):
    uploads.take(sent(uploads, TONE))
  assert not list((tmp_path / 'uploads').iterdir())


def test_the_process_is_limited():
  """Its limits hold: memory, and the size of what it writes."""
  code = ('from musiclm_jax.serving import decoder\n'
          'decoder.limit(5, 300, 1000)\n'
          'try: bytearray(400 << 20)\n'
          'except MemoryError: print("memory", flush=True)\n'
          'import signal, tempfile\n'
          'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
          'file = tempfile.TemporaryFile(buffering=0)\n'
          'print(file.write(bytes(2000)))\n')
  done = subprocess.run([sys.executable, '-c', code], capture_output=True,
                        text=True, check=True)
  assert done.stdout == 'memory\n1000\n'


@pytest.mark.parametrize('start, known', [
    (b'RIFF\1\2\3\4WAVE', True), (b'fLaC\0\0\0\x22', True), (b'OggS', True),
    (b'FORM\1\2\3\4AIFF', True), (b'FORM\1\2\3\4AIFC', True),
    (b'FORM\1\2\3\48SVX', False),
    (b'ID3\4', True), (b'\xff\xfb\x90', True), (b'RIFF\1\2\3\4AVI ', False),
    (b'\xff\xd8\xff\xe0', False), (b'PK\3\4', False), (b'<html>', False),
])
def test_kinds_of_files(start, known):
  assert decoder.is_sound(start) is known


def test_uploads_are_held_for_a_while(make, tmp_path):
  now = [0.0]
  uploads = make(clock=lambda: now[0], keep_minutes=1)
  old = uploads.take(sent(uploads, TONE))
  now[0] = 59.0
  young = uploads.take(sent(uploads, TONE))
  now[0] = 61.0
  uploads.tidy()
  assert len(uploads.samples(young.id)) == len(TONE)
  for identity in (old.id, 'nothing', '../../etc/passwd'):
    with pytest.raises(errors.UserError, match='there is no upload'):
      uploads.samples(identity)
  assert len(list((tmp_path / 'uploads').iterdir())) == 1


def test_the_page_keeps_so_much(tmp_path):
  for number in range(4):
    path = tmp_path / str(number) / 'sent.wav'
    path.parent.mkdir()
    path.write_bytes(bytes(100))
    age = time.time() - 100 * (4 - number)
    os.utime(path, (age, age))
  limits = limits_lib.Limits(keep_minutes=350 / 60)
  uploads_lib.sweep(tmp_path, limits)
  assert sorted(p.parent.name for p in tmp_path.rglob('*.wav')) == [
      '1', '2', '3']
  uploads_lib.sweep(
      tmp_path, dataclasses.replace(limits, keep_mib=250 / limits_lib.MIB))
  assert sorted(p.parent.name for p in tmp_path.rglob('*.wav')) == ['2', '3']
