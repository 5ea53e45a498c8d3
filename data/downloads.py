"""What builders of data sets share: recordings that are there, and those that not.

  a data set's files --walk--> Item | Reject ──list──> audio_folder's ingest
                                             └──TFDS's builder (features.py)

A builder's `walk` reads tables and names, and no sound. Everything else, from
decoding to files of records, is the ingest's, on whatever engine it is run.
"""

import collections
from collections.abc import Iterable
import dataclasses
import json
import os
import pathlib
import tempfile
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import places
from musiclm_jax import workers as workers_lib
from musiclm_jax.data import audio_folder
from musiclm_jax.data.audio_folder import corpus as folder_corpus
from musiclm_jax.data.audio_folder import items

MISSING = 'missing'
AVAILABLE = 'available.json'
MIN_SECONDS = 1.0  # ours: shorter tracks hold no second of tokens
_THERE = 'there'


@dataclasses.dataclass(frozen=True)
class Reject:
  """A recording of a data set that is not in the corpus, and why."""

  split: str
  id: str
  reason: str
  detail: str = ''


def build(out_dir: str | os.PathLike, name: str, licence: str,
          found: Iterable[items.Item | Reject],
          runner: workers_lib.Options | None = None, progress: bool = True
          ) -> dict[str, Any]:
  """Writes a corpus of every recording that can be used.

  Beside the records stands available.json: whether each recording of the data
  set is there, or why not, and how many are, in all and in each split.

  Args:
    out_dir: where; must not hold another corpus.
    name: of the data set.
    licence: of the data set; a recording may have its own.
    found: by the data set's walk.
    runner: where it is done; None: threads of this process.
    progress: False: print nothing.

  Returns:
    What available.json holds, without `tracks`.

  Raises:
    UserError: an id is there twice, nothing can be used, or out_dir holds
      something else.
  """
  found = list(found)
  _check(name, found)
  with tempfile.TemporaryDirectory() as folder:
    # The ingest takes a list; its name becomes that of the source.
    path = pathlib.Path(folder) / f'{name}.jsonl'
    path.write_text(''.join(
        json.dumps(_row(item)) + '\n' for item in found
        if isinstance(item, items.Item)), encoding='utf-8')
    audio_folder.build(path, out_dir, min_seconds=MIN_SECONDS, licence=licence,
                       progress=progress, runner=runner, name=name)
  where = out_dir if places.is_remote(out_dir) else files_lib.expand(out_dir)
  lines = places.read(places.join(where, folder_corpus.REJECTS)).decode()
  available = _available(found, {
      line['file']: line['reason']
      for line in map(json.loads, lines.splitlines())})
  places.write(places.join(where, AVAILABLE), (json.dumps(
      available, indent=2, ensure_ascii=False) + '\n').encode())
  del available['tracks']
  if progress:
    print(_line(name, available))
  return available


def _check(name, found):
  """UserError of what the ingest could not call by its name."""
  counts = collections.Counter(item.id for item in found)
  twice = [name for name, count in counts.items() if count > 1]
  if twice:
    raise errors.UserError(
        f'{name} has {len(twice)} ids more than once, such as {twice[0]!r}.')
  rejects = [item for item in found if isinstance(item, Reject)]
  if len(rejects) == len(found):
    why = dict(collections.Counter(reject.reason for reject in rejects))
    first = f'; the first, {rejects[0].id}: {rejects[0].detail}' if rejects else ''
    raise errors.UserError(
        f'none of the {len(found)} recordings of {name} is there '
        f'({_counted(why) or "it has none"}){first}.')


def _row(item):
  """A recording as a line of a list."""
  # The list stands elsewhere, and what it names is found from its place.
  where = item.where if places.is_remote(item.where) else os.path.abspath(
      item.where)
  return dict(
      item.about, path=where, id=item.id, captions=list(item.captions),
      aspects=list(item.aspects), licence=item.licence, split=item.split,
      start_s=item.start_seconds, end_s=item.end_seconds)


def _available(found, unusable):
  """What available.json holds; `unusable` is {id: reason} of the ingest."""
  why = dict(unusable)
  why |= {item.id: item.reason for item in found if isinstance(item, Reject)}
  splits = collections.defaultdict(lambda: dict(rows=0, there=0))
  for item in found:
    splits[item.split]['rows'] += 1
    splits[item.split]['there'] += item.id not in why
  return dict(
      rows=len(found), there=sum(item.id not in why for item in found),
      not_there=dict(sorted(collections.Counter(why.values()).items())),
      splits=dict(sorted(splits.items())),
      tracks={item.id: why.get(item.id, _THERE) for item in found})


def _counted(reasons):
  return ', '.join(f'{count} {reason}' for reason, count in reasons.items())


def _line(name, available):
  reasons = _counted(available['not_there'])
  return (f'{name}: {available["there"]} of {available["rows"]} recordings' +
          (f'; {reasons} ({AVAILABLE} has each)' if reasons else ''))
