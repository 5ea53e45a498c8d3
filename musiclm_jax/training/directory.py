"""MODEL_DIR: can it be written, is it a run's, and is it one run's alone?"""

from collections.abc import Iterator
import contextlib
import pathlib
import re

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.training import consensus
from musiclm_jax.training import run_record

SETTINGS = 'config.gin'
_HEADER = '# What the last start of this run read.\n'


def place(model_dir: str | pathlib.Path) -> pathlib.Path:
  """The absolute path of `model_dir`: where it is, whoever asks and when.

  Raises:
    UserError: it is the address of a bucket.
  """
  if re.match(r'\w+:/', str(model_dir)):  # once absolute it looks like a path
    raise errors.UserError(
        f'MODEL_DIR is {model_dir}; expected a directory. Mount the bucket on '
        f'every host (gcsfuse, or a shared disk) and give its path.')
  return pathlib.Path(model_dir).absolute()


def check(model_dir: str | pathlib.Path) -> None:
  """Makes `model_dir`.

  Raises:
    UserError: nothing can be written there, or it holds files that a run would
      write over and no run of this program left.
  """
  path = place(model_dir)
  _check_own(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
    files.try_writing(path)
  except OSError as error:
    raise errors.UserError(
        f'cannot write to MODEL_DIR {path} ({error.strerror}); choose '
        f'another.') from error


def _check_own(path):
  if (path / run_record.NAME).is_file() or not path.is_dir():
    return
  strange = [name for name in ('metrics.csv', 'damaged')
             if (path / name).exists()]
  if (path / 'checkpoints').is_dir() and any((path / 'checkpoints').iterdir()):
    strange.append('checkpoints')
  settings = path / SETTINGS
  if settings.is_file() and not settings.read_text(
      encoding='utf-8', errors='replace').startswith(_HEADER):
    strange.append(SETTINGS)
  if strange:
    raise errors.UserError(
        f'MODEL_DIR {path} holds {", ".join(strange)} and no '
        f'{run_record.NAME}, so it is no run of this program; choose another.')


def write_settings(model_dir: str | pathlib.Path, text: str) -> None:
  """Keeps what the gin files came to."""
  if consensus.is_first():
    with files.whole(pathlib.Path(model_dir) / SETTINGS) as temporary:
      temporary.write_text(_HEADER + text, encoding='utf-8')


@contextlib.contextmanager
def claimed(model_dir: str | pathlib.Path) -> Iterator[None]:
  """Keeps other runs out; the first of several hosts does it for all."""
  with contextlib.ExitStack() as stack:
    if consensus.is_first():
      stack.enter_context(files.claimed(model_dir, 'MODEL_DIR'))
    yield
