"""Files of records are made, and a corpus of them.

A record is a tf.train.Example whose last feature is the audio, so that a track's
samples are at a known place of its file (`musiclm_jax/tfds_layout.py` has the
features). `ShardWriter` makes a file of them and gives the lines of the index;
`describe` says what there is.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import os
from typing import Any
from typing import BinaryIO

import numpy as np

from musiclm_jax import files
from musiclm_jax import places
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

  def __init__(self, file: BinaryIO, licence: str = ''):
    """Begins.

    Args:
      file: open, for bytes.
      licence: of tracks that come without one; records hold it, and the index
        does not, since the manifest does.
    """
    self._file, self._licence = file, licence
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
    values['licence'] = [meta.get('licence') or self._licence]
    payload = tfrecords.example(
        {name: [_encoded(text) for text in texts]
         for name, texts in sorted(values.items())} | {tfds_layout.AUDIO: [data]})
    begin = tfrecords.append(self._file, payload)
    self.count += 1
    self.samples += len(pcm)
    self.num_bytes += len(payload)
    return dict(id=track_id, shard='', offset=begin + len(payload) - len(data),
                num_samples=len(pcm), **meta)


def checksum(pcm: bytes | np.ndarray) -> str:
  """Of a track's samples: SHA-256 in hexadecimal digits."""
  return hashlib.sha256(pcm).hexdigest()


def line(entry: dict[str, Any]) -> str:
  """A line of the index."""
  return _json(entry) + '\n'


@dataclasses.dataclass(frozen=True)
class Shard:
  """What a file of records holds.

  Attributes:
    lines: path or URL of its lines of the index.
    tracks: records in it.
    samples: of all of them.
    num_bytes: of all records, without what is around them.
  """

  lines: str
  tracks: int
  samples: int
  num_bytes: int


def names(corpus: str, split: str, count: int) -> list[str]:
  """The names of the `count` files of a split of the corpus of that name."""
  name = tfds_layout.dataset_name(corpus)
  return [tfds_layout.shard_name(name, split, number, count)
          for number in range(count)]


def describe(folder: str | os.PathLike, manifest: dict[str, Any],
             splits: Mapping[str, Sequence[Shard]]) -> None:
  """Makes a corpus of a folder of files of records, by saying what they hold.

  Args:
    folder: path or URL of the folder where they stand, under their `names`.
    manifest: as `records.Corpus` reads it, without its splits; it is written
      last.
    splits: {name: shards in order}.
  """
  counts, rate = {}, manifest['sample_rate_hz']
  for split, shards in sorted(splits.items()):
    named = names(manifest['name'], split, len(shards))
    counts[split] = tfds_layout.Shards(
        tuple(named), tuple(shard.tracks for shard in shards),
        sum(shard.num_bytes for shard in shards))
    with places.whole(places.join(folder, split, record_index.INDEX)) as made:
      with open(made, 'w', encoding='utf-8', errors='backslashreplace') as index:
        for name, shard in zip(named, shards):
          _add_lines(index, name, shard)
  described = tfds_layout.contents(
      tfds_layout.dataset_name(manifest['name']), rate,
      files.encodable(str(manifest.get('licence', ''))), counts)
  for name, value in described.items():
    places.write(places.join(folder, name), _encoded(tfds_layout.as_json(value)))
  manifest = manifest | dict(splits={
      split: dict(tracks=sum(shard.tracks for shard in shards), seconds=round(
          sum(shard.samples for shard in shards) / rate, 3))
      for split, shards in sorted(splits.items())})
  places.write(places.join(folder, MANIFEST), _encoded(
      json.dumps(manifest, indent=2, ensure_ascii=False) + '\n'))


def _add_lines(index, name, shard):
  with places.local(shard.lines) as path:
    with open(path, encoding='utf-8', newline='\n') as lines:
      for text in lines:
        entry = json.loads(text)
        entry['shard'] = name
        index.write(line(entry))


def _encoded(text):
  # Half a character, as JSON and file names may hold, is no reason to fail.
  return text.encode('utf-8', 'backslashreplace')


def _json(value):
  return json.dumps(value, ensure_ascii=False)
