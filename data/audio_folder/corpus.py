"""Makes a corpus of recordings, wherever they are.

  sources.find --what to read--> hear: read, check, resample, mix down, cut
     --samples and fingerprints--> splits: copies found, splits given
     --tracks in order--> shards: files of records --> a corpus in its place

What is in the middle stands in a folder beside the corpus, CORPUS.ingest, until
the corpus is there. A run that was stopped, wherever it was, goes on from it when
it is run again, and makes the bytes that it would have made.
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil

from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import places
from musiclm_jax import progress as progress_lib
from musiclm_jax import record_shards
from musiclm_jax import records
from musiclm_jax import workers as workers_lib
from musiclm_jax.data.audio_folder import hear
from musiclm_jax.data.audio_folder import items as items_lib
from musiclm_jax.data.audio_folder import prints
from musiclm_jax.data.audio_folder import shards
from musiclm_jax.data.audio_folder import sources
from musiclm_jax.data.audio_folder import splits

NAME = splits.NAME
REJECTS, DUPLICATES = 'rejects.jsonl', 'duplicates.jsonl'
SAMPLE_RATE_HZ = hear.SAMPLE_RATE_HZ
MIN_SECONDS, MAX_SECONDS = 3.0, 300.0
WORK_SUFFIX, PLAN = '.ingest', 'plan.json'
_FORMAT = 'musiclm_jax.ingest.v1'
_MOST_IN_A_PART = 64  # recordings; of fewer than this squared, parts are smaller
_UNKNOWN_LICENCE = 'not stated; ask whoever the recordings are from'
_BY = ('file', 'folder')


def build(source, out_dir, captions=None, min_seconds=MIN_SECONDS,
          max_seconds=MAX_SECONDS, split_by='file', licence=_UNKNOWN_LICENCE,
          workers=None, progress=True, data_dir=None, runner=None, name=NAME):
  """Writes a corpus of every usable recording of a source.

  Args:
    source: a folder, searched recursively for WAV, FLAC, OGG, Opus, AIFF, MP3
      and what else is decoded (files.SOUND), in name order; links are followed,
      what is hidden is not. Or what else sources.py knows.
    out_dir: where; a path or URL.
    captions: a CSV or JSONL file (see labels.py); None: the one in, or beside,
      the folder, if any.
    min_seconds: shorter files are rejected.
    max_seconds: longer files are cut into equal pieces, at most this long.
    split_by: 'file', or 'folder' to keep an album in one split.
    licence: text for the manifest.
    workers: threads that decode; None: one a core.
    progress: False: print nothing.
    data_dir: of a dataset of TFDS.
    runner: `workers.Options`, where it is not threads of this process.
    name: what the corpus calls itself.

  Returns:
    dict(files, used, tracks, rejected: {reason: count}, passed_over: {reason:
    count} of what is no recording, blank_captions, duplicates: {kind: count},
    labels_without_audio: [names]); the manifest holds it too, under `source`.

  Raises:
    UserError: no such source, no audio in it, nothing usable, out_dir holds
      something else or lies inside the folder, labels that cannot be read, or
      impossible lengths.
    OSError: the disk is full; what is done stays for the next run.
  """
  if not 0 < min_seconds <= max_seconds:
    raise errors.UserError(
        f'min_seconds is {min_seconds} and max_seconds {max_seconds}; expected '
        f'0 < min_seconds <= max_seconds.')
  if split_by not in _BY:
    raise errors.choice('split_by', split_by, _BY)
  out = _out(source, out_dir)
  found = sources.find(source, captions, data_dir)
  if split_by == 'file':
    found.items = [dataclasses.replace(i, folder='') for i in found.items]
  job = _Job(out, found, hear.Limits(min_seconds, max_seconds), licence, split_by,
             runner or workers_lib.Options(workers=workers), progress, name)
  with job.claimed():
    there = job.there()
    if there is not None:
      job.clear()
      return there
    job.begin()
    try:
      return job.run()
    except errors.UserError:
      if not places.names(job.in_work('heard')):
        job.clear()  # nothing was done that another run could take up
      raise


def _out(source, out_dir):
  """The corpus's path or URL; UserError where it would lie in the source."""
  if places.is_remote(out_dir):
    return str(out_dir).rstrip('/')
  out = pathlib.Path(os.path.abspath(files_lib.expand(out_dir)))
  if not places.is_remote(source):
    folder = files_lib.expand(source).resolve()
    if folder.is_dir() and folder in [out.resolve(), *out.resolve().parents]:
      raise errors.UserError(
          f'the corpus {out} would lie inside the audio folder {folder}; '
          f'choose another --out.')
  return str(out)


@dataclasses.dataclass(frozen=True)
class _Heard:
  """A usable recording: the item, its part, and what `hear` says of it."""

  item: items_lib.Item
  part: str
  told: dict


@dataclasses.dataclass(frozen=True)
class _Job:
  """One ingest; see `build`."""

  out: str
  found: items_lib.Found
  limits: hear.Limits
  licence: str
  split_by: str
  runner: workers_lib.Options
  progress: bool
  name: str

  @property
  def work(self):
    return self.out + WORK_SUFFIX

  def in_work(self, *names):
    return places.join(self.work, *names)

  @property
  def made(self):
    """Where the corpus is made: a store has no names to change at the end."""
    return self.out if places.is_remote(self.out) else self.in_work('corpus')

  def fingerprints(self):
    return items_lib.fingerprint(self.found, dict(
        format=_FORMAT, limits=dataclasses.asdict(self.limits),
        licence=self.licence, split_by=self.split_by))

  @contextlib.contextmanager
  def claimed(self):
    """Keeps other runs out; a store has no locks."""
    if places.is_remote(self.out):
      yield
      return
    with files_lib.claimed(self.out, 'the corpus', beside=True):
      yield

  def there(self):
    """The summary of the corpus if it is there; UserError if another one is."""
    if not places.exists(self.out):
      return None
    path = places.join(self.out, records.MANIFEST)
    if places.is_remote(self.out) and not places.exists(path):
      return None  # a store has a folder where anything is in it
    try:
      manifest = json.loads(places.read(path))
      same = manifest['ingest'] == self.fingerprints()[0]
    except (OSError, KeyError, TypeError, ValueError):
      same = False
    if not same:
      raise errors.UserError(
          f'{self.out} exists already, and is not of this source and these '
          f'options; remove it or choose another --out.')
    if self.progress:
      print(f'{self.out} is there already, of this source and these options')
    return manifest['source']

  def begin(self):
    """Makes the folder of work, or takes up the one that is there."""
    fingerprint, stamps = self.fingerprints()
    plan = dict(format=_FORMAT, fingerprint=fingerprint, stamps=stamps)
    path, there = self.in_work(PLAN), places.names(self.work)
    if PLAN not in there:
      if there:
        raise errors.UserError(
            f'{self.work} is in the way, where the work of an ingest is kept; '
            f'move it or choose another --out.')
      places.write(path, json.dumps(plan).encode())
      return
    try:
      before = json.loads(places.read(path))
    except ValueError:
      before = None
    if before != plan:
      raise errors.UserError(
          f'{self.work} is left of an ingest of other files or options; remove '
          f'it or choose another --out.')
    if not places.is_remote(self.work):
      for left in pathlib.Path(self.work).rglob('.*.tmp*'):
        left.unlink(missing_ok=True)  # of a killed run: the work is claimed

  def clear(self):
    """Removes the folder of work."""
    if not places.is_remote(self.work):
      if places.exists(self.in_work(PLAN)):
        shutil.rmtree(self.work, ignore_errors=True)
    else:
      for url in places.under(self.work):
        places.remove(url)

  def run(self):
    """Does all of it; returns the summary."""
    with _Progress(self.progress) as progress:
      told = self._hear(progress)
      heard, rejects = self._sort(told)
      if not heard:
        self.clear()
        raise errors.UserError(_nothing_usable(self.found, rejects))
      split_of, copies = self._share_out(heard)
      rejects += [
          dict(file=heard[copy.index].item.id, reason='duplicate', detail=(
              f'{_as_copy(copy)} of {heard[copy.first].item.id}, which goes to '
              f'another split or album')) for copy in copies if copy.dropped]
      written = self._write(heard, split_of, progress)
    summary = self._summary(heard, split_of, rejects, copies, written)
    self._finish(written, summary, {REJECTS: rejects, DUPLICATES: [
        dict(file=heard[copy.index].item.id, copy_of=heard[copy.first].item.id,
             kind=copy.kind, share=copy.share,
             dropped=copy.dropped) for copy in copies]})
    if self.progress:
      _report(summary)
    return summary

  def _hear(self, progress):
    """[(item, part, what became of it)], in order."""
    recordings = self.found.items
    size = max(1, min(_MOST_IN_A_PART, len(recordings) // _MOST_IN_A_PART))
    groups = {f'{first:07d}': recordings[first:first + size]
              for first in range(0, len(recordings), size)}
    done = self._heard(groups, progress)
    # One that ends its worker takes others with it: each has a try of its own.
    again = {f'{int(name) + k:07d}-one': [item] for name in done.failed
             for k, item in enumerate(groups[name])}
    alone = self._heard(again, progress) if again else workers_lib.Done({}, {})
    told = []
    for name, group in groups.items():
      for k, item in enumerate(group):
        one = f'{int(name) + k:07d}-one'
        if name in done.values:
          told.append((item, name, done.values[name][k]))
        elif one in alone.values:
          told.append((item, one, alone.values[one][0]))
        else:
          told.append((item, one, dict(
              reason='unreadable', detail=alone.failed[one])))
    return told

  def _heard(self, groups, progress):
    pieces = {name: (group, self.limits, self.in_work('parts', name))
              for name, group in groups.items()}
    return workers_lib.run(hear.hear, pieces, self.in_work('heard'), self.runner,
                           progress.said(' parts heard'))

  def _sort(self, told):
    """([`_Heard`], [rejects]), each in order."""
    heard, rejects = [], list(self.found.rejects)
    for item, part, entry in told:
      if 'reason' in entry:
        rejects.append(dict(file=item.id, reason=entry['reason'],
                            detail=files_lib.encodable(entry['detail'])))
      else:
        heard.append(_Heard(item, part, entry))
    return heard, rejects

  def _share_out(self, heard):
    """What `splits.share_out` gives of the recordings."""
    parts, numbers = collections.defaultdict(list), []
    for one in heard:
      parts[one.part].append(one.told)
    for part, told in parts.items():
      numbers += hear.read_prints(self.in_work('parts', part), told)
    return splits.share_out(
        [splits.Recording(one.told['checksum'],
                          one.item.folder and f'folder/{one.item.folder}',
                          one.item.split) for one in heard],
        prints.alike(numbers))

  def _write(self, heard, split_of, progress):
    """{split: [`record_shards.Shard`]} of files of records that are there."""
    tracks = collections.defaultdict(list)
    for one, split in zip(heard, split_of):
      if split:
        tracks[split] += _tracks(one, self.in_work('parts', one.part) + hear.PCM)
    plans = {}
    for split, own in sorted(tracks.items()):
      divided = shards.divide(own)
      names = record_shards.names(self.name, split, len(divided))
      for number, (name, some) in enumerate(zip(names, divided)):
        plans[f'{split}-{number:05d}'] = shards.Plan(
            places.join(self.made, name),
            self.in_work('lines', f'{split}-{number:05d}.jsonl'),
            self.licence, some)
    done = workers_lib.run(shards.write, plans, self.in_work('written'),
                           self.runner, progress.said(' files written'))
    if done.failed:
      raise errors.UserError(next(iter(done.failed.values())))
    written = collections.defaultdict(list)
    for name, value in done.values.items():
      written[name.rpartition('-')[0]].append(
          record_shards.Shard(plans[name].lines, **value))
    return written

  def _summary(self, heard, split_of, rejects, copies, written):
    """What `build` returns."""
    used = {one.item.id for one, split in zip(heard, split_of) if split}
    count = lambda values: dict(sorted(collections.Counter(values).items()))
    return dict(
        files=len(self.found.items) + len(self.found.rejects), used=len(used),
        tracks=sum(s.tracks for shards in written.values() for s in shards),
        rejected=count(r['reason'] for r in rejects),
        passed_over=dict(sorted((+self.found.passed_over).items())),
        blank_captions=self.found.blank_captions,
        duplicates=count(copy.kind for copy in copies),
        labels_without_audio=sorted(
            label for label, name in self.found.meant.items()
            if name not in used))

  def _finish(self, written, summary, listed):
    """Completes the corpus and puts it in its place."""
    for name, lines in listed.items():
      places.write(places.join(self.made, name), ''.join(
          json.dumps(line, ensure_ascii=False) + '\n' for line in lines).encode())
    record_shards.describe(self.made, dict(
        format=records.FORMAT, name=self.name, sample_rate_hz=SAMPLE_RATE_HZ,
        licence=self.licence, folder=self.found.name, **self.found.about,
        split_by=self.split_by, source=summary,
        ingest=self.fingerprints()[0]), written)
    if self.made != self.out:
      os.replace(self.made, self.out)
    self.clear()


def _tracks(one, part):
  """The tracks of a recording that was heard."""
  item, said, number = one.item, one.told.get('says', {}), len(one.told['pieces'])
  for k, (start, stop, checksum) in enumerate(one.told['pieces']):
    meta = dict(
        captions=said.get('captions', list(item.captions)),
        aspects=said.get('aspects', list(item.aspects)),
        source=item.id if item.reader == items_lib.FILE else item.where)
    if item.licence:
      meta['licence'] = item.licence
    meta |= item.about | dict(start_seconds=round(
        item.start_seconds + start / SAMPLE_RATE_HZ, 3))
    yield shards.Track(
        item.id if number == 1 else f'{item.id}#{k:03d}', part,
        one.told['offset'] + 2 * start, stop - start, checksum, meta)


def _as_copy(copy):
  return 'an exact copy' if copy.kind == 'exact' else (
      f'{copy.share:.0%} of its fingerprint that')


class _Progress:
  """The line of progress, or none."""

  def __init__(self, show):
    self._progress = progress_lib.Progress() if show else None

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._progress is not None:
      self._progress.__exit__(*error)

  def said(self, unit):
    if self._progress is None:
      return lambda done, total: None
    return lambda done, total: self._progress.show(NAME, done, total, unit)


def _nothing_usable(found, rejects):
  reasons = sources.counts(collections.Counter(r['reason'] for r in rejects))
  first = rejects[0]
  return (f'no usable recording under {found.name} ({reasons}); the first: '
          f'{first["file"]}: {first["detail"]}')


def _report(summary):
  rejected = sources.counts(summary['rejected'])
  print(f'{summary["used"]} of {summary["files"]} files used, '
        f'{summary["tracks"]} tracks' +
        (f'; rejected: {rejected} (listed in {REJECTS})' if rejected else ''))
  if summary['passed_over']:
    print(f'passed over: {sources.counts(summary["passed_over"])}')
  if summary['duplicates']:
    print(f'copies: {sources.counts(summary["duplicates"])} (listed in '
          f'{DUPLICATES})')
  if summary['blank_captions']:
    print(f'{summary["blank_captions"]} captions are blank and left out')
  missing = summary['labels_without_audio']
  if missing:
    print(f'{len(missing)} captions name no usable file; the first: '
          f'{missing[0]}')
