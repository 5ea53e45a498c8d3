"""Audio to tokens on one machine: shard after shard into a token cache.

Writes what cache.py describes. Tracks are cut to whole seconds, so that the
grids of codec, semantic tokens and MuLan windows coincide; the rest of the last
second is dropped, and with it tracks under one second.

The work is divided into shards (shards.py), each written under a temporary name
and moved into place when complete: a run that was stopped goes on with the next
shard.
"""

from collections.abc import Callable
import hashlib
import json
import pathlib
import time
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import shards as shards_lib

SHARD_SECONDS = 1200  # ours: audio in one shard, and at most lost by a kill
_REPORT_SECONDS = 5.0
# All that is written into the folder of the streams.
_STREAM_FILES = (cache_lib.COMPLETED, '*.tfrecord-?????-of-?????',
                 'index.*.npz', '.index.*.npz', 'info.*.json', 'stats.*.json')


def tokenize(
    tokenizers: Any, corpus: records.Corpus, cache_dir: str | pathlib.Path,
    progress: Callable[[str], None] | None = None, replace: bool = False,
    shard_seconds: int = SHARD_SECONDS) -> cache_lib.Cache:
  """Tokenises every split of a corpus into a token cache.

  Args:
    tokenizers: a `tokenizers.loading.Tokenizers`.
    corpus: as `records.Writer` leaves it.
    cache_dir: where the cache goes; a finished one of the same tokenizers and
      corpus is left as it is, a half-finished one is continued.
    progress: a function of one line of text, called every few seconds.
    replace: whether a cache of other parts in cache_dir is removed.
    shard_seconds: audio in one shard, about.

  Raises:
    UserError: cache_dir holds another cache or other files, or the corpus has
      another rate or no track of a second.
  """
  refuse_file(cache_dir)
  cache_dir = pathlib.Path(cache_dir)
  rate = tokenizers.tokens.audio.sample_rate_hz
  if corpus.sample_rate_hz != rate:
    raise errors.UserError(
        f'the corpus {corpus.directory} has {corpus.sample_rate_hz} Hz, the '
        f'bundle {rate} Hz; ingest the corpus again at {rate} Hz.')
  about = _about(tokenizers, corpus, shard_seconds)
  _refuse_strange(cache_dir)
  if _finished(cache_dir, about, replace):
    return cache_lib.Cache(cache_dir)
  plan = {name: shards_lib.plan(corpus.split(name), shard_seconds)
          for name in corpus.splits}
  plan = {name: shards for name, shards in plan.items() if shards}
  if not plan:
    raise errors.UserError(
        f'the corpus {corpus.directory} has no track of a second or more.')
  streams = cache_dir / cache_lib.STREAMS_TASK
  streams.mkdir(parents=True, exist_ok=True)
  records.write_json(cache_dir / cache_lib.PLAN, about)
  meter = _Meter(plan, progress)
  for name, shards in plan.items():
    split = corpus.split(name)
    indices = [
        _write_shard(tokenizers, split, name, i, shards, streams, meter)
        for i in range(len(shards))]
    _write_split_info(streams, name, indices, tokenizers)
    about['splits'][name] = dict(
        tracks=sum(map(len, indices)),
        seconds=int(sum(i.seconds.sum() for i in indices)),
        left_out=len(split) - sum(map(len, indices)))
  _finish(cache_dir, streams, about, tokenizers)
  meter.close()
  return cache_lib.Cache(cache_dir)


def refuse_file(cache_dir: str | pathlib.Path) -> None:
  """UserError where a file stands in the place of the cache's folder."""
  if pathlib.Path(cache_dir).is_file():
    raise errors.UserError(f'{cache_dir} is a file; choose another --cache.')


def _refuse_strange(cache_dir):
  """UserError where files would be written over that no cache of ours is."""
  if any((cache_dir / name).is_file()
         for name in (cache_lib.FINGERPRINT, cache_lib.PLAN)):
    return
  streams = cache_dir / cache_lib.STREAMS_TASK
  for path in (cache_dir / cache_lib.CODEBOOKS, streams):
    if path.is_file() or path.is_dir() and any(path.iterdir()):
      raise errors.UserError(
          f'{cache_dir} holds {path.name} and no {cache_lib.FINGERPRINT}, so '
          f'it is no cache of this program; choose another --cache.')


def _about(tokenizers, corpus, shard_seconds):
  """What the cache says of itself; `fingerprint` sums it up."""
  about = dict(
      format=cache_lib.FORMAT, tokens=specs.to_dict(tokenizers.tokens),
      tokens_fingerprint=specs.fingerprint(tokenizers.tokens),
      bundle=dict(tokenizers.hashes),
      corpus=dict(name=corpus.name, sha256=corpus_hash(corpus)),
      shard_seconds=shard_seconds)
  canonical = json.dumps(about, sort_keys=True).encode()
  return dict(about, fingerprint=hashlib.sha256(canonical).hexdigest()[:16],
              splits={})


def corpus_hash(corpus: records.Corpus) -> str:
  """Of what the corpus says of its tracks: changes with any of them."""
  source = hashlib.sha256((corpus.directory / 'manifest.json').read_bytes())
  for name in corpus.splits:
    source.update((corpus.directory / name / 'tracks.jsonl').read_bytes())
  return source.hexdigest()[:16]


def _finished(cache_dir, about, replace):
  """Whether the cache is there; another one is removed, or a UserError."""
  for name in (cache_lib.FINGERPRINT, cache_lib.PLAN):
    path = cache_dir / name
    if not path.is_file():
      continue
    try:
      found = files.read_json(path, 'add --replace to make it anew')
    except errors.UserError:
      if not replace:
        raise
      found = {}
    if found.get('fingerprint') == about['fingerprint']:
      if name == cache_lib.PLAN or _is_whole(cache_dir, replace):
        return name == cache_lib.FINGERPRINT
    if replace:
      _remove(cache_dir)
      return False
    keys = ('format', 'tokens', 'bundle', 'corpus', 'shard_seconds')
    lines = specs.difference({k: found.get(k, {}) for k in keys},
                             {k: about[k] for k in keys})
    raise errors.UserError(
        f'{cache_dir} holds a cache of other parts ({"; ".join(lines)}); '
        f'add --replace to make it anew, or choose another --cache.')
  return False


def _is_whole(cache_dir, replace):
  """Whether all files of a finished cache are; UserError unless `replace`."""
  try:
    cache = cache_lib.Cache(cache_dir)
    for split in cache.splits:
      cache.records(split)
      cache.stats(split)
    cache.codebooks  # pylint: disable=pointless-statement
  except errors.UserError:
    if not replace:
      raise
    return False
  return True


def _remove(cache_dir):
  """Removes a cache's own files and nothing else."""
  streams = cache_dir / cache_lib.STREAMS_TASK
  for pattern in _STREAM_FILES:
    for path in streams.glob(pattern):
      path.unlink()
  for name in (cache_lib.FINGERPRINT, cache_lib.CODEBOOKS, cache_lib.PLAN):
    (cache_dir / name).unlink(missing_ok=True)


def _write_shard(tokenizers, split, name, number, shards, streams_dir, meter):
  """Writes one shard unless it is there; returns its `cache.Index`."""
  shard = shards[number]
  path = streams_dir / cache_lib.shard_name(name, number, len(shards))
  index_path = streams_dir / f'.index.{name}-{number:05d}.npz'
  if path.is_file() and index_path.is_file():
    index = cache_lib.Index.load(index_path)
    if len(index) == len(shard) and path.stat().st_size >= max(index.ends()):
      meter.skip(sum(seconds for _, seconds in shard))
      return index
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  payloads = shards_lib.serialise(tokenizers, split, shard, meter.add)
  index = shards_lib.index(number, shard, payloads)
  files.sweep(path)  # this cache is ours alone
  with files.whole(path) as temporary:
    with tf.io.TFRecordWriter(str(temporary)) as writer:
      for payload in payloads:
        writer.write(payload)
    index.save(index_path)
  return index


def _write_split_info(streams_dir, name, indices, tokenizers):
  """The split's index, and info and stats as seqio reads them."""
  import seqio  # pylint: disable=g-import-not-at-top
  index, tokens = cache_lib.Index.join(indices), tokenizers.tokens
  index.save(streams_dir / f'index.{name}.npz')
  codec, seconds = tokens.codec, int(index.seconds.sum())
  per_second = codec.frame_rate_hz * codec.num_codebooks
  records.write_json(streams_dir / f'info.{name}.json', dict(
      num_shards=len(indices), features=cache_lib.features(
          tokens, tokenizers.melody is not None),
      seqio_version=seqio.__version__))
  records.write_json(streams_dir / f'stats.{name}.json', dict(
      examples=len(index), seconds=seconds,
      acoustic_tokens=seconds * per_second,
      acoustic_max_tokens=int(index.seconds.max()) * per_second,
      semantic_tokens=seconds * tokens.semantic.frame_rate_hz))


def _finish(cache_dir, streams_dir, about, tokenizers):
  """Writes what makes a cache a finished one; leaves no temporary file."""
  np.savez(cache_dir / cache_lib.CODEBOOKS, **tokenizers.codebooks())
  (streams_dir / cache_lib.COMPLETED).touch()
  records.write_json(cache_dir / cache_lib.FINGERPRINT, about)
  (cache_dir / cache_lib.PLAN).unlink()
  for path in streams_dir.glob('.index.*'):
    path.unlink()


class _Meter:
  """Says how fast audio is tokenised, and when it will be done."""

  def __init__(self, plan, progress):
    self._total = sum(s for shards in plan.values() for shard in shards
                      for _, s in shard)
    self._progress = progress or (lambda line: None)
    self._done = self._skipped = 0
    self._start = self._reported = time.monotonic()

  def skip(self, seconds):
    """Counts audio that an earlier run has tokenised."""
    self._skipped += seconds

  def add(self, seconds):
    self._done += seconds
    if time.monotonic() - self._reported > _REPORT_SECONDS:
      self._report()

  def close(self):
    self._report()

  def _report(self):
    self._reported = time.monotonic()
    elapsed = max(self._reported - self._start, 1e-9)
    rate = self._done / elapsed
    left = self._total - self._skipped - self._done
    eta = f', {left / rate:.0f} s left' if rate and left else ''
    self._progress(
        f'tokens: {(self._skipped + self._done) / 3600:.2f} of '
        f'{self._total / 3600:.2f} h, {rate:.1f} x real time{eta}')
