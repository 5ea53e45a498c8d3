"""The second half of an ingest: files of records are made of the parts."""

from collections.abc import Iterable
import contextlib
import dataclasses
import io
import os
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import places
from musiclm_jax import record_index
from musiclm_jax import record_shards
from musiclm_jax import records


@dataclasses.dataclass(frozen=True)
class Track:
  """A track that stands in a part.

  Attributes:
    id: unique in its split.
    part: path or URL of the part's samples.
    offset: where its own begin, in bytes.
    num_samples: int16 samples.
    checksum: of them.
    meta: what is known of it.
  """

  id: str
  part: str
  offset: int
  num_samples: int
  checksum: str
  meta: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
  """A file of records to make.

  Attributes:
    to: path or URL of the file.
    lines: path or URL for its lines of the index.
    licence: of tracks that have none.
    tracks: in order.
  """

  to: str
  lines: str
  licence: str
  tracks: tuple[Track, ...]


def divide(tracks: Iterable[Track]) -> list[tuple[Track, ...]]:
  """Tracks in order, as many as go into one file, and so on."""
  files, size = [[]], 0
  for track in tracks:
    more = track.num_samples * record_index.SAMPLE_BYTES
    if files[-1] and size + more > records.MAX_SHARD_BYTES:
      files.append([])
      size = 0
    files[-1].append(track)
    size += more
  return [tuple(file) for file in files if file]


def write(plan: Plan) -> dict[str, int]:
  """Makes a file of records; returns dict(tracks, samples, num_bytes).

  Raises:
    UserError: a part is damaged.
  """
  lines = io.StringIO()
  with contextlib.ExitStack() as stack:
    made = stack.enter_context(places.whole(plan.to))
    writer = record_shards.ShardWriter(
        stack.enter_context(open(made, 'wb')), plan.licence)
    for part, pcm, track in _read(plan.tracks):
      if record_shards.checksum(pcm) != track.checksum:
        raise errors.UserError(
            f'{part} is damaged; remove {os.path.dirname(os.path.dirname(part))} '
            f'and run the command again.')
      entry = writer.add(track.id, np.frombuffer(pcm, '<i2'),
                         track.meta | dict(checksum=track.checksum))
      lines.write(record_shards.line(entry))
  places.write(plan.lines, lines.getvalue().encode('utf-8', 'backslashreplace'))
  return dict(tracks=writer.count, samples=writer.samples,
              num_bytes=writer.num_bytes)


def _read(tracks):
  """Yields (part, bytes, track); a part is fetched once, as they are in order."""
  with contextlib.ExitStack() as stack:
    current = file = None
    for track in tracks:
      if track.part != current:
        stack.pop_all().close()
        file = stack.enter_context(
            open(stack.enter_context(places.local(track.part)), 'rb'))
        current = track.part
      file.seek(track.offset)
      yield track.part, file.read(
          track.num_samples * record_index.SAMPLE_BYTES), track
