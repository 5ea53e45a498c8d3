"""Is a checkpoint that could not be restored damaged, or only out of reach?

A damaged checkpoint makes way for the one before it, and moves aside. So damage
is only what can be named. Orbax and TensorStore say these things of files that
are cut, changed or gone:

  missing     one of the files that every checkpoint has; NOT_FOUND
  cut short   OUT_OF_RANGE; 'Truncated Zstd-compressed stream', which is also what
              they say where the file of an array is gone
  changed     DATA_LOSS, of a checksum, a beginning or a length that is wrong;
              'ZSTD_decompressStream() failed'; JSON that is none, or no text

What the operating system refuses (EIO, EACCES, ESTALE, a time-out) may be there
again in a minute. It comes as an OSError, or ends in os_error_code where
TensorStore reports it under any of its own codes. It is no damage, and neither is
what says nothing about files, such as memory that ran out.

One kind of damage stays unseen: TensorStore keeps no checksum of the arrays
themselves, so a value that changed on disk is read as it stands.
"""

from collections.abc import Iterator
import json
import os
import pathlib
import re

# Without these, beside the arrays, nothing of a checkpoint can be read.
_NEEDED = ('state/_METADATA', 'data/metadata')
_BROKEN = {'DATA_LOSS': 'changed', 'OUT_OF_RANGE': 'cut short',
           'NOT_FOUND': 'missing'}
# Without one of these codes before it, it is said in words.
_CORRUPT = re.compile(
    r'data corruption|error decoding|checksum|ZSTD_decompressStream|'
    r'Truncated Zstd', re.I)
_REFUSED = "os_error_code='"
_CODE = re.compile(r'([A-Z]+(?:_[A-Z]+)*): ')
# What TensorStore adds for its own developers.
_ASIDE = re.compile(r'\[(?:tensorstore_spec|source locations|os_error_code)')
_LONGEST = 200  # characters of what a library says


def judge(path: pathlib.Path, error: Exception) -> tuple[str, str]:
  """What a failed restore says of a checkpoint.

  Args:
    path: of the checkpoint.
    error: what restoring it raised.
  Returns:
    (damage, trouble): what is broken, such as 'data/metadata missing', or why
    it could not be read just now, such as 'Input/output error'. One of them is
    '', and both are where the error says nothing about files.
  """
  causes = list(_causes(error))
  for cause in causes:
    trouble = _refusal(cause)
    if trouble:
      return '', trouble
  try:
    gone = _missing(path)
  except OSError as refused:
    return '', refused.strerror or str(refused)
  if gone:
    return f'{" and ".join(gone)} missing', ''
  for cause in causes:
    damage = _damage(path, cause)
    if damage:
      return damage, ''
  for cause in causes:
    if isinstance(cause, FileNotFoundError) or (
        isinstance(cause, ValueError) and _CODE.match(str(cause))):
      return '', _first_line(cause)
  return '', ''


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """An error and what it was raised from."""
  while error is not None:
    yield error
    error = error.__cause__


def _refusal(error: BaseException) -> str:
  """What the operating system said, or ''."""
  # That a file is not there is what it says of damage, too.
  if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
    return error.strerror or _first_line(error)
  if isinstance(error, ValueError) and _REFUSED in str(error):
    return _ASIDE.split(str(error))[0].strip().rsplit(': ', 1)[-1]
  return ''


def _missing(path: pathlib.Path) -> list[str]:
  """Which of the files that every checkpoint has are gone.

  Raises:
    OSError: the system does not say; the checkpoint as a whole is gone.
  """
  os.stat(path)
  gone = []
  for name in _NEEDED:
    try:
      os.stat(path / name)
    except (FileNotFoundError, NotADirectoryError):
      gone.append(name)
  return gone


def _damage(path: pathlib.Path, error: BaseException) -> str:
  """What is broken by what one error says, or ''."""
  if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
    return _first_line(error)
  if not isinstance(error, ValueError):
    return ''
  # All of it, because paths may take up a line's length before the cause comes.
  text = _ASIDE.split(str(error).strip())[0]
  code = _CODE.match(text)
  how = _BROKEN.get(code[1] if code else '')
  if how is None and _CORRUPT.search(text):
    how = 'cut short' if 'Truncated' in text else 'changed'
  return f'{_named(path, str(error))} {how}' if how else ''


def _named(path: pathlib.Path, text: str) -> str:
  """The file, or the array, that TensorStore speaks of."""
  text = _ASIDE.split(text)[0]
  files = re.findall(r'local file "([^"]+)"', text)  # the innermost is the last
  array = re.search(r'"([^"]+)/(?:\.zarray|[\d.]*)" in OCDBT', text)
  if files and not files[-1].endswith('/'):
    return files[-1].removeprefix(f'{path}/')
  return f'array {array[1]}' if array else 'a file'


def _first_line(error: BaseException) -> str:
  """What an error says, in one line."""
  text = _ASIDE.split(str(error).strip())[0].strip()
  return (text.splitlines() or [type(error).__name__])[0][:_LONGEST]
