"""A token cache on disk: its layout, its fingerprint and its index.

  fingerprint.json          format, TokenSpec, corpus, hashes of the tokenizers
  left_out.jsonl            tracks that are not in it: split, id, reason
  provenance.json           command, commit, machine, corpus and counts
  codebooks.npz             what codes stand for, [levels, codes, D] float32:
                            mulan, and of the others those that are known:
                            acoustic, semantic, melody
  musiclm_tokens/           a cached seqio task, as seqio itself reads it
    COMPLETED
    info.<split>.json stats.<split>.json
    <split>.tfrecord-0000i-of-0000n
    index.<split>.npz       where each track's record stands

One record is one track, cut to whole seconds:

  id        string
  seconds   int32
  captions  [C] string
  acoustic  [T * Q] int32 codes, time outer, level inner; T = seconds * 50
  semantic  [seconds * 25] int32 codes
  mulan     [W, 128] float16, an embedding per 10 s window, one window a second;
            as bytes, little-endian
  mulan_text [C, 128] float16, an embedding per caption; as bytes
  melody    [W, 24] int32 codes, a row per 4 s window, one window a second;
            where the bundle had a melody embedder

Caches of former formats are read as well: v3 has float32 in lists, v2 has no
mulan_text besides. The three stages' tasks read these same files. Neither
TensorFlow nor seqio is needed here.
"""

from collections.abc import Sequence
import dataclasses
import functools
import json
import os
import pathlib
import zipfile

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import specs
from musiclm_jax import tfrecords
from musiclm_jax.tokens import crops

FORMAT = 'musiclm_jax.tokens.v4'
_IN_FLOATS = 'musiclm_jax.tokens.v3'
_WITHOUT_TEXT = 'musiclm_jax.tokens.v2'
STREAMS_TASK = 'musiclm_tokens'
FINGERPRINT = 'fingerprint.json'
CODEBOOKS = 'codebooks.npz'
LEFT_OUT = 'left_out.jsonl'
PROVENANCE = 'provenance.json'
COMPLETED = 'COMPLETED'
_AGAIN = 'run `musiclm precompute` again with --replace'
PLAN = '.plan.json'  # of a cache that is not finished


def features(tokens: specs.TokenSpec, melody: bool = False,
             text: bool = True, halves: bool = True) -> dict[str, dict]:
  """A record under TokenSpec `tokens`: shapes and types as seqio states them.

  Args:
    tokens: the TokenSpec.
    melody: whether records hold melody codes.
    text: whether they hold the captions' embeddings.
    halves: whether embeddings are bytes of float16, not lists of float32.
  """
  described = {
      'id': dict(shape=[], dtype='string'),
      'seconds': dict(shape=[], dtype='int32'),
      'captions': dict(shape=[None], dtype='string'),
      'acoustic': dict(shape=[None], dtype='int32'),
      'semantic': dict(shape=[None], dtype='int32'),
      'mulan': dict(shape=[], dtype='string') if halves else dict(
          shape=[None, tokens.joint.embedding_dim], dtype='float32'),
  }
  if text:
    described['mulan_text'] = described['mulan']
  if melody:
    described['melody'] = dict(
        shape=[None, tokens.melody.num_codebooks], dtype='int32')
  return described


def task_name(stage: specs.StageSpec) -> str:
  """The seqio task of a StageSpec: 'musiclm_coarse'."""
  return f'musiclm_{stage.name}'


def shard_name(split: str, shard: int, num_shards: int) -> str:
  return f'{split}.tfrecord-{shard:05d}-of-{num_shards:05d}'


def tokens_of(directory: str | os.PathLike) -> specs.TokenSpec:
  """The TokenSpec of a cache, so that a stage's leaf trains on any of them.

  Args:
    directory: of a finished cache. Where there is none, as when a leaf is only
      looked at, the answer is the paper's TokenSpec.
  """
  return Cache(directory).tokens if is_finished(directory) else (
      specs.TokenSpec())


def is_finished(directory: str | os.PathLike) -> bool:
  """Whether a finished token cache is there; False for ''."""
  return bool(directory) and (pathlib.Path(directory) / FINGERPRINT).is_file()


@dataclasses.dataclass(frozen=True)
class Index:
  """Where every track of a split stands; arrays of one entry a track."""

  shard: np.ndarray  # [n] int32
  offset: np.ndarray  # [n] int64, of the payload, in bytes
  length: np.ndarray  # [n] int64, of the payload, in bytes
  seconds: np.ndarray  # [n] int32

  def __len__(self) -> int:
    return len(self.shard)

  def ends(self) -> np.ndarray:
    """[n] where each track's record ends in its shard, in bytes."""
    return self.offset + self.length + tfrecords.FOOT_BYTES

  @classmethod
  def join(cls, parts: Sequence['Index']) -> 'Index':
    return cls(*(np.concatenate([getattr(p, f.name) for p in parts])
                 for f in dataclasses.fields(cls)))

  @classmethod
  def load(cls, path: pathlib.Path) -> 'Index':
    names = [f.name for f in dataclasses.fields(cls)]
    stored = _arrays(path, names)
    return cls(**{name: stored[name] for name in names})

  def save(self, path: pathlib.Path) -> None:
    with files.whole(path) as temporary:
      with open(temporary, 'wb') as file:
        np.savez(file, **dataclasses.asdict(self))


class Records:
  """The records of a split by number, read where they stand.

  Reading is a copy out of a memory map, so a record costs the same wherever it
  is, and a split may be larger than memory.
  """

  def __init__(self, directory: pathlib.Path, split: str, num_shards: int,
               index: Index):
    self._index = index
    self._paths = [
        directory / shard_name(split, i, num_shards) for i in range(num_shards)]
    self._maps = {}
    for number, path in enumerate(self._paths):
      if not path.is_file():
        raise errors.UserError(f'{path} is missing; {_AGAIN}.')
      size = max(index.ends()[index.shard == number], default=0)
      if path.stat().st_size < size:
        raise errors.UserError(
            f'{path} is shorter than index.{split}.npz says '
            f'({path.stat().st_size} bytes, expected {size}); {_AGAIN}.')

  @property
  def paths(self) -> list[pathlib.Path]:
    """The files, by number of the shard."""
    return list(self._paths)

  def read(self, number: int) -> bytes:
    """The bytes of record `number`, a serialised tf.train.Example."""
    shard = int(self._index.shard[number])
    if shard not in self._maps:
      self._maps[shard] = np.memmap(self._paths[shard], np.uint8, mode='r')
    start = int(self._index.offset[number])
    stop = start + int(self._index.length[number])
    return self._maps[shard][start:stop].tobytes()


class Cache:
  """A finished token cache."""

  def __init__(self, directory: str | os.PathLike):
    # Readers of it, seqio among them, are asked for it at any later time.
    self.directory = pathlib.Path(directory).absolute()
    path = self.directory / FINGERPRINT
    if not path.is_file() or not (self.streams_dir / COMPLETED).is_file():
      raise errors.UserError(
          f'{directory or "CACHE_DIR"} is not a finished token cache; make one '
          f'with `musiclm precompute --bundle DIR --corpus DIR --cache DIR`.')
    self.about = files.read_json(path, _AGAIN)
    if self.about.get('format') not in (FORMAT, _IN_FLOATS, _WITHOUT_TEXT):
      raise errors.UserError(
          f'{path} has format {self.about.get("format")!r}, expected '
          f'{FORMAT!r}; {_AGAIN}.')
    files.require(path, self.about, _AGAIN, fingerprint=str, tokens=dict,
                  tokens_fingerprint=str, bundle=dict, corpus=dict, splits=dict)

  @property
  def streams_dir(self) -> pathlib.Path:
    """The directory that seqio calls the task's cache directory."""
    return self.directory / STREAMS_TASK

  @property
  def fingerprint(self) -> str:
    """Changes with the specs, the tokenizers' weights or the corpus."""
    return self.about['fingerprint']

  @property
  def splits(self) -> list[str]:
    return sorted(self.about['splits'])

  @functools.cached_property
  def tokens(self) -> specs.TokenSpec:
    """The TokenSpec of the codes."""
    try:
      return specs.from_dict(specs.TokenSpec, self.about['tokens'])
    except (AttributeError, TypeError, ValueError) as error:
      raise errors.UserError(
          f'{self.directory / FINGERPRINT} is damaged ({error}); {_AGAIN}.'
      ) from error

  @property
  def has_melody(self) -> bool:
    """Whether the records hold melody codes."""
    return 'melody' in self.about['bundle']

  @property
  def has_text(self) -> bool:
    """Whether the records hold the captions' embeddings."""
    return self.about['format'] != _WITHOUT_TEXT

  def described(self) -> dict[str, dict]:
    """Shapes and types of a record, as of `features`."""
    return features(self.tokens, self.has_melody, self.has_text,
                    self.about['format'] == FORMAT)

  @functools.cached_property
  def codebooks(self) -> dict[str, np.ndarray]:
    """{stream: [Q, K, D] float32}: what its codes stand for; 'mulan' is there."""
    return _arrays(self.directory / CODEBOOKS, ['mulan'])

  @property
  def left_out(self) -> list[dict[str, str]]:
    """Tracks that are not in it: split, id, reason. Former caches tell none."""
    path = self.directory / LEFT_OUT
    if not path.is_file():
      return []
    try:
      found = [json.loads(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
      raise errors.UserError(
          f'{path} is damaged (no JSON); {_AGAIN}.') from error
    for line in found:
      files.require(path, line, _AGAIN, split=str, id=str, reason=str)
    return found

  def check(self, stage: specs.StageSpec) -> None:
    """UserError where the specs differ, or a stream of the stage is missing."""
    lines = specs.difference(self.about['tokens'], stage.tokens)
    if lines:
      raise errors.UserError(
          f'the token cache {self.directory} does not fit the {stage.name} '
          f'stage: {"; ".join(lines)}. Precompute again with a bundle of the '
          f'same spec, or change the stage.')
    described = self.described()
    lacking = [s.name for s in stage.streams if s.source not in described]
    if lacking:
      raise errors.UserError(
          f'the token cache {self.directory} has no {lacking[0]}, which the '
          f'{stage.name} stage needs. Precompute again with a bundle that has '
          f'what makes it.')

  def stats(self, split: str) -> dict:
    self._check_split(split)
    return _read_json(self.streams_dir / f'stats.{split}.json')

  def index(self, split: str) -> Index:
    self._check_split(split)
    return Index.load(self.streams_dir / f'index.{split}.npz')

  def order(self, split: str, crop_seconds: int, seed: int) -> crops.Order:
    """Which track and crop each example is: `example(index) -> (track, seed)`."""
    return crops.Order(self.index(split).seconds, crop_seconds, seed)

  def records(self, split: str) -> Records:
    index = self.index(split)
    path = self.streams_dir / f'info.{split}.json'
    info = _read_json(path)
    files.require(path, info, _AGAIN, num_shards=int)
    return Records(self.streams_dir, split, info['num_shards'], index)

  def _check_split(self, split):
    if split not in self.about['splits']:
      raise errors.choice(f'split of {self.directory}', split, self.splits)


def _read_json(path):
  """The dict in a file of a finished cache."""
  if not path.is_file():
    raise errors.UserError(f'{path} is missing; {_AGAIN}.')
  return files.read_json(path, _AGAIN)


def _arrays(path, needed):
  """{name: array} of an .npz; UserError where it is damaged or lacks one."""
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = dict(stored)
    lacking = [name for name in needed if name not in arrays]
    fault = f'it lacks {", ".join(lacking)}' if lacking else ''
  except FileNotFoundError:
    fault = 'it is missing'
  except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile):
    fault = 'it is damaged'
  if fault:
    raise errors.UserError(
        f'{path} cannot be read: {fault}; {_AGAIN}.')
  return arrays


def describe(directory: str | os.PathLike) -> dict:
  """What a cache holds, flat: its parts' hashes, tracks and seconds."""
  cache = Cache(directory)
  about = cache.about
  described = dict(
      fingerprint=about['fingerprint'], format=about['format'],
      tokens_fingerprint=about['tokens_fingerprint'],
      corpus=about['corpus']['name'], splits=cache.splits)
  for name, digest in about['bundle'].items():
    described[f'{name}_hash'] = digest
  for split in cache.splits:
    for name, value in about['splits'][split].items():
      described[f'{split}_{name}'] = value
    stats = cache.stats(split)
    for name in ('acoustic_tokens', 'semantic_tokens'):
      described[f'{split}_{name}'] = stats[name]
  described['bytes'] = sum(
      p.stat().st_size for p in cache.directory.rglob('*') if p.is_file())
  return described
