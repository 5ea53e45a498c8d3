"""What a request asks for, checked before it may wait.

A request is a mapping: `prompt`, `story`, `melody`, `like`, `continue_from`,
`format` and the fields of `generation.settings.Settings`. Messages are those
of the shell, with the names that are used here.
"""

import dataclasses

from musiclm_jax import errors
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering as steering_lib
from musiclm_jax.systems.musiclm import story as story_lib

FORMATS = ('wav', 'flac')
SOUNDS = ('melody', 'like', 'continue_from')  # ids of uploads
TEXTS = ('prompt', 'story')
SETTINGS = tuple(f.name for f in dataclasses.fields(settings_lib.Settings))
FIELDS = (*TEXTS, *SOUNDS, *SETTINGS, 'format')
MAX_STORY_BYTES = 100_000


@dataclasses.dataclass(frozen=True)
class Wanted:
  """A request that can be served.

  Attributes:
    settings: settings.Settings.
    steering: steering.Steering, with the samples of its recordings.
    format: of FORMATS.
    seconds: of audio, with what is continued.
  """

  settings: settings_lib.Settings
  steering: steering_lib.Steering
  format: str
  seconds: float


def read(values, bundle, limits, sound):
  """Checks a request.

  Args:
    values: the mapping, as JSON gives it.
    bundle: a bundle.Bundle.
    limits: the limits.Limits.
    sound: function from a field of SOUNDS and its value, the id of an upload,
      to [N] float32 at the bundle's rate; UserError for an unknown one.

  Returns:
    A `Wanted`.

  Raises:
    UserError: what cannot be made, in a line.
  """
  if not isinstance(values, dict):
    raise errors.UserError(
        f'the request is {errors.kind(values)}; expected an object with '
        f'prompt, seconds, seed and so on.')
  for name in values:
    if name not in FIELDS:
      raise errors.choice('field', name, FIELDS)
  values = {k: v for k, v in values.items() if v is not None}
  file_format = values.pop('format', FORMATS[0])
  if not isinstance(file_format, str):
    raise errors.UserError(
        f'format is {errors.kind(file_format)}; expected '
        f'{" or ".join(FORMATS)}.')
  if file_format not in FORMATS:
    raise errors.choice('format', file_format, FORMATS)
  if 'story' in values:
    values['story'] = story(values['story'])
    limits.check_story(values['story'])
  # Cheap things first: no recording is read for a request that is refused.
  asked = {k: values[k] for k in SETTINGS if k in values}
  if 'story' in values and 'seconds' not in values:
    asked['seconds'] = steering_lib.story_seconds(values['story'])
  limits.check(settings_lib.make(defaults=bundle.defaults, **asked))
  for name in SOUNDS:
    if name in values:
      if not isinstance(values[name], str):
        raise errors.UserError(
            f'{name} is {errors.kind(values[name])}; expected the id of an '
            f'upload.')
      values[name] = sound(name, values[name])
  settings, steering = steering_lib.asked(bundle, **values)
  known = 0 if steering.before is None else (
      len(steering.before) // bundle.tokens.audio.sample_rate_hz)
  limits.check(settings, known)
  return Wanted(settings, steering, file_format, known + settings.seconds)


def story(text):
  """The Parts of a story in YAML; UserError names the line."""
  if not isinstance(text, str):
    raise errors.UserError(
        f'the story is {errors.kind(text)}; expected text in YAML, '
        f'"- at: 0:00" and "prompt: ..." under it.')
  size = len(text.encode('utf-8', 'replace'))
  if size > MAX_STORY_BYTES:
    raise errors.UserError(
        f'the story has {size} bytes; expected at most {MAX_STORY_BYTES}.')
  return story_lib.parse(text)
