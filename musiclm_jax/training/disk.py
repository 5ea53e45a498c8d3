"""A disk that cannot be written to ends a run with one line."""

import contextlib
import errno
import re
import shutil

from musiclm_jax import errors

_CODES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
          errno.EFBIG, errno.EIO, errno.ESTALE}
# What libraries make of them, in words.
_WORDS = re.compile(
    r'No space left on device|Disk quota exceeded|Read-only file system|'
    r'Permission denied|File too large|Input/output error|Stale file handle')


@contextlib.contextmanager
def explained(model_dir):
  """Turns such an error, wherever it was first raised, into a UserError."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:  # pylint: disable=broad-exception-caught
    reason = _reason(error)
    if not reason:
      raise
    raise errors.UserError(
        f'cannot write to MODEL_DIR {model_dir} ({reason}; '
        f'{_free(model_dir)}). The checkpoints written before are whole: make '
        f'room, then run the same command again.') from error


def _reason(error):
  """What the disk said, or ''."""
  seen = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    if isinstance(error, OSError) and error.errno in _CODES:
      return error.strerror
    found = _WORDS.search(str(error))
    if found:
      return found.group()
    error = error.__cause__ or error.__context__
  return ''


def _free(path):
  try:
    return f'{shutil.disk_usage(path).free / 2**20:,.0f} MiB free'
  except OSError:
    return 'the directory is gone'
