"""A data set's downloaded archive: unpacked, or the zip file itself."""

import hashlib
import pathlib
import zipfile

from musiclm_jax import errors
from musiclm_jax.data import sounds

_COPY_BYTES = 1 << 22


class Archive:
  """What is in DIR/NAME/, or, where that is missing, in DIR/NAME.zip.

  Attributes:
    path: of the folder or zip file.
  """

  def __init__(self, directory: pathlib.Path, name: str):
    """Finds it; UserError where neither is there, or the zip file is none."""
    folder, packed = directory / name, directory / f'{name}.zip'
    self._name, self._members = name, None
    if folder.is_dir():
      self.path = folder
    elif packed.is_file():
      self.path = packed
      try:
        self._members = frozenset(sounds.opened(packed).namelist())
      except zipfile.BadZipFile as error:
        raise errors.UserError(
            f'{packed} is no whole zip file; download it again.') from error
    else:
      raise errors.UserError(
          f'{directory} has neither {name}/ nor {name}.zip.')

  def has(self, member: str) -> bool:
    """Whether it has a file."""
    if self._members is None:
      return (self.path / member).is_file()
    return f'{self._name}/{member}' in self._members

  def read(self, member: str) -> bytes:
    """A file's bytes; UserError where it is missing."""
    if not self.has(member):
      raise errors.UserError(f'{self.path} has no {member}.')
    if self._members is None:
      return (self.path / member).read_bytes()
    return sounds.opened(self.path).read(f'{self._name}/{member}')

  def sound(self, member: str, sha1: str = '') -> sounds.Sound:
    """A file as a track's sound, all of it."""
    if self._members is None:
      return sounds.Sound(self.path / member, sha1=sha1)
    return sounds.Sound(self.path, f'{self._name}/{member}', sha1=sha1)


def check_sha1(path: pathlib.Path, expected: str) -> None:
  """UserError unless a downloaded file is the published one."""
  digest = hashlib.sha1(usedforsecurity=False)
  with open(path, 'rb') as stream:
    for block in iter(lambda: stream.read(_COPY_BYTES), b''):
      digest.update(block)
  if digest.hexdigest() != expected:
    raise errors.UserError(
        f'{path} has SHA-1 {digest.hexdigest()}, the published one has '
        f'{expected}; download it again.')
