"""A disk that cannot be written to ends a run with one line."""

from collections.abc import Iterator
import contextlib
import errno
import pathlib
import shutil

from musiclm_jax import errors

_CODES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
          errno.EFBIG, errno.EIO, errno.ESTALE}


@contextlib.contextmanager
def explained(model_dir: str | pathlib.Path) -> Iterator[None]:
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
  for cause in errors.causes(error):
    if isinstance(cause, OSError) and cause.errno in _CODES:
      return cause.strerror
    found = errors.SYSTEM_WORDS.search(str(cause))
    if found:
      return found.group()
  return ''


def _free(path):
  try:
    return f'{shutil.disk_usage(path).free / 2**20:,.0f} MiB free'
  except OSError:
    return 'the directory is gone'
