"""MusicCaps from its CSV and a folder of clips or of whole videos' sound."""

from collections.abc import Iterator
import os
from typing import Any

from musiclm_jax import files as files_lib
from musiclm_jax import workers
from musiclm_jax.data import clips
from musiclm_jax.data import downloads
from musiclm_jax.data.audio_folder import items
from musiclm_jax.data.musiccaps import table

NAME = 'musiccaps'
LICENCE = 'captions: CC-BY-SA-4.0; recordings: of those who put them on YouTube'


def walk(csv: str | os.PathLike, audio: str | os.PathLike
         ) -> Iterator[items.Item | downloads.Reject]:
  """Yields a track, or why there is none, for each row of the CSV.

  AudioSet's evaluation rows are 'test', the others 'train'.

  Args:
    csv: musiccaps-public.csv.
    audio: a folder, searched recursively; clips.py has the names.

  Raises:
    UserError: no folder, or a CSV that is not MusicCaps's.
  """
  rows = table.read(files_lib.expand(csv))
  found = clips.find(audio, {name: row.excerpt for name, row in rows.items()})
  for name, row in rows.items():
    yield found.item(
        'test' if row.is_eval else 'train', name, (row.caption,), row.aspects,
        is_balanced_subset=row.is_balanced, is_audioset_eval=row.is_eval,
        audioset_labels=list(row.labels), author_id=row.fields['author_id'])


def build(csv: str | os.PathLike, audio: str | os.PathLike,
          out_dir: str | os.PathLike, runner: workers.Options | None = None,
          progress: bool = True) -> dict[str, Any]:
  """Writes the corpus; arguments as of `walk` and `downloads.build`."""
  return downloads.build(
      out_dir, NAME, LICENCE, walk(csv, audio), runner, progress)
