"""A folder of records as TensorFlow Datasets knows it, without TensorFlow.

  dataset_info.json   the name, and for each split its files and their counts
  features.json       what a record holds
  metadata.json       sample_rate_hz, licence
  <name>-<split>.tfrecord-00000-of-00003

`tfds.builder_from_directory` opens it. A record's audio is a tensor of bytes:
samples end to end as they would be in a file of their own, so that they can be
mapped where they stand.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import re
from typing import Any

from musiclm_jax import errors
from musiclm_jax import files

INFO, FEATURES, METADATA = 'dataset_info.json', 'features.json', 'metadata.json'
TEXTS = ('id', 'source', 'licence', 'checksum', 'about')
LISTS = ('captions', 'aspects')
AUDIO = 'audio'
VERSION = '1.0.0'
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
_FORMAT = 'tfrecord'
_CLASSES = 'tensorflow_datasets.core.features.'
_TEXT = dict(pythonClassName=_CLASSES + 'text_feature.Text', text={})


@dataclasses.dataclass(frozen=True)
class Shards:
  """The files of one split.

  Attributes:
    names: of the files, in order.
    counts: records in each of them.
    num_bytes: of all records, without what is around them.
  """

  names: tuple[str, ...]
  counts: tuple[int, ...]
  num_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Described:
  """What a TFDS folder says of itself."""

  name: str
  sample_rate_hz: int
  licence: str
  splits: dict[str, Shards]


def dataset_name(name: str) -> str:
  """What TFDS allows as the name of a dataset.

  >>> dataset_name('My songs, 2nd'), dataset_name('2 songs')
  ('my_songs_2nd', 'corpus_2_songs')
  """
  plain = re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')
  return plain if plain[:1].isalpha() else f'corpus_{plain}'.rstrip('_')


def shard_name(name: str, split: str, number: int, count: int) -> str:
  """
  >>> shard_name('mine', 'train', 1, 3)
  'mine-train.tfrecord-00001-of-00003'
  """
  return _TEMPLATE.format(DATASET=name, SPLIT=split, FILEFORMAT=_FORMAT,
                          SHARD_X_OF_Y=f'{number:05d}-of-{count:05d}')


def contents(name: str, sample_rate_hz: int, licence: str,
             splits: Mapping[str, Shards]) -> dict[str, Any]:
  """{file name: JSON value} of the files beside the records."""
  info = dict(
      description=f'Music at {sample_rate_hz} Hz, mono, written by musiclm_jax.',
      fileFormat=_FORMAT, name=name, splits=[
          dict(filepathTemplate=_TEMPLATE, name=split,
               numBytes=str(shards.num_bytes),
               shardLengths=[str(count) for count in shards.counts])
          for split, shards in sorted(splits.items())],
      version=VERSION)
  if licence:
    info['redistributionInfo'] = dict(license=licence)
  return {INFO: info, FEATURES: _features(),
          METADATA: dict(sample_rate_hz=sample_rate_hz, licence=licence)}


def is_here(folder: str | os.PathLike) -> bool:
  """Whether a folder is a dataset of TFDS, ours or not."""
  return (pathlib.Path(folder) / INFO).is_file() and (
      pathlib.Path(folder) / FEATURES).is_file()


def holds_records(folder: str | os.PathLike) -> bool:
  """Whether its examples are of the features of `contents`."""
  features = files.read_json(
      pathlib.Path(folder) / FEATURES, 'make or copy the dataset again')
  return features.get('featuresDict') == _features()['featuresDict']


def read(folder: str | os.PathLike, remedy: str) -> Described:
  """What a TFDS folder of our features says of itself.

  Raises:
    UserError: it holds other features, no sample rate, no files of this kind, or
      its description is damaged.
  """
  folder = pathlib.Path(folder)
  if not holds_records(folder):
    raise errors.UserError(
        f'{folder} is a TFDS dataset of other features than a corpus has; run '
        f'`musiclm ingest {folder} --out DIR` to make one of it.')
  path = folder / INFO
  info = files.read_json(path, remedy)
  files.require(path, info, remedy, name=str, splits=list)
  if info.get('fileFormat', _FORMAT) != _FORMAT:
    raise errors.UserError(
        f'{path} says that its files are {info["fileFormat"]}; expected '
        f'{_FORMAT}.')
  metadata = {}
  if (folder / METADATA).is_file():
    metadata = files.read_json(folder / METADATA, remedy)
  files.require(f'{folder / METADATA}', metadata,
                'write it with tfds.core.MetadataDict(sample_rate_hz=24000)',
                sample_rate_hz=int)
  return Described(info['name'], metadata['sample_rate_hz'],
                   str(metadata.get('licence', '')),
                   {split['name']: _shards(path, info['name'], split, remedy)
                    for split in info['splits']})


def _shards(path, name, split, remedy):
  """`Shards` of an entry of dataset_info.json."""
  files.require(path, split, remedy, name=str)
  template = split.get('filepathTemplate') or _TEMPLATE
  lengths: Sequence[Any] = split.get('shardLengths') or ()
  try:
    counts = tuple(int(length) for length in lengths)
    names = tuple(template.format(
        DATASET=name, SPLIT=split['name'], FILEFORMAT=_FORMAT,
        SHARD_INDEX=f'{number:05d}', NUM_SHARDS=f'{len(counts):05d}',
        SHARD_X_OF_Y=f'{number:05d}-of-{len(counts):05d}')
                  for number in range(len(counts)))
  except (KeyError, IndexError, TypeError, ValueError) as error:
    raise errors.UserError(
        f'{path} is damaged (the split {split["name"]}: {error}); {remedy}.'
    ) from error
  return Shards(names, counts)


def _features():
  tensor = dict(shape=dict(dimensions=['-1']), dtype='int16', encoding='bytes')
  listed = dict(pythonClassName=_CLASSES + 'sequence_feature.Sequence',
                sequence=dict(feature=_TEXT, length='-1'))
  features = {name: _TEXT for name in TEXTS} | {name: listed for name in LISTS}
  features[AUDIO] = dict(
      pythonClassName=_CLASSES + 'tensor_feature.Tensor', tensor=tensor)
  return dict(pythonClassName=_CLASSES + 'features_dict.FeaturesDict',
              featuresDict=dict(features=dict(sorted(features.items()))))


def as_json(value: Any) -> str:
  """Text of a JSON file of a dataset."""
  return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + '\n'
