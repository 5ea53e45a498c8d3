"""A story: prompts with the time from which each one is in force.

  - at: 0:00
    prompt: a slow air on solo flute
  - at: 0:30
    prompt: a lively reel, fiddle and drums

Times are m:ss, h:mm:ss or whole seconds, rising, the first one 0.

>>> parts = parse('- {at: 0, prompt: an air}\\n- {at: 1:30, prompt: a reel}')
>>> [(p.at, p.prompt) for p in parts]
[(0, 'an air'), (90, 'a reel')]
>>> print(dump(parts, ['two parts']), end='')
# two parts
- at: 0:00
  prompt: an air
- at: 1:30
  prompt: a reel
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import re

from musiclm_jax import errors
from musiclm_jax import text as text_lib

_KEYS = ('at', 'prompt')
_TIME = re.compile(r'(?:(\d+):(?=\d\d:))?(?:(\d{1,4}):(?=\d\d$))?(\d{1,5})')
_MAX_BYTES = 1_000_000
MAX_CHARACTERS = 2_000  # of a prompt (ours)


@dataclasses.dataclass(frozen=True)
class Part:
  """From second `at` on, `prompt`."""

  at: int
  prompt: str


def load(path: str | os.PathLike[str]) -> tuple[Part, ...]:
  """The parts in a file; UserError names the file and the line."""
  path = pathlib.Path(path)
  errors.check_input(path, 'story')
  if path.stat().st_size > _MAX_BYTES:
    raise errors.UserError(
        f'story {path} has {path.stat().st_size} bytes; expected at most '
        f'{_MAX_BYTES}.')
  try:
    text = path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise errors.UserError(f'story {path} is not UTF-8 text.') from error
  return parse(text, str(path))


def parse(text: str, name: str = 'story') -> tuple[Part, ...]:
  """The parts in YAML text.

  Args:
    text: a list of mappings with `at` and `prompt`.
    name: what messages call it.

  Returns:
    Tuple of `Part`s.

  Raises:
    UserError: not YAML, or not a story; says in which line.
  """
  import yaml  # pylint: disable=g-import-not-at-top
  try:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
  except yaml.YAMLError as error:
    mark = getattr(error, 'problem_mark', None)
    where = f', line {mark.line + 1}' if mark else ''
    problem = getattr(error, 'problem', None) or getattr(
        error, 'reason', 'unreadable')
    raise errors.UserError(f'{name}{where}: not YAML ({problem}).') from error
  except RecursionError as error:
    raise errors.UserError(
        f'{name}: too many brackets within brackets; expected a list of parts '
        f'with at and prompt.') from error

  def fail(node, what):
    raise errors.UserError(f'{name}, line {node.start_mark.line + 1}: {what}.')

  if root is None:
    raise errors.UserError(
        f'{name} is empty; expected a list of parts with at and prompt.')
  if not isinstance(root, yaml.SequenceNode) or not root.value:
    fail(root, 'expected a list of parts, "- at: 0:00" and "prompt: ..."')
  parts = []
  for node in root.value:
    values = _pairs(node, fail)
    part = Part(_time(values['at'], fail), _prompt(values['prompt'], fail))
    if not parts and part.at:
      fail(values['at'], f'the first part begins at {clock(part.at)}; expected '
           f'0:00')
    if parts and part.at <= parts[-1].at:
      fail(values['at'], f'{clock(part.at)} comes after '
           f'{clock(parts[-1].at)}; expected rising times')
    parts.append(part)
  return tuple(parts)


def _pairs(node, fail):
  """{'at': node, 'prompt': node} of one part."""
  if not hasattr(node, 'value') or node.id != 'mapping':
    fail(node, 'expected a part with at and prompt')
  values = {}
  for key, value in node.value:
    if key.value not in _KEYS:
      fail(key, f'unknown key {key.value!r}; known: {", ".join(_KEYS)}')
    if key.value in values:
      fail(key, f'{key.value} is there twice')
    if value.id != 'scalar':
      fail(value, f'{key.value} is a {value.id}; expected one value')
    values[key.value] = value
  for key in _KEYS:
    if key not in values:
      fail(node, f'the part has no {key}')
  return values


def _time(node, fail):
  match = _TIME.fullmatch(node.value.strip())
  hours, minutes, seconds = (
      int(x or 0) for x in match.groups()) if match else (0, 0, -1)
  bounded = match and (match[2] is None or seconds < 60) and (
      match[1] is None or minutes < 60)
  if not bounded:
    fail(node, f'at is {node.value!r}; expected m:ss or whole seconds')
  return 3600 * hours + 60 * minutes + seconds


def _prompt(node, fail):
  if text_lib.is_blank(node.value) or node.value.strip() in ('~', 'null') and (
      node.style is None):
    fail(node, 'the prompt is empty; expected a text that describes music')
  if len(node.value) > MAX_CHARACTERS:
    fail(node, f'the prompt has {len(node.value)} characters; expected at most '
         f'{MAX_CHARACTERS}')
  try:
    node.value.encode('utf-8')
  except UnicodeEncodeError:
    fail(node, f'the prompt holds half a character, {node.value[:40]!r}')
  return ' '.join(node.value.split())


def check_length(parts: Sequence[Part], seconds: float) -> None:
  """UserError unless every part begins before the end."""
  if parts[-1].at >= seconds:
    raise errors.UserError(
        f'the story has a part at {clock(parts[-1].at)}, but the music ends at '
        f'{clock(seconds)}; make it longer or leave the part out.')


def dump(parts: Iterable[Part], comments: Iterable[object] = ()) -> str:
  """YAML text that `parse` takes back."""
  import yaml  # pylint: disable=g-import-not-at-top
  lines = [f'# {" ".join(str(comment).split())}' for comment in comments]
  for part in parts:
    prompt = yaml.safe_dump(
        part.prompt, width=10**6, allow_unicode=True).removesuffix('...\n')
    lines += [f'- at: {clock(part.at)}', f'  prompt: {prompt.strip()}']
  return '\n'.join(lines) + '\n'


def clock(seconds: float) -> str:
  """'1:05' for 65."""
  seconds = int(seconds)
  return f'{seconds // 60}:{seconds % 60:02d}'
