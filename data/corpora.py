"""What a builder's walk found, as a corpus on disk: decode, write, report."""

import collections
from collections.abc import Iterable
from collections.abc import Iterator
import concurrent.futures
import dataclasses
import json
import os
import pathlib
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import progress as progress_lib
from musiclm_jax import records
from musiclm_jax.data import sounds

REJECTS, AVAILABLE = 'rejects.jsonl', 'available.json'
MIN_SECONDS = 1.0  # ours: shorter tracks hold no second of tokens
_THERE = 'there'


def write(out_dir: str | os.PathLike, name: str, licence: str,
          found: Iterable[sounds.Track | sounds.Reject],
          workers: int | None = None, progress: bool = True,
          **manifest: Any) -> dict[str, Any]:
  """Writes a corpus of every track that can be used.

  Beside the records stand rejects.jsonl, a line for each that cannot, and
  available.json: of each split, and of each id, whether it is there.

  Args:
    out_dir: where; must not exist.
    name: of the data set.
    licence: of the data set, for the manifest; a track may have its own.
    found: by the data set's walk.
    workers: threads that decode; None: one a core.
    progress: False: print nothing.
    **manifest: further entries.

  Returns:
    dict(rows, used, tracks, rejected: {reason: count}); also in the manifest,
    as `source`.

  Raises:
    UserError: out_dir exists, an id is there twice, or nothing can be used.
  """
  out_dir = files_lib.expand(out_dir)
  found = list(found)
  _check_ids(name, found)
  with records.Writer(out_dir, name, sounds.SAMPLE_RATE_HZ, licence=licence,
                      **manifest) as writer:
    rejects, count = [], 0
    for track, decoded in _shown(name, _in_order(found, workers), len(found),
                                 progress):
      if isinstance(decoded, sounds.Reject):
        rejects.append(decoded)
        continue
      for piece in decoded:
        count += 1
        _add(writer, track, piece)
    if not count:
      raise errors.UserError(_nothing(name, found, rejects))
    _note(writer.folder, found, rejects)
    summary = dict(
        rows=len(found), used=len(found) - len(rejects), tracks=count,
        rejected=_counted(rejects))
    writer.note(source=summary)
  if progress:
    print(_line(name, summary))
  return summary


def _add(writer, track, piece):
  own = dict(licence=track.licence) if track.licence else {}
  writer.add(
      track.split, piece.id, piece.audio, captions=list(track.captions),
      aspects=list(track.aspects), source=files_lib.encodable(track.sound.name),
      start_seconds=piece.start_seconds, **own, **track.about)


def _check_ids(name, found):
  twice = [i for i, n in collections.Counter(f.id for f in found).items() if n > 1]
  if twice:
    raise errors.UserError(
        f'{name} has {len(twice)} ids more than once, such as {twice[0]!r}.')


def _in_order(found, workers) -> Iterator[tuple[Any, Any]]:
  """(what was found, its pieces or a Reject), decoding a few ahead."""
  workers = workers or len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    waiting = collections.deque()
    for item in found:
      waiting.append((item, pool.submit(_decoded, item)))
      if len(waiting) > workers:
        first, future = waiting.popleft()
        yield first, future.result()
    for item, future in waiting:
      yield item, future.result()


def _decoded(item):
  if isinstance(item, sounds.Reject):
    return item
  return sounds.decode(item, MIN_SECONDS)


def _shown(name, results, total, progress):
  if not progress:
    yield from results
    return
  with progress_lib.Progress() as shown:
    for done, result in enumerate(results, 1):
      yield result
      shown.show(name, done, total, ' tracks')


def _note(folder: pathlib.Path, found, rejects):
  """rejects.jsonl and available.json."""
  records.write_text(folder / REJECTS, ''.join(
      json.dumps(dataclasses.asdict(r), ensure_ascii=False) + '\n'
      for r in rejects))
  why = {reject.id: reject.reason for reject in rejects}
  splits = {
      split: dict(rows=rows, there=rows - sum(r.split == split for r in rejects))
      for split, rows in sorted(
          collections.Counter(item.split for item in found).items())}
  records.write_json(folder / AVAILABLE, dict(
      rows=len(found), there=len(found) - len(rejects),
      not_there=_counted(rejects), splits=splits,
      tracks={item.id: why.get(item.id, _THERE) for item in found}))


def _counted(rejects):
  return dict(sorted(collections.Counter(r.reason for r in rejects).items()))


def _counts(reasons):
  return ', '.join(f'{count} {reason}' for reason, count in reasons.items())


def _line(name, summary):
  reasons = _counts(summary['rejected'])
  return (f'{name}: {summary["used"]} of {summary["rows"]} recordings, '
          f'{summary["tracks"]} tracks' +
          (f'; {reasons} (listed in {REJECTS})' if reasons else ''))


def _nothing(name, found, rejects):
  first = f'; the first, {rejects[0].id}: {rejects[0].detail}' if rejects else ''
  return (f'none of the {len(found)} recordings of {name} can be used '
          f'({_counts(_counted(rejects)) or "there are none"}){first}.')
