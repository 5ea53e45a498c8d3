"""Opus as the anchor: what a widely used codec makes of the same clips.

  [N] at 24 kHz --ffmpeg, libopus--> Ogg --ffmpeg, libopus--> [N] at 24 kHz

ffmpeg comes with the package imageio-ffmpeg. libopus runs at its defaults for
music (20 ms frames, complexity 10) but for a constrained variable rate: left
free, 24 kbps of tonal music take up to 40, and a comparison by rate would mean
nothing. The rate that it really took is returned.
"""

import importlib.util
import pathlib
import subprocess
import tempfile

import numpy as np

from musiclm_jax import errors

PACKAGE = 'imageio-ffmpeg'
_DECODED_HZ = 48_000  # what libopus decodes to by itself


def available() -> bool:
  """Whether the package with ffmpeg is there."""
  return importlib.util.find_spec('imageio_ffmpeg') is not None


def round_trip(
    audio: np.ndarray, sample_rate_hz: int,
    kbps: float) -> tuple[np.ndarray, float]:
  """A clip through Opus.

  Args:
    audio: [N] float32 in -1..1; longer than a second.
    sample_rate_hz: 24,000 or another rate that Opus takes.
    kbps: the rate that is asked for.

  Returns:
    ([N] float32 at the same rate, the rate in kbps that its packets took).

  Raises:
    UserError: ffmpeg failed.
  """
  import soxr  # pylint: disable=g-import-not-at-top
  audio = np.ascontiguousarray(audio, np.float32)
  with tempfile.TemporaryDirectory() as folder:
    coded = pathlib.Path(folder) / 'coded.ogg'
    _ffmpeg(['-f', 'f32le', '-ar', str(sample_rate_hz), '-ac', '1', '-i', '-',
             '-c:a', 'libopus', '-b:a', f'{round(kbps * 1000)}',
             '-vbr', 'constrained', '-application', 'audio', str(coded)],
            audio.tobytes())
    decoded = np.frombuffer(_ffmpeg(
        ['-c:a', 'libopus', '-i', str(coded), '-f', 'f32le', '-ar',
         str(_DECODED_HZ), '-ac', '1', '-'], b''), np.float32)
    taken = _packet_bytes(coded.read_bytes())
  decoded = soxr.resample(decoded, _DECODED_HZ, sample_rate_hz, quality='HQ')
  missing = max(0, len(audio) - len(decoded))
  decoded = np.pad(decoded, (0, missing))[:len(audio)]
  return decoded, taken * 8 / (len(audio) / sample_rate_hz) / 1000


def _ffmpeg(arguments, given):
  """Runs ffmpeg; returns what it writes."""
  import imageio_ffmpeg  # pylint: disable=g-import-not-at-top
  command = [imageio_ffmpeg.get_ffmpeg_exe(), '-hide_banner', '-loglevel',
             'error', '-nostdin' if not given else '-y', *arguments]
  result = subprocess.run(
      command, input=given, capture_output=True, check=False)
  if result.returncode:
    lines = result.stderr.decode('utf-8', 'replace').strip().splitlines()
    raise errors.UserError(
        f'ffmpeg with libopus failed ({(lines or ["no message"])[-1]}); '
        f'install {PACKAGE} again.')
  return result.stdout


def _packet_bytes(data):
  """Bytes of audio packets in an Ogg stream: its pages less their headers.

  The first two pages hold Opus's own header and the tags.
  """
  position, page, total = 0, 0, 0
  while position + 27 <= len(data) and data[position:position + 4] == b'OggS':
    segments = data[position + 26]
    body = sum(data[position + 27:position + 27 + segments])
    total += body if page >= 2 else 0
    position += 27 + segments + body
    page += 1
  return total
