"""M4A, AAC, WMA and Matroska: what libsndfile has no decoder for.

ffmpeg, where imageio-ffmpeg has brought it, makes a W64 file of floats of them,
which is gone when it is closed. By its first bytes a file is one of them, and its
format is told to ffmpeg: it is not left to guess, nor to open anything else.
"""

import errno
import os
import pathlib
import subprocess
import tempfile

from musiclm_jax import errors
from musiclm_jax.audio_files import view

SUFFIXES = ('.m4a', '.m4b', '.mp4', '.3gp', '.aac', '.wma', '.mka', '.webm')
_ASF = bytes.fromhex('3026b2758e66cf11')
_MATROSKA = bytes.fromhex('1a45dfa3')


class NoDecoder(errors.UserError):
  """The package that decodes a file is not installed."""


def format_of(start: bytes) -> str:
  """ffmpeg's name of the format of a file with these first bytes, or ''."""
  if start[4:8] == b'ftyp':
    return 'mov'
  if start[:4] == _MATROSKA:
    return 'matroska'
  if start[:8] == _ASF:
    return 'asf'
  # ADTS: twelve bits of ones, then layer 0, which no MP3 has.
  return 'aac' if len(start) > 1 and start[0] == 0xff and (
      start[1] & 0xf6 == 0xf0) else ''


def decoded(path: str | os.PathLike, kind: str) -> view.View:
  """A view of the sound of a file, as W64.

  Args:
    path: of the file.
    kind: of `format_of`.

  Raises:
    NoDecoder: imageio-ffmpeg is not installed.
    ValueError: it cannot be decoded.
    OSError: the disk is full.
  """
  try:
    import imageio_ffmpeg  # pylint: disable=g-import-not-at-top
  except ModuleNotFoundError as error:
    raise NoDecoder(
        f'{path} needs a decoder of its own; run `pip install imageio-ffmpeg`, '
        f'or make WAV or FLAC of it.') from error
  with tempfile.TemporaryDirectory() as folder:
    made = pathlib.Path(folder) / 'sound.w64'
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), '-nostdin', '-v', 'error', '-xerror',
         '-protocol_whitelist', 'file', '-f', kind, '-i',
         f'file:{pathlib.Path(path).absolute()}', '-map', '0:a:0',
         '-c:a', 'pcm_f32le', '-f', 'w64', str(made)],
        stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = done.stderr.decode('utf-8', 'replace')
    if os.strerror(errno.ENOSPC) in said:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    if done.returncode or not made.is_file():
      raise ValueError(said.strip().splitlines()[-1:] or 'nothing came of it')
    return view.View(made, [(0, made.stat().st_size)])  # opened, so it stays
