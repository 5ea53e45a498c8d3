"""AudioCaps from its three CSVs and a folder of clips or of videos' sound.

A clip of train has one caption, one of val and test five, a row each.
"""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import workers
from musiclm_jax.data import clips
from musiclm_jax.data import downloads
from musiclm_jax.data import tables
from musiclm_jax.data.audio_folder import items

NAME = 'audiocaps'
LICENCE = ('captions: for academic use; recordings: of those who put them on '
           'YouTube')
SECONDS = 10.0  # of every clip; paper
_FILES = {'train': 'train.csv', 'validation': 'val.csv', 'test': 'test.csv'}
_COLUMNS = ('audiocap_id', 'youtube_id', 'start_time', 'caption')


@dataclasses.dataclass
class _Clip:
  """Rows of one video."""

  split: str
  start_seconds: float
  captions: list[str]
  caption_ids: list[str]


def read(folder: str | os.PathLike) -> dict[str, _Clip]:
  """{youtube_id: its captions} of train.csv, val.csv and test.csv.

  Raises:
    UserError: no CSV, or one that is not AudioCaps's; a video in two splits or
      with two places.
  """
  folder = pathlib.Path(folder)
  paths = {split: folder / name for split, name in _FILES.items()
           if (folder / name).is_file()}
  if not paths:
    raise errors.UserError(
        f'{folder} has none of {", ".join(_FILES.values())} of AudioCaps.')
  found, ids, strange = {}, [], []
  for split, path in paths.items():
    rows = tables.read(path, _COLUMNS)
    starts = tables.number(path, 'start_time', rows)
    ids += [row['audiocap_id'] for row in rows]
    for row, start in zip(rows, starts):
      clip = found.setdefault(
          row['youtube_id'].strip(), _Clip(split, start, [], []))
      if (clip.split, clip.start_seconds) != (split, start):
        strange.append(row['youtube_id'])
      clip.captions.append(row['caption'].strip())
      clip.caption_ids.append(row['audiocap_id'])
  tables.unique(folder, ids)
  if strange:
    raise errors.UserError(
        f'{folder}: {len(strange)} rows name a video that has another place or '
        f'split, such as {strange[0]!r}.')
  return found


def walk(folder: str | os.PathLike, audio: str | os.PathLike
         ) -> Iterator[items.Item | downloads.Reject]:
  """Yields a track, or why there is none, for each clip.

  Args:
    folder: that has train.csv, val.csv and test.csv, or some of them.
    audio: a folder, searched recursively; clips.py has the names.

  Raises:
    UserError: no folder of audio; what `read` raises.
  """
  rows = read(files_lib.expand(folder))
  found = clips.find(audio, {
      name: clips.Excerpt(clip.start_seconds, SECONDS)
      for name, clip in rows.items()})
  for name, clip in rows.items():
    yield found.item(clip.split, name, dict.fromkeys(clip.captions),
                     audiocap_ids=clip.caption_ids)


def build(folder: str | os.PathLike, audio: str | os.PathLike,
          out_dir: str | os.PathLike, runner: workers.Options | None = None,
          progress: bool = True) -> dict[str, Any]:
  """Writes the corpus; arguments as of `walk` and `downloads.build`."""
  return downloads.build(
      out_dir, NAME, LICENCE, walk(folder, audio), runner, progress)
