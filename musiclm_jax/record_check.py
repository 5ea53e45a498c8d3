"""Is a corpus still what was written? Every byte of it is read.

  index, manifest --tracks--> samples: their checksum, their number
  files of records --frames--> each record's own checksum, its id and its place
  counts and rates of manifest.json, of TFDS's files and of what is there agree

Samples are int16, so none can be infinite or no number; what is checked of them
is that they are those that were written.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import mmap
import os

from musiclm_jax import errors
from musiclm_jax import record_index
from musiclm_jax import record_shards
from musiclm_jax import records
from musiclm_jax import tfds_layout
from musiclm_jax import tfrecords

_SHORT = 0.01  # seconds that a manifest's rounded sum may be off, and some more


@dataclasses.dataclass(frozen=True)
class Fault:
  """Something that is not as it was written.

  Attributes:
    where: 'split/id' of a track, or the name of a split or file.
    why: in words, without a full stop.
  """

  where: str
  why: str

  def __str__(self):
    return f'{self.where}: {self.why}'


def faults(corpus: records.Corpus,
           reached: Callable[[int], None] = lambda count: None
           ) -> Iterator[Fault]:
  """What is wrong with a corpus, at most one a track.

  Args:
    corpus: whose manifest could be read.
    reached: is told after each track how many have been read.
  """
  described = _described(corpus)
  if isinstance(described, Fault):
    yield described
    described = None
  elif described and described.sample_rate_hz != corpus.sample_rate_hz:
    yield Fault(tfds_layout.METADATA, (
        f'{described.sample_rate_hz} Hz, and {records.MANIFEST} says '
        f'{corpus.sample_rate_hz}'))
  if corpus.sample_rate_hz <= 0:
    yield Fault(records.MANIFEST, f'{corpus.sample_rate_hz} Hz')
  read = 0
  for name in corpus.splits:
    try:
      split = corpus.split(name)
    except errors.UserError as error:
      yield Fault(name, _bare(error))
      continue
    yield from _of_counts(corpus, name, split, described)
    found, broken = _framed(split)
    for shard, why in broken.items():
      yield Fault(os.path.basename(shard), why)
    seen = set()
    for track in split:
      why = _of_track(split, track, found, broken)
      if track.id in seen:
        why = 'its id is that of another track'
      seen.add(track.id)
      if why:
        yield Fault(f'{name}/{track.id}', why)
      read += 1
      reached(read)


def without_checksum(corpus: records.Corpus) -> int:
  """Tracks of which only number and place can be checked.

  They are of the former format, whose files have no checksums either.
  """
  return sum(track.shard.endswith(record_index.V1_SUFFIX) and
             not track.meta.get('checksum')
             for name in corpus.splits for track in corpus.split(name))


def _described(corpus):
  """What TFDS's files say, None where there are none, or what is wrong."""
  if not tfds_layout.is_here(corpus.directory):
    return None
  try:
    return tfds_layout.read(corpus.directory, record_index.AGAIN)
  except errors.UserError as error:
    return Fault(tfds_layout.INFO, _bare(error))


def _of_counts(corpus, name, split, described):
  """Yields what manifest and TFDS's files say that is not there."""
  said = corpus.manifest['splits'][name]
  seconds = said.get('seconds') if isinstance(said, dict) else None
  if isinstance(seconds, (int, float)) and abs(seconds - split.seconds) > _SHORT:
    yield Fault(name, f'{split.seconds:.3f} s of sound, and {records.MANIFEST} '
                f'says {seconds:.3f}')
  if described is None:
    return
  shards = described.splits.get(name)
  count = sum(shards.counts) if shards else 0
  if count != len(split):
    yield Fault(name, f'{len(split)} tracks, and {tfds_layout.INFO} says {count}')


def _framed(split):
  """What the files of a split say themselves.

  Returns:
    {(file, where samples begin): (track, whether its record is whole)}, and
    {file: why} of those that cannot be gone through to their ends. Shards of the
    former format are samples alone, and in neither.
  """
  found, broken = {}, {}
  shards = sorted({str(split.directory / track.shard) for track in split})
  for shard in shards:
    if shard.endswith(record_index.V1_SUFFIX):
      continue
    try:
      for track, whole in _records(shard):
        found[shard, track.offset] = track, whole
    except errors.UserError as error:
      broken[shard] = _bare(error)
  return found, broken


def _records(path):
  """Yields (track, whether its checksum is right) of a file."""
  if not os.path.getsize(path):
    return
  with open(path, 'rb') as file, mmap.mmap(
      file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    with memoryview(mapped) as data:
      whole = [tfrecords.is_whole(data, *span) for span in tfrecords.spans(
          data, path, record_index.AGAIN)]
  # A record that is no Example raises here, and names its file.
  yield from zip(record_index.scan(path), whole)


def _of_track(split, track, found, broken):
  """What is wrong with a track, or ''."""
  shard = str(split.directory / track.shard)
  expected = track.meta.get('checksum')
  if expected and record_shards.checksum(split.pcm(track)) != expected:
    return 'its samples have another checksum than when they were written'
  if shard.endswith(record_index.V1_SUFFIX):
    return ''
  if (shard, track.offset) not in found:
    if shard in broken:
      return ''  # it has been named
    return f'no record of {os.path.basename(shard)} begins where the index says'
  record, whole = found[shard, track.offset]
  if not whole:
    return 'its record has another checksum than when it was written'
  if record.id != track.id:
    return f'its record is that of {record.id}'
  if record.num_samples != track.num_samples:
    return (f'its record has {record.num_samples} samples, and the index says '
            f'{track.num_samples}')
  return ''


def _bare(error):
  """A message without its remedy, which is said once for all."""
  return str(error).removesuffix('.').removesuffix(f'; {record_index.AGAIN}')
