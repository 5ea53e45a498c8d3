"""What one server gives: lengths, times, counts, bytes."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import math
from typing import TypeVar

from musiclm_jax import errors
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import story as story_lib

MIB = 1 << 20
_Thing = TypeVar('_Thing')
WARM = ('all', 'one', 'none')  # as `warm` tells


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds of a server; every default is ours.

  Attributes:
    queue: requests that wait; what comes beyond is answered 'busy'.
    max_seconds: of audio that a request may ask for, with what it continues.
    max_samples: that are drawn for one request.
    time_limit_s: of work on one request; neither waiting nor compiling count.
    upload_mib: of a file that is sent.
    upload_seconds: of its sound.
    upload_time_s: of decoding it.
    upload_memory_mib: of the process that decodes it.
    keep: results that are held, the oldest go first.
    keep_mib: that results take on the disk, and uploads as much again.
    keep_minutes: that a result or an upload is held.
  """

  queue: int = 8
  max_seconds: int = 120
  max_samples: int = 4
  time_limit_s: float = 300.0
  upload_mib: int = 20
  upload_seconds: int = 120
  upload_time_s: float = 20.0
  upload_memory_mib: int = 1024
  keep: int = 50
  keep_mib: int = 512
  keep_minutes: float = 60.0

  def check(self, settings: settings_lib.Settings, known: int = 0) -> None:
    """UserError for more than is given.

    Args:
      settings: the settings.Settings.
      known: seconds of the recording that is continued.
    """
    if known + settings.seconds > self.max_seconds:
      before = f' after {known} s of a recording' if known else ''
      raise errors.UserError(
          f'seconds is {settings.seconds:g}{before}; this server makes at most '
          f'{self.max_seconds}.')
    if settings.drawn > self.max_samples:
      name = 'best_of' if settings.best_of else 'samples'
      raise errors.UserError(
          f'{name} is {settings.drawn}; this server draws at most '
          f'{self.max_samples}.')

  def check_story(self, parts: Sequence[story_lib.Part]) -> None:
    """UserError for a story.Part that begins where no music may be."""
    if parts[-1].at >= self.max_seconds:
      raise errors.UserError(
          f'the story has a part at {story_lib.clock(parts[-1].at)}; this '
          f'server makes at most {self.max_seconds} s.')

  def surplus(self, held: Iterable[tuple[float, int, _Thing]], now: float,
              most: float = math.inf, spared: int = 0) -> list[_Thing]:
    """What to drop, so that the rest is few, small and young enough.

    Args:
      held: (when it came, bytes, thing) of each thing.
      now: when it is.
      most: things that may be held.
      spared: of the youngest things, that go only when they are too old.

    Returns:
      Things, the oldest first.
    """
    oldest_first = sorted(held, key=lambda one: one[0])
    total = sum(size for _, size, _ in oldest_first)
    for number, (came, size, _) in enumerate(oldest_first):
      left = len(oldest_first) - number
      if came >= now - 60 * self.keep_minutes and (
          left <= spared or left <= most and total <= self.keep_mib * MIB):
        return [thing for _, _, thing in oldest_first[:number]]
      total -= size
    return [thing for _, _, thing in oldest_first]


# Option of the shell -> (field, lowest, highest, help). No pydantic model: the
# shell lists the options even where the web packages are not installed.
OPTIONS: dict[str, tuple[str, int, int, str]] = {
    '--queue': ('queue', 1, 1000, 'requests that may wait; others are answered '
                '"busy" at once'),
    '--max-seconds': ('max_seconds', 1, settings_lib.MAX_SECONDS,
                      'longest audio of a request'),
    '--max-samples': ('max_samples', 1, settings_lib.MAX_SAMPLES,
                      'most samples of a request'),
    '--time-limit': ('time_limit_s', 1, 86_400, 'seconds of work on a request'),
    '--upload-mib': ('upload_mib', 1, 1000, 'largest file that is taken'),
    '--upload-seconds': ('upload_seconds', 1, settings_lib.MAX_SECONDS,
                         'longest recording that is taken'),
    '--keep': ('keep', 1, 10_000, 'results that are held'),
    '--keep-mib': ('keep_mib', 16, 1_000_000, 'disk that results take'),
    '--keep-minutes': ('keep_minutes', 1, 100_000, 'how long a result is held'),
}


def make(values: Mapping[str, float | None]) -> Limits:
  """Checked `Limits`.

  Args:
    values: {field: number or None}; None stands for the default.
  """
  for option, (name, low, high, _) in OPTIONS.items():
    value = values.get(name)
    if value is not None and not low <= value <= high:
      raise errors.UserError(
          f'{option} is {value:g}; expected {low} to {high}.')
  return Limits(**{k: v for k, v in values.items() if v is not None})
