"""Debian packages: download them, read their files. No root, nothing installed.

The tools are apt-get and dpkg-deb; what goes wrong is said with the command and
the package.
"""

import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

from musiclm_jax import errors

_ABSENT = ('Unable to locate package', 'No packages found',
           'has no installation candidate', "Can't select candidate")
_COPY_BYTES = 1 << 20


class NotInRelease(errors.UserError):
  """The package does not exist in the Debian release that apt knows."""


def find(name, folder):
  """The package's .deb in `folder` (the newest by name), or None."""
  found = sorted(pathlib.Path(folder).glob(f'{name}_*.deb'))
  return found[-1] if found else None


def download(name, folder):
  """Fetches a package into `folder` with apt-get; returns the path.

  Raises:
    NotInRelease: apt knows no such package.
    UserError: no apt-get, or it failed: network, sources, disk.
  """
  command = ['apt-get', 'download', name]
  spelled = ' '.join(command)
  if not shutil.which('apt-get'):
    raise errors.UserError(
        f'{name} is to be fetched by `{spelled}`, but there is no apt-get '
        f'here; fetch the packages on a Debian machine and name their folder with '
        f'--debs.')
  result = subprocess.run(
      command, cwd=folder, capture_output=True, text=True, check=False,
      env={**os.environ, 'LC_ALL': 'C'})
  if any(sign in result.stderr for sign in _ABSENT):
    raise NotInRelease(
        f'`{spelled}` knows no package {name}: it is not in this Debian '
        f'release or the lists are old (`apt-get update`).')
  path = find(name, folder)
  if result.returncode or path is None:
    lines = [l for l in result.stderr.splitlines() if l.startswith('E:')]
    reason = (lines or result.stderr.splitlines() or ['no message'])[-1]
    raise errors.UserError(
        f'`{spelled}` failed ({reason.strip()}); check the network and apt\'s '
        f'sources, or name a folder that has {name}_*.deb with --debs.')
  return path


def version(deb):
  """The version that a .deb's own records state."""
  return _dpkg_deb(['--field', str(deb), 'Version'], deb).strip()


def unpack(package, deb, folder):
  """Writes the package's recordings into `folder`.

  Args:
    package: a Package.
    deb: its .deb.
    folder: exists; files get names of our own there.

  Returns:
    ([(path inside the package, file)] in order, debian/copyright's text or '').
  """
  folder, found, notice = pathlib.Path(folder), [], ''
  command = ['dpkg-deb', '--fsys-tarfile', str(deb)]
  _need_dpkg_deb(deb)
  with subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    try:
      with tarfile.open(fileobj=process.stdout, mode='r|') as tar:
        for member in tar:
          path = member.name.removeprefix('./')
          if path == f'usr/share/doc/{package.name}/copyright' and (
              member.isfile()):
            notice = tar.extractfile(member).read().decode('utf-8', 'replace')
          elif member.isfile() and package.is_archive(path):
            found += _unzip(package, tar.extractfile(member), folder)
          elif member.isfile() and package.is_music(path):
            found.append((path, _save(
                tar.extractfile(member), folder, len(found), path)))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
      raise errors.UserError(
          f'{deb} cannot be unpacked ({error}); fetch it again with '
          f'`apt-get download {package.name}`.') from error
    while process.stdout.read(_COPY_BYTES):  # a closed pipe would fail it
      pass
    message = process.stderr.read().decode('utf-8', 'replace').strip()
  if process.returncode:
    raise _failed(command, message, deb)
  return sorted(found), notice


def _unzip(package, stream, folder):
  """The recordings of a zip file that is itself a member of the package."""
  archive = folder / 'archive.zip'
  found = []
  try:
    with open(archive, 'wb') as out:
      shutil.copyfileobj(stream, out, _COPY_BYTES)
    with zipfile.ZipFile(archive) as opened:
      for path in sorted(opened.namelist()):
        if package.is_music(path):
          with opened.open(path) as member:
            found.append((path, _save(member, folder, len(found), path)))
  finally:
    archive.unlink(missing_ok=True)
  return found


def _save(stream, folder, number, path):
  file = folder / f'{number:05d}{pathlib.PurePosixPath(path).suffix}'
  with open(file, 'wb') as out:
    shutil.copyfileobj(stream, out, _COPY_BYTES)
  return file


def _need_dpkg_deb(deb):
  if not shutil.which('dpkg-deb'):
    raise errors.UserError(
        f'{deb} is to be unpacked by `dpkg-deb`, which is not here; install '
        f'the system package dpkg.')


def _dpkg_deb(arguments, deb):
  _need_dpkg_deb(deb)
  command = ['dpkg-deb', *arguments]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  if result.returncode:
    raise _failed(command, result.stderr, deb)
  return result.stdout


def _failed(command, message, deb):
  last = (message.strip().splitlines() or ['no message'])[-1]
  return errors.UserError(
      f'`{" ".join(command)}` failed ({last}); is {deb} a whole Debian '
      f'package? Remove it to have it fetched again.')
