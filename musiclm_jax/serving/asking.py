"""What a request asks for, checked before it may wait.

A request is JSON, or the same mapping from the page. `Request` names its fields
and holds their types; `systems.musiclm.settings.make` checks the numbers, as it
does for shell and Python. Messages are those of the shell, with the names that
are used here.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import Literal
from typing import NoReturn

import numpy as np
import pydantic
from pydantic import json_schema

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.serving import limits as limits_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import steering as steering_lib
from musiclm_jax.systems.musiclm import story as story_lib

FORMATS = ('wav', 'flac')
SOUNDS = ('melody', 'like', 'continue_from')  # ids of uploads
TEXTS = ('prompt', 'story')
SETTINGS = tuple(f.name for f in dataclasses.fields(settings_lib.Settings))
MAX_STORY_BYTES = 100_000
_RECORDING = 'id of an upload: '
_KINDS = {int: 'integer', float: 'number', str: 'string'}  # as JSON names them
# What messages say that was expected of a field.
_EXPECTED = dict(
    prompt='text', story='text in YAML, "- at: 0:00" and "prompt: ..." under '
    'it', format=' or '.join(FORMATS),
    **dict.fromkeys(SOUNDS, 'the id of an upload'))


def _setting(field: dataclasses.Field) -> tuple[Any, Any]:
  """A field of `Settings` for the request: (type, pydantic's field).

  The schema shows its type and range. Any value passes here all the same,
  because `settings.make` checks them all: pydantic's own check would be a
  second one, and would word its messages otherwise than the shell does.
  """
  about = field.metadata
  schema: dict[str, Any] = dict(type=_KINDS[field.type], default=field.default)
  if 'choices' in about:
    schema['enum'] = list(about['choices'])
  else:
    schema.update(minimum=about['low'], maximum=about['high'])
  return Any, pydantic.Field(
      None, description=about['help'], json_schema_extra=schema)


def _text(description: str) -> tuple[Any, Any]:
  """A field for text, left out or null by default: (type, pydantic's field)."""
  return str | json_schema.SkipJsonSchema[None], pydantic.Field(
      None, description=description,
      json_schema_extra=lambda schema: schema.pop('default'))


Request = pydantic.create_model(
    'Request',
    __config__=pydantic.ConfigDict(
        extra='forbid', strict=True, json_schema_extra=dict(
            description='What to make: at least one of prompt, story, melody, '
            'like and continue_from. What is left out is the default of the '
            'bundle (`defaults` of /v1/about), or else the one told here.',
            example=dict(
                prompt='a slow waltz on accordion', seconds=10, seed=3))),
    prompt=_text('what the music should be like'),
    story=_text('YAML of timed prompts, instead of a prompt: "- at: 0:00" and '
                'under it "prompt: ..."'),
    melody=_text(_RECORDING + 'hummed, whistled or played, to follow'),
    like=_text(_RECORDING + 'a song to be near to'),
    continue_from=_text(_RECORDING + 'what the music goes on from'),
    **{f.name: _setting(f) for f in dataclasses.fields(settings_lib.Settings)},
    format=(Literal[FORMATS] | json_schema.SkipJsonSchema[None], FORMATS[0]))
FIELDS = tuple(Request.model_fields)


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


def read(values: Mapping[str, Any], bundle: bundle_lib.Bundle,
         limits: limits_lib.Limits,
         sound: Callable[[str, str], np.ndarray]) -> Wanted:
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
  try:
    request = Request.model_validate(values)
  except pydantic.ValidationError as error:
    _refuse(error.errors()[0])
  asked = {name: value for name, value in request if value is not None}
  file_format = asked.pop('format', FORMATS[0])
  if 'story' in asked:
    asked['story'] = story(asked['story'])
    limits.check_story(asked['story'])
  # Cheap things first: no recording is read for a request that is refused.
  numbers = {k: asked[k] for k in SETTINGS if k in asked}
  if 'story' in asked and 'seconds' not in asked:
    numbers['seconds'] = steering_lib.story_seconds(asked['story'])
  limits.check(settings_lib.make(defaults=bundle.defaults, **numbers))
  for name in SOUNDS:
    if name in asked:
      asked[name] = sound(name, asked[name])
  settings, steering = steering_lib.asked(bundle, **asked)
  known = 0 if steering.before is None else (
      len(steering.before) // bundle.tokens.audio.sample_rate_hz)
  limits.check(settings, known)
  return Wanted(settings, steering, file_format, known + settings.seconds)


def _refuse(problem: Mapping[str, Any]) -> NoReturn:
  """Raises UserError for an error of pydantic, in the words of the shell."""
  kind, value = problem['type'], problem['input']
  if kind == 'model_type':  # no mapping at all
    raise errors.UserError(
        f'the request is {errors.kind(value)}; expected an object with prompt, '
        f'seconds, seed and so on.')
  # Of a name with half a surrogate pair pydantic says what, but not where.
  name = problem['loc'][0] if problem['loc'] else value
  if kind in ('extra_forbidden', 'string_unicode'):
    raise errors.choice('field', name, FIELDS)
  if name == 'format' and isinstance(value, str):
    raise errors.choice(name, value, FORMATS)
  shown = f'the {name}' if name in TEXTS else name
  raise errors.UserError(
      f'{shown} is {errors.kind(value)}; expected {_EXPECTED[name]}.')


def story(text: str) -> tuple[story_lib.Part, ...]:
  """The Parts of a story in YAML; UserError names the line."""
  size = len(text.encode('utf-8', 'replace'))
  if size > MAX_STORY_BYTES:
    raise errors.UserError(
        f'the story has {size} bytes; expected at most {MAX_STORY_BYTES}.')
  return story_lib.parse(text)
