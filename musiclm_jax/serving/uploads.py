"""Recordings that clients send: checked, decoded elsewhere, held for a while.

The name that a client has for a file is never used, because a name can point
anywhere: what comes is stored under a random id in the server's temporary
folder. It is decoded at once, and then only the samples are kept.
"""

from collections.abc import Callable
import dataclasses
import os
import pathlib
import secrets
import subprocess
import sys
import threading
import time

import numpy as np

from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax.serving import decoder
from musiclm_jax.serving import jobs as jobs_lib
from musiclm_jax.serving import limits as limits_lib

_MAX_DECODERS = 2  # at once, because each may take a core and a GiB
_PATIENCE_S = 2.0  # that others wait for them before they are told 'busy'
_MAX_HELD = 64
_RETRY_S = 5
_BYTES = 4  # of a float32 sample
_ROOT = pathlib.Path(__file__).parents[2]


class TooLarge(errors.UserError):
  """More bytes than are taken."""


class WrongKind(errors.UserError):
  """Not a file of sound."""


@dataclasses.dataclass(frozen=True)
class Upload:
  """A recording.

  Attributes:
    id: unguessable, so that only who has sent it can use it.
    file: holds [N] float32 at the server's rate.
    seconds: of its sound.
    came: seconds of the clock at which it came.
  """

  id: str
  file: pathlib.Path
  seconds: float
  came: float


class Uploads:
  """The recordings that are held, each for a while.

  Attributes:
    most_bytes: of one file.
  """

  def __init__(self, folder: str | os.PathLike, limits: limits_lib.Limits,
               rate: int, clock: Callable[[], float] = time.monotonic):
    """Holds nothing yet.

    Args:
      folder: that exists, for this alone.
      limits: the limits.Limits.
      rate: of the samples, in Hz.
      clock: function giving seconds.
    """
    self._folder, self._limits = pathlib.Path(folder), limits
    self._rate, self._clock = rate, clock
    self._held: dict[str, Upload] = {}
    self._lock = threading.Lock()
    self._decoders = threading.BoundedSemaphore(_MAX_DECODERS)
    self.most_bytes = limits.upload_mib * limits_lib.MIB

  def place(self) -> pathlib.Path:
    """A path at which a file may be written; `take` or unlink it."""
    return self._folder / f'{secrets.token_urlsafe(12)}.sent'

  def too_large(self, what: str = 'the file') -> TooLarge:
    """The error for a file of more than `most_bytes`."""
    return TooLarge(
        f'{what} is larger than {self._limits.upload_mib} MiB, the limit of '
        f'this server; send a shorter recording.')

  def take(self, path: pathlib.Path) -> Upload:
    """Decodes a file, deletes it and holds the samples.

    Raises:
      TooLarge, WrongKind, UserError: it cannot be used.
      Busy: others are decoded.
    """
    identity = secrets.token_urlsafe(12)
    file = self._folder / f'{identity}.f32'
    try:
      count = self._decode(path, file, 'the file')
    finally:
      path.unlink(missing_ok=True)
    upload = Upload(identity, file, count / self._rate, self._clock())
    with self._lock:
      self._held[identity] = upload
    self.tidy()
    return upload

  def samples(self, identity: str) -> np.ndarray:
    """[N] float32 of an upload; UserError where it is not held."""
    with self._lock:
      upload = self._held.get(identity)
    if upload is not None:
      try:
        return np.fromfile(upload.file, np.float32)
      except FileNotFoundError:
        pass  # `tidy` came between
    raise errors.UserError(
        f'there is no upload {identity[:40]!r}, or it is no longer held; '
        f'send the recording again.')

  def decoded(self, path: pathlib.Path, what: str) -> np.ndarray:
    """[N] float32 of a file, which is not deleted.

    Args:
      path: of the file.
      what: how messages call it.

    Raises:
      As `take` does.
    """
    file = self._folder / f'{secrets.token_urlsafe(12)}.f32'
    try:
      self._decode(path, file, what)
      return np.fromfile(file, np.float32)
    finally:
      file.unlink(missing_ok=True)

  def tidy(self) -> None:
    """Deletes the oldest uploads, where they are too old, many or large."""
    with self._lock:
      held = [(upload.came, upload.file.stat().st_size, upload)
              for upload in self._held.values()]
      for upload in self._limits.surplus(held, self._clock(), most=_MAX_HELD):
        upload.file.unlink()
        del self._held[upload.id]

  def _decode(self, path: pathlib.Path, file: pathlib.Path, what: str) -> int:
    """Writes [N] float32 to `file` and returns N."""
    if path.stat().st_size > self.most_bytes:
      raise self.too_large(what)
    with open(path, 'rb') as sent:
      if not decoder.is_sound(sent.read(decoder.SNIFFED_BYTES)):
        raise WrongKind(
            f'{what} is not a file of sound that is known here; expected '
            f'{audio_stream.KINDS}.')
    if not self._decoders.acquire(timeout=_PATIENCE_S):
      raise jobs_lib.Busy(
          'busy: others are sending recordings; try again later.', _RETRY_S)
    try:
      self._run(path, file, what)
    except errors.UserError:
      file.unlink(missing_ok=True)
      raise
    finally:
      self._decoders.release()
    return file.stat().st_size // _BYTES

  def _run(self, path: pathlib.Path, file: pathlib.Path, what: str) -> None:
    """Decodes in a process of its own; UserError for whatever happens there.

    The libraries that read files of sound are written in C, and a file can be
    made so that it crashes them or takes all memory. The process has limits of
    both time and memory, and nothing of the server's environment, so the server
    goes on whatever happens in it.
    """
    limits = self._limits
    command = [sys.executable, '-P', '-m', 'musiclm_jax.serving.decoder',
               str(path), str(file), str(self._rate),
               str(limits.upload_seconds), str(limits.upload_memory_mib),
               str(int(limits.upload_time_s)), what]
    try:
      done = subprocess.run(
          command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
          stderr=subprocess.PIPE, timeout=limits.upload_time_s, check=False,
          cwd=self._folder, env=dict(
              PATH=os.defpath, PYTHONPATH=str(_ROOT), OPENBLAS_NUM_THREADS='1',
              LC_ALL='C.UTF-8'))
    except subprocess.TimeoutExpired:
      raise errors.UserError(
          f'{what} took longer than {limits.upload_time_s:g} s to decode; '
          f'expected a plain recording.') from None
    if done.returncode == decoder.REFUSED:
      raise errors.UserError(
          done.stderr.decode('utf-8', 'replace').strip().splitlines()[-1])
    if done.returncode:
      raise errors.UserError(
          f'{what} could not be decoded within the memory and time that a '
          f'recording should need; expected a plain recording.')


def sweep(folder: pathlib.Path, limits: limits_lib.Limits) -> None:
  """Deletes the oldest files of a folder, where they are too old or large."""
  files = []
  for path in folder.rglob('*'):
    try:
      if path.is_file():
        status = path.stat()
        files.append((status.st_mtime, status.st_size, path))
    except FileNotFoundError:  # its owner deleted it just now
      continue
  for path in limits.surplus(files, time.time()):
    path.unlink(missing_ok=True)
