"""Where the tracks of a corpus stand: its index, or what files say themselves.

`read` takes the index of a split up. Where there is none, as in a dataset that
TFDS wrote, `scan` goes through a file of records and reads all but the sound.
"""

from collections.abc import Iterator
import dataclasses
import json
import mmap
import os
import pathlib

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import text as text_lib
from musiclm_jax import tfds_layout
from musiclm_jax import tfrecords

INDEX = 'tracks.jsonl'
AGAIN = 'make or copy the corpus again'
SAMPLE_BYTES = 2
V1_SUFFIX = '.pcm'  # its shards stand beside the index and hold samples alone
TEXTS = ('source', 'licence', 'checksum')


@dataclasses.dataclass(frozen=True)
class Track:
  """One recording.

  Attributes:
    id: unique in its split.
    num_samples: int16 samples.
    shard: the file, absolute or relative to the split's folder.
    offset: where the samples begin in it, in bytes; any number, odd ones too.
    meta: captions, aspects, source, licence, checksum and what else is known.
  """

  id: str
  num_samples: int
  shard: str
  offset: int
  meta: dict

  @property
  def captions(self) -> list[str]:
    return [caption for caption in self.meta.get('captions', [])
            if not text_lib.is_blank(caption)]


def read(directory: pathlib.Path) -> list[Track]:
  """The tracks of a split's folder; UserError for what is wrong with it."""
  path = directory / INDEX
  if not path.is_file():
    raise errors.UserError(f'{path} is missing; {AGAIN}.')
  tracks, shards = [], {}
  with open(path, 'rb') as lines:  # a record ends at '\n' and nowhere else
    for number, text in enumerate(lines, 1):
      meta = _parsed(f'{path}, line {number},', text)
      name, offset = meta.pop('shard'), meta.pop('offset')
      if name not in shards:
        v1 = name.endswith(V1_SUFFIX)
        shards[name] = (name if v1 else str(directory.absolute().parent / name),
                        SAMPLE_BYTES if v1 else 1)
      shard, unit = shards[name]
      tracks.append(Track(meta.pop('id'), meta.pop('num_samples'), shard,
                          offset * unit, meta))
  _check(directory, tracks)
  return tracks


def _parsed(where, text):
  """The dict of a line of the index."""
  try:
    meta = json.loads(text)
  except ValueError as error:
    raise errors.UserError(
        f'{where} is damaged (no JSON); {AGAIN}.') from error
  if b'\\ud' in text.lower() and files.encodable(
      again := json.dumps(meta, ensure_ascii=False)) != again:
    raise errors.UserError(
        f'{where} is damaged (it holds half a character); {AGAIN}.')
  files.require(where, meta, AGAIN, id=str, num_samples=int, shard=str,
                offset=int)
  return meta


def _check(directory, tracks):
  """UserError unless every shard is there, with all that its tracks have."""
  ends = {}
  for track in tracks:
    if track.offset < 0 or track.num_samples < 0:
      raise errors.UserError(
          f'{directory / INDEX} is damaged (track {track.id} begins at '
          f'{track.offset} and has {track.num_samples} samples); {AGAIN}.')
    ends[track.shard] = max(ends.get(track.shard, 0),
                            track.offset + track.num_samples * SAMPLE_BYTES)
  for shard, end in ends.items():
    path = directory / shard
    if not path.is_file():
      raise errors.UserError(f'{path} is missing; {AGAIN}.')
    if path.stat().st_size < end:
      raise errors.UserError(
          f'{path} is shorter than {INDEX} says ({path.stat().st_size} bytes, '
          f'expected {end}); {AGAIN}.')


def scan(path: str | os.PathLike, check: bool = False) -> Iterator[Track]:
  """The tracks of a file of records; what it says of them is read, no sound.

  Args:
    path: of the file.
    check: whether to compare the checksums of all that is in it.

  Raises:
    UserError: it is missing, damaged, or of other features.
  """
  path = pathlib.Path(path).absolute()
  if not path.is_file():
    raise errors.UserError(f'{path} is missing; {AGAIN}.')
  if not path.stat().st_size:
    return
  with open(path, 'rb') as file, mmap.mmap(
      file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    with memoryview(mapped) as data:
      for number, (first, stop) in enumerate(
          tfrecords.spans(data, path, AGAIN, check), 1):
        with data[first:stop] as payload:
          try:
            yield _track(str(path), first, payload)
          except (KeyError, IndexError, TypeError, ValueError) as error:
            raise errors.UserError(
                f'{path} is damaged (record {number} is no track of a corpus); '
                f'{AGAIN}.') from error


def _track(path, begin, payload):
  """The `Track` of an Example."""
  found = tfrecords.parse(payload)
  text = lambda place: bytes(payload[slice(*place)]).decode()
  first, stop = found[tfds_layout.AUDIO][0] if found[tfds_layout.AUDIO] else (0, 0)
  if (stop - first) % SAMPLE_BYTES:
    raise ValueError('half a sample')
  meta = {name: list(map(text, found.get(name, ())))
          for name in tfds_layout.LISTS}
  for name in TEXTS:
    if value := ''.join(map(text, found.get(name, ()))):
      meta[name] = value
  about = ''.join(map(text, found.get('about', ())))
  meta |= json.loads(about) if about else {}
  return Track(text(found['id'][0]), (stop - first) // SAMPLE_BYTES, path,
               begin + first, meta)
