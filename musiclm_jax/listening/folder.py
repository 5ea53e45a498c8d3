"""The folder of a test, as the server and the report read it.

  test.json  format, key_sha256, question, per_rater, hear_seconds, captions
  key.json   systems, clips (id, track, seconds, a file for each system), slots,
             left_out, and what the test was made from

The two are apart so that what raters may know never has to be picked out of
what they may not.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import hashlib
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax.listening import design

FORMAT = 'musiclm_jax.listening.v1'
SHOWN, KEY, SOUNDS, ANSWERS = 'test.json', 'key.json', 'audio', 'answers.sqlite'
_AGAIN = 'make the test again with `musiclm listen build`'


@dataclasses.dataclass(frozen=True)
class Heard:
  """One clip, as every system made it.

  Attributes:
    id: that the files of it had in every folder.
    track: recording that it is of; intervals resample these.
    seconds: how long it is, in every system alike.
    sounds: a file name in `audio` for each system.
  """

  id: str
  track: str
  seconds: float
  sounds: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Test:
  """A test that was made.

  Attributes:
    directory: its folder.
    key_sha256: of key.json; answers belong to this one.
    question: that is asked of each pair.
    per_rater: most that one person is asked for.
    hear_seconds: of both clips that are heard before an answer.
    captions: of each clip; '' where there is none.
    systems: names.
    clips: see `Heard`.
    slots: see `design.Slot`.
    key: all of key.json.
  """

  __test__ = False  # pytest takes classes of this name for its own

  directory: pathlib.Path
  key_sha256: str
  question: str
  per_rater: int
  hear_seconds: float
  captions: tuple[str, ...]
  systems: tuple[str, ...]
  clips: tuple[Heard, ...]
  slots: tuple[design.Slot, ...]
  key: dict[str, Any]

  @property
  def answers(self) -> pathlib.Path:
    """The database of what raters said."""
    return self.directory / ANSWERS

  @property
  def num_pairs(self) -> int:
    """Pairs of systems that are compared."""
    return len(design.pairs(len(self.systems)))

  def sound(self, slot: design.Slot, side: str) -> pathlib.Path:
    """The file that is heard as 'a' or 'b'."""
    system = slot.left if side == 'a' else slot.right
    return self.directory / SOUNDS / self.clips[slot.clip].sounds[system]

  def needed(self, slot: design.Slot) -> float:
    """Seconds of either clip to be heard before an answer."""
    return min(self.hear_seconds, self.clips[slot.clip].seconds)


def write(directory: pathlib.Path, shown: dict[str, Any],
          key: dict[str, Any], slots: Sequence[design.Slot]) -> None:
  """Writes both files into a folder that has the sounds already."""
  files.write_json(directory / KEY, dict(
      key, slots=[[s.clip, s.left, s.right, s.round] for s in slots]))
  files.write_json(directory / SHOWN, dict(
      shown, format=FORMAT, key_sha256=_sha256(directory / KEY)))


def read(directory: str | os.PathLike) -> Test:
  """The test in a folder.

  Raises:
    UserError: there is none, it is damaged, or files of two tests are mixed.
  """
  directory = pathlib.Path(directory)
  path, key_path = directory / SHOWN, directory / KEY
  if not path.is_file():
    raise errors.UserError(
        f'{directory} is not a listening test (no {SHOWN}); make one with '
        f'`musiclm listen build`.')
  shown = files.read_json(path, _AGAIN)
  if shown.get('format') != FORMAT:
    raise errors.UserError(
        f'{path} has format {shown.get("format")!r}, expected {FORMAT!r}.')
  errors.check_input(key_path, 'key')
  key = files.read_json(key_path, _AGAIN)
  if shown.get('key_sha256') != _sha256(key_path):
    raise errors.UserError(
        f'{key_path} is not the key that {path} was made with; copy both '
        f'again, or {_AGAIN}.')
  files.require(path, shown, _AGAIN, question=str, per_rater=int,
                hear_seconds=(int, float), captions=list)
  files.require(key_path, key, _AGAIN, systems=list, clips=list, slots=list)
  try:
    clips = tuple(Heard(**{**clip, 'sounds': tuple(clip['sounds'])})
                  for clip in key['clips'])
    slots = tuple(design.Slot(*slot) for slot in key['slots'])
  except (TypeError, KeyError) as error:
    raise errors.UserError(
        f'{key_path} is damaged ({error}); {_AGAIN}.') from error
  return Test(
      directory, shown['key_sha256'], shown['question'], shown['per_rater'],
      float(shown['hear_seconds']), tuple(shown['captions']),
      tuple(key['systems']), clips, slots, key)


def check_sounds(test: Test) -> None:
  """UserError unless all files that raters hear are there."""
  gone = [name for clip in test.clips for name in clip.sounds
          if not (test.directory / SOUNDS / name).is_file()]
  if gone:
    raise errors.UserError(
        f'{test.directory / SOUNDS} lacks {len(gone)} files, such as '
        f'{gone[0]}; copy the folder again, or {_AGAIN}.')


def _sha256(path):
  return hashlib.sha256(path.read_bytes()).hexdigest()
