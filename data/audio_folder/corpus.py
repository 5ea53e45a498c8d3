"""Makes a corpus of any folder of recordings.

  files --read, check, resample, mix down--> pieces of at most 5 minutes
        --split by a hash of the file or album--> records + rejects.jsonl
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import math
import os
import pathlib

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import audio_stream
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import progress as progress_lib
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.data.audio_folder import files as folder_files
from musiclm_jax.data.audio_folder import labels as labels_lib

NAME = 'audio_folder'
REJECTS = 'rejects.jsonl'
SAMPLE_RATE_HZ = specs.AudioSpec().sample_rate_hz
MIN_SECONDS, MAX_SECONDS = 3.0, 300.0
_SILENCE = 1e-4  # a peak below -80 dBFS
# Upper ends of the hash ranges: about 5 % test, 5 % validation, the rest train.
_TEST, _VALIDATION = 0.05, 0.10
_UNKNOWN_LICENCE = 'not stated; ask whoever the recordings are from'


class _NoTraining(Exception):
  """Every file of the training split turned out to be unusable."""

  def __init__(self, unusable):
    super().__init__()
    self.unusable = unusable


def build(folder, out_dir, captions=None, min_seconds=MIN_SECONDS,
          max_seconds=MAX_SECONDS, split_by='file', licence=_UNKNOWN_LICENCE,
          workers=None, progress=True):
  """Writes a corpus of every usable recording under a folder.

  Args:
    folder: searched recursively for WAV, FLAC, OGG, Opus, AIFF, MP3 and what
      else is decoded (files.SOUND), in name order; links are followed, what is
      hidden is not.
    out_dir: where; must not exist.
    captions: a CSV or JSONL file (see labels.py); None: the one in, or beside,
      the folder, if any.
    min_seconds: shorter files are rejected.
    max_seconds: longer files are cut into equal pieces, at most this long.
    split_by: 'file', or 'folder' to keep an album in one split.
    licence: text for the manifest.
    workers: threads that decode; None: one a core.
    progress: False: print nothing.

  Returns:
    dict(files, used, tracks, rejected: {reason: count}, passed_over: {reason:
    count} of what is no recording, blank_captions,
    labels_without_audio: [names]); the manifest holds it too, under `source`.

  Raises:
    UserError: no such folder, no audio in it, nothing usable, out_dir exists
      or lies inside the folder, labels that cannot be read, or impossible
      lengths.
  """
  # '.' has no name, and the manifest and labels want one.
  folder = pathlib.Path(os.path.abspath(files_lib.expand(folder)))
  out_dir = files_lib.expand(out_dir)
  _check(folder, out_dir, min_seconds, max_seconds, split_by)
  found = folder_files.find(folder)
  if not found.sound:
    raise errors.UserError(_no_sound(folder, found))
  labels = labels_lib.load(folder, captions)
  said, meant = labels.match([_name(file, folder) for file in found.sound])
  plan = _Plan(
      folder, found, {f: _group(f, folder, split_by) for f in found.sound},
      labels, said, meant, min_seconds, max_seconds, workers, progress)
  unusable = {}
  while True:
    try:
      with records.Writer(
          out_dir, NAME, SAMPLE_RATE_HZ, licence=licence,
          folder=files_lib.encodable(folder.name),
          captions_file=labels.path and files_lib.encodable(labels.path.name),
          split_by=split_by) as writer:
        return _write(writer, plan, unusable)
    except _NoTraining as error:  # share out what is left
      unusable = error.unusable


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What is known before anything is decoded; see `build`.

  Attributes:
    groups: {file: what must not be divided}.
    said: {name: labels}.
    meant: {label: name}.
  """

  folder: pathlib.Path
  found: folder_files.Found
  groups: dict
  labels: labels_lib.Labels
  said: dict
  meant: dict
  min_seconds: float
  max_seconds: float
  workers: int | None
  progress: bool


def _check(folder, out_dir, min_seconds, max_seconds, split_by):
  if not folder.is_dir():
    what = 'is a file; name its folder' if folder.exists() else 'does not exist'
    raise errors.UserError(f'audio folder {folder} {what}.')
  if out_dir.exists():
    raise errors.UserError(
        f'{out_dir} exists already; remove it or choose another --out.')
  if folder.resolve() in [out_dir.resolve(), *out_dir.resolve().parents]:
    raise errors.UserError(
        f'the corpus {out_dir} would lie inside the audio folder {folder}; '
        f'choose another --out.')
  if not 0 < min_seconds <= max_seconds:
    raise errors.UserError(
        f'min_seconds is {min_seconds} and max_seconds {max_seconds}; expected '
        f'0 < min_seconds <= max_seconds.')
  if split_by not in ('file', 'folder'):
    raise errors.choice('split_by', split_by, ['file', 'folder'])


def _group(file, folder, split_by):
  """What must not be divided: the file's content, or its folder's name."""
  if split_by == 'folder':
    return 'folder/' + files_lib.encodable(
        file.parent.relative_to(folder).as_posix())
  digest = hashlib.sha256()
  try:
    with open(file, 'rb') as stream:
      for block in iter(lambda: stream.read(1 << 20), b''):
        digest.update(block)
  except OSError:
    return 'unreadable/' + files_lib.encodable(file.name)
  return digest.hexdigest()


def assign_splits(groups):
  """The split of each group of files.

  By a hash, so that a file added later moves no other. Where that leaves a
  split empty, the nearest group fills it: train first, then validation (from
  two groups on), then test (from three on).

  Args:
    groups: names, repeated or not.

  Returns:
    {group: split}.
  """
  place = {}
  for group in set(groups):
    digest = hashlib.sha256(f'{NAME}/{group}'.encode()).digest()
    place[group] = int.from_bytes(digest[:8], 'big') / 2**64
  order = sorted(place, key=place.get)
  split = {g: 'test' if place[g] < _TEST else
           'validation' if place[g] < _VALIDATION else 'train' for g in order}
  if len(order) < 3:  # validation comes first
    split = {g: s.replace('test', 'validation') for g, s in split.items()}
  held = collections.Counter(split.values())
  if order and not held['train']:
    held[split[order[-1]]] -= 1
    split[order[-1]] = 'train'
    held['train'] = 1
  for name, needed in (('validation', 2), ('test', 3)):
    donors = [g for g in order if held[split[g]] > 1]
    if not held[name] and len(order) >= needed and donors:
      held[split[donors[0]]] -= 1
      split[donors[0]] = name
      held[name] = 1
  return split


def _write(writer, plan, unusable):
  """Decodes and writes every file; returns the summary."""
  split_of = assign_splits(
      [group for file, group in plan.groups.items() if file not in unusable])
  used, splits, tracks = set(), set(), 0
  rejects = {file: _reject(plan, file, 'format', f'{file.suffix} is not '
                           f'decoded here; make WAV or FLAC of it')
             for file in plan.found.other_sound}
  load = lambda file: _load(file, plan.min_seconds, unusable.get(file))
  for file, (audio, reason, detail) in _progress(
      _in_order(load, list(plan.groups), plan.workers), len(plan.groups),
      plan.progress):
    name = _name(file, plan.folder)
    if reason:
      rejects[file] = _reject(plan, file, reason, detail)
      continue
    used.add(name)
    splits.add(split_of[plan.groups[file]])
    pieces = _pieces(len(audio), plan.max_seconds)
    for k, (start, stop) in enumerate(pieces):
      tracks += 1
      writer.add(split_of[plan.groups[file]],
                 name if len(pieces) == 1 else f'{name}#{k:03d}',
                 audio[start:stop], file=name,
                 start_seconds=round(start / SAMPLE_RATE_HZ, 3),
                 **plan.said[name])
  if not used:
    raise errors.UserError(_nothing_usable(plan.folder, rejects.values()))
  if 'train' not in splits:
    raise _NoTraining({f: (r['reason'], r['detail'])
                       for f, r in rejects.items() if f in plan.groups})
  with open(writer.folder / REJECTS, 'w', encoding='utf-8') as out:
    for reject in rejects.values():
      out.write(json.dumps(reject, ensure_ascii=False) + '\n')
  summary = _summary(plan, used, tracks, rejects.values())
  writer.note(source=summary)
  if plan.progress:
    _report(summary)
  return summary


def _name(file, folder):
  return files_lib.encodable(file.relative_to(folder).as_posix())


def _reject(plan, file, reason, detail):
  return dict(file=_name(file, plan.folder), reason=reason,
              detail=files_lib.encodable(detail))


def _summary(plan, used, tracks, rejects):
  """What `build` returns."""
  passed_over = collections.Counter(plan.found.passed_over)
  path = plan.labels.path
  if path and path.resolve().parent == plan.folder.resolve():
    passed_over[folder_files.NO_SOUND] -= 1  # it was looked at
  return dict(
      files=len(plan.groups) + len(plan.found.other_sound), used=len(used),
      tracks=tracks, rejected=dict(sorted(collections.Counter(
          r['reason'] for r in rejects).items())),
      passed_over=dict(sorted((+passed_over).items())),
      blank_captions=plan.labels.blank,
      labels_without_audio=sorted(
          label for label in plan.labels if plan.meant.get(label) not in used))


def _load(file, min_seconds, known=None):
  """([N] float32 or None, reason or '', detail)."""
  if known:
    return None, *known
  try:
    audio = audio_lib.read(file, SAMPLE_RATE_HZ)
  except audio_stream.Unusable as error:
    return None, error.reason, str(error)
  except Exception as error:  # pylint: disable=broad-except
    return None, 'unreadable', f'{type(error).__name__}: {error}'
  seconds = len(audio) / SAMPLE_RATE_HZ
  if seconds < min_seconds:
    return None, 'too short', f'{seconds:.2f} s; at least {min_seconds:g} s'
  if np.max(np.abs(audio)) < _SILENCE:
    return None, 'silent', 'no sample above -80 dBFS'
  return audio_lib.limit_peak(audio, 1.0), '', ''


def _pieces(num_samples, max_seconds):
  """[(start, stop)] of equal pieces of at most `max_seconds`.

  >>> _pieces(24000 * 400, 300)
  [(0, 4800000), (4800000, 9600000)]
  """
  count = max(1, math.ceil(num_samples / (max_seconds * SAMPLE_RATE_HZ)))
  edges = [num_samples * k // count for k in range(count + 1)]
  return list(zip(edges[:-1], edges[1:]))


def _in_order(load, files, workers):
  """Yields (file, load(file)) in order, decoding a few files ahead."""
  workers = workers or len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    waiting = collections.deque()
    for file in files:
      waiting.append((file, pool.submit(load, file)))
      if len(waiting) > workers:
        done, future = waiting.popleft()
        yield done, future.result()
    for file, future in waiting:
      yield file, future.result()


def _progress(results, total, show):
  if not show:
    yield from results
    return
  with progress_lib.Progress() as progress:
    for done, result in enumerate(results, 1):
      yield result
      progress.show(NAME, done, total, ' files')


def _no_sound(folder, found):
  """The line where nothing can be decoded."""
  line = f'no {", ".join(folder_files.SOUND)} file under {folder}'
  passed_over = found.passed_over + collections.Counter(
      f'{file.suffix.lower()}, which is not decoded here'
      for file in found.other_sound)
  return line + (f'; there are: {_counts(passed_over)}.' if passed_over else
                 '.')


def _nothing_usable(folder, rejects):
  reasons = _counts(collections.Counter(r['reason'] for r in rejects))
  first = next(iter(rejects))
  return (f'no usable recording under {folder} ({reasons}); the first: '
          f'{first["file"]}: {first["detail"]}')


def _counts(reasons):
  return ', '.join(f'{n} {reason}' for reason, n in sorted(reasons.items()))


def _report(summary):
  rejected = _counts(summary['rejected'])
  print(f'{summary["used"]} of {summary["files"]} files used, '
        f'{summary["tracks"]} tracks' +
        (f'; rejected: {rejected} (listed in {REJECTS})' if rejected else ''))
  if summary['passed_over']:
    print(f'passed over: {_counts(summary["passed_over"])}')
  if summary['blank_captions']:
    print(f'{summary["blank_captions"]} captions are blank and left out')
  missing = summary['labels_without_audio']
  if missing:
    print(f'{len(missing)} captions name no usable file; the first: '
          f'{missing[0]}')
