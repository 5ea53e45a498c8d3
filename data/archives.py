"""A data set's downloaded archive: unpacked, or the zip file itself."""

import hashlib
import pathlib
import zipfile

from musiclm_jax import errors

_COPY_BYTES = 1 << 22


class Archive:
  """What is in DIR/NAME/, or, where that is missing, in DIR/NAME.zip.

  Attributes:
    path: of the folder or zip file.
  """

  def __init__(self, directory: pathlib.Path, name: str):
    """Finds it; UserError where neither is there, or the zip file is none."""
    folder, packed = directory / name, directory / f'{name}.zip'
    self._name, self._zip, self._members = name, None, frozenset()
    if folder.is_dir():
      self.path = folder
    elif packed.is_file():
      self.path = packed
      try:
        self._zip = zipfile.ZipFile(packed)
      except zipfile.BadZipFile as error:
        raise errors.UserError(
            f'{packed} is no whole zip file; download it again.') from error
      self._members = frozenset(self._zip.namelist())
    else:
      raise errors.UserError(
          f'{directory} has neither {name}/ nor {name}.zip.')

  def has(self, member: str) -> bool:
    """Whether it has a file."""
    if self._zip is None:
      return (self.path / member).is_file()
    return f'{self._name}/{member}' in self._members

  def read(self, member: str) -> bytes:
    """A file's bytes; UserError where it is missing or damaged."""
    if not self.has(member):
      raise errors.UserError(f'{self.path} has no {member}.')
    if self._zip is None:
      return (self.path / member).read_bytes()
    try:
      return self._zip.read(f'{self._name}/{member}')
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
      raise errors.UserError(
          f'{member} of {self.path} cannot be unpacked ({error}); unpack it '
          f'yourself, or download it again.') from error

  def where(self, member: str) -> str:
    """The path of a file, or its URL in the zip file, as `places` opens it."""
    if self._zip is None:
      return str((self.path / member).absolute())
    return f'zip://{self._name}/{member}::file://{self.path.absolute()}'


def sha1(path: pathlib.Path) -> str:
  """The SHA-1 of a file, in hexadecimal digits."""
  digest = hashlib.sha1(usedforsecurity=False)
  with open(path, 'rb') as stream:
    for block in iter(lambda: stream.read(_COPY_BYTES), b''):
      digest.update(block)
  return digest.hexdigest()


def check_sha1(path: pathlib.Path, expected: str) -> None:
  """UserError unless a downloaded file is the published one."""
  found = sha1(path)
  if found != expected:
    raise errors.UserError(
        f'{path} has SHA-1 {found}, the published one has {expected}; download '
        f'it again.')
