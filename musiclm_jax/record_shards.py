"""Files of records are made, and a corpus of them.

A record is a tf.train.Example whose last feature is the audio, so that a track's
samples are at a known place of its file (`musiclm_jax/tfds_layout.py` has the
features). `ShardWriter` makes a file of them and gives the lines of the index;
`complete` puts files in their places and says what there is.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any
from typing import BinaryIO

import numpy as np

from musiclm_jax import files
from musiclm_jax import record_index
from musiclm_jax import tfds_layout
from musiclm_jax import tfrecords

MANIFEST = 'manifest.json'


class ShardWriter:
  """Writes records to an open file.

  Attributes:
    count: tracks so far.
    samples: of all of them.
    num_bytes: of all records, without what is around them.
  """

  def __init__(self, file: BinaryIO):
    self._file = file
    self.count = self.samples = self.num_bytes = 0

  def add(self, track_id: str, pcm: np.ndarray, meta: dict) -> dict[str, Any]:
    """Appends a track.

    Args:
      track_id: its name.
      pcm: [N] int16.
      meta: JSON values. Captions and aspects are lists of texts; source and
        licence are texts; the others are kept together as JSON.

    Returns:
      Its line of the index, whose shard is still to be named.
    """
    data = np.ascontiguousarray(pcm, '<i2').tobytes()
    meta = dict(captions=[], aspects=[]) | meta
    if 'checksum' not in meta:
      meta['checksum'] = checksum(data)
    rest = {key: value for key, value in meta.items()
            if key not in (*record_index.TEXTS, *tfds_layout.LISTS)}
    values = dict(id=[track_id], captions=meta['captions'],
                  aspects=meta['aspects'], about=[_json(rest)])
    values |= {name: [meta.get(name, '')] for name in record_index.TEXTS}
    payload = tfrecords.example(
        {name: [_encoded(text) for text in texts]
         for name, texts in sorted(values.items())} | {tfds_layout.AUDIO: [data]})
    begin = tfrecords.append(self._file, payload)
    self.count += 1
    self.samples += len(pcm)
    self.num_bytes += len(payload)
    return dict(id=track_id, shard='', offset=begin + len(payload) - len(data),
                num_samples=len(pcm), **meta)


def checksum(pcm: bytes) -> str:
  """Of a track's samples: SHA-256 in hexadecimal digits."""
  return hashlib.sha256(pcm).hexdigest()


def line(entry: dict[str, Any]) -> str:
  """A line of the index."""
  return _json(entry) + '\n'


@dataclasses.dataclass(frozen=True)
class Shard:
  """A file of records that has no name yet.

  Attributes:
    path: of the file.
    lines: path of its lines of the index.
    tracks: records in it.
    samples: of all of them.
    num_bytes: of all records, without what is around them.
  """

  path: str
  lines: str
  tracks: int
  samples: int
  num_bytes: int


def complete(folder: str | os.PathLike, manifest: dict[str, Any],
             splits: Mapping[str, Sequence[Shard]]) -> None:
  """Makes a corpus of files of records: names them and says what there is.

  Args:
    folder: gets the files.
    manifest: as `records.Corpus` reads it, without its splits.
    splits: {name: shards in order}; they are moved into the folder.
  """
  folder, counts = pathlib.Path(folder), {}
  name = tfds_layout.dataset_name(manifest['name'])
  for split, shards in sorted(splits.items()):
    names = [tfds_layout.shard_name(name, split, number, len(shards))
             for number in range(len(shards))]
    counts[split] = tfds_layout.Shards(
        tuple(names), tuple(shard.tracks for shard in shards),
        sum(shard.num_bytes for shard in shards))
    (folder / split).mkdir(exist_ok=True)
    with files.whole(folder / split / record_index.INDEX) as temporary:
      with open(temporary, 'w', encoding='utf-8',
                errors='backslashreplace') as index:
        for named, shard in zip(names, shards):
          _add_lines(index, named, shard)
    for named, shard in zip(names, shards):
      os.replace(shard.path, folder / named)
      os.unlink(shard.lines)
  rate = manifest['sample_rate_hz']
  manifest = manifest | dict(splits={
      split: dict(tracks=sum(shard.tracks for shard in shards), seconds=round(
          sum(shard.samples for shard in shards) / rate, 3))
      for split, shards in sorted(splits.items())})
  described = tfds_layout.contents(
      name, rate, files.encodable(str(manifest.get('licence', ''))), counts)
  for named, value in described.items():
    files.write_text(folder / named, tfds_layout.as_json(value))
  files.write_json(folder / MANIFEST, manifest)


def _add_lines(index, named, shard):
  with open(shard.lines, encoding='utf-8', newline='\n') as lines:
    for text in lines:
      entry = json.loads(text)
      entry['shard'] = named
      index.write(line(entry))


def _encoded(text):
  # Half a character, as JSON and file names may hold, is no reason to fail.
  return text.encode('utf-8', 'backslashreplace')


def _json(value):
  return json.dumps(value, ensure_ascii=False)
