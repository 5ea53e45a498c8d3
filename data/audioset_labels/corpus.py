"""AudioSet from its segment CSVs and a folder of clips or of videos' sound.

  # Segments csv created Sun Mar  5 10:54:31 2017
  # YTID, start_seconds, end_seconds, positive_labels
  --PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"

Labels are machine ids; class_labels_indices.csv has the names, which become
aspects. There are no captions.
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

NAME = 'audioset_labels'
LICENCE = 'labels: CC-BY-4.0; recordings: of those who put them on YouTube'
CLASSES = 'class_labels_indices.csv'
# AudioSet has no validation split.
SEGMENTS = {'balanced_train_segments.csv': 'train',
            'unbalanced_train_segments.csv': 'train',
            'eval_segments.csv': 'test'}
_COMMENT = '#'


@dataclasses.dataclass(frozen=True)
class Segment:
  """One row; `labels` are machine ids, `file` is the CSV it stands in."""

  ytid: str
  excerpt: clips.Excerpt
  labels: tuple[str, ...]
  file: str


def classes(path: str | os.PathLike) -> dict[str, str]:
  """{machine id: display name} of class_labels_indices.csv."""
  rows = tables.read(path, ('mid', 'display_name'))
  tables.unique(path, [row['mid'] for row in rows])
  return {row['mid']: row['display_name'].strip() for row in rows}


def segments(path: str | os.PathLike) -> list[Segment]:
  """The rows of a segment CSV.

  Raises:
    UserError: it is not one of AudioSet's.
  """
  path = pathlib.Path(path)
  text = tables.text_of(path)
  # Comments stand above the rows and hold commas, but no header does.
  lines = [line for line in text.split('\n') if not line.startswith(_COMMENT)]
  rows = tables.whole(path, tables.parse(path, '\n'.join(lines), spaced=True), 4)
  named = [dict(zip(('ytid', 'start_seconds', 'end_seconds', 'labels'), row))
           for row in rows]
  starts, ends = (tables.number(path, column, named)
                  for column in ('start_seconds', 'end_seconds'))
  return [
      Segment(row['ytid'].strip(), clips.Excerpt(start, end - start),
              tuple(filter(None, row['labels'].split(','))), path.name)
      for row, start, end in zip(named, starts, ends)]


def walk(folder: str | os.PathLike, audio: str | os.PathLike
         ) -> Iterator[items.Item | downloads.Reject]:
  """Yields a track, or why there is none, for each segment.

  Args:
    folder: has class_labels_indices.csv and one or more of SEGMENTS.
    audio: a folder, searched recursively; clips.py has the names.

  Raises:
    UserError: a file is missing or not AudioSet's; a video is there twice; a
      label has no name.
  """
  folder = files_lib.expand(folder)
  present = [name for name in SEGMENTS if (folder / name).is_file()]
  if not present:
    raise errors.UserError(
        f'{folder} has none of {", ".join(SEGMENTS)} of AudioSet.')
  names = classes(folder / CLASSES)
  rows = [row for name in present for row in segments(folder / name)]
  tables.unique(folder, [row.ytid for row in rows])
  _check_labels(folder, rows, names)
  found = clips.find(audio, {row.ytid: row.excerpt for row in rows})
  for row in rows:
    yield found.item(
        SEGMENTS[row.file], row.ytid,
        aspects=[names[label] for label in row.labels],
        audioset_labels=list(row.labels), segments=row.file)


def _check_labels(folder, rows, names):
  unknown = sorted({label for row in rows for label in row.labels} - set(names))
  if unknown:
    raise errors.UserError(
        f'{folder}: {len(unknown)} labels are not in {CLASSES}, such as '
        f'{unknown[0]}.')


def build(folder: str | os.PathLike, audio: str | os.PathLike,
          out_dir: str | os.PathLike, runner: workers.Options | None = None,
          progress: bool = True) -> dict[str, Any]:
  """Writes the corpus; arguments as of `walk` and `downloads.build`."""
  return downloads.build(
      out_dir, NAME, LICENCE, walk(folder, audio), runner, progress)
