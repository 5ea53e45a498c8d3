"""Audio to tokens: shard after shard into a token cache, here or on workers.

Writes what cache.py describes. Tracks are cut to whole seconds, so that the
grids of codec, semantic tokens and MuLan windows coincide; the rest of the last
second is dropped, and with it tracks under one second.

The work is divided into shards (pieces.py), which `workers.run` has done by
threads of this process or by an engine of Beam. Each is written under a
temporary name and moved into place when complete: a run that was stopped goes
on with the shards that are missing, and a shard that fails costs itself alone.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil
import time
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import figures
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax import workers
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import pieces as pieces_lib

SHARD_SECONDS = 1200  # ours: audio in one shard, and at most lost by a kill
_REPORT_SECONDS = 5.0
_NAMED_FAILURES = 8  # in the line about shards that failed
_DONE = '.shards'  # of a cache that is not finished: what workers.run keeps
_SHORT = 'under a second'
# All that is written into the folder of the streams.
_STREAM_FILES = (cache_lib.COMPLETED, '*.tfrecord-?????-of-?????',
                 'index.*.npz', '.index.*.npz', 'info.*.json', 'stats.*.json')
# What killed runs leave in it (files.temporary), and what the former program did.
_LEFTOVERS = ('.*-??????.tmp*', '.index.*')


def tokenize(
    tokenizers: Any, corpus: records.Corpus, cache_dir: str | pathlib.Path,
    progress: Callable[[str], None] | None = None, replace: bool = False,
    shard_seconds: int = SHARD_SECONDS,
    options: workers.Options = workers.Options(),
    load: Callable[[], Any] | None = None,
    origin: Mapping[str, str] | None = None) -> cache_lib.Cache:
  """Tokenises every split of a corpus into a token cache.

  Args:
    tokenizers: a `tokenizers.loading.Tokenizers`.
    corpus: as `records.Writer` leaves it.
    cache_dir: where the cache goes; a finished one of the same tokenizers and
      corpus is left as it is, a half-finished one is continued.
    progress: a function of one line of text, called every few seconds.
    replace: whether a cache of other parts in cache_dir is removed.
    shard_seconds: audio in one shard, about.
    options: where the work is done. Here it is one thread unless they say
      otherwise, since the models use all cores.
    load: gives the same tokenizers in another process, and is pickled; needed
      where the work is not done in this one.
    origin: entries of the cache's provenance.json, such as the command.

  Raises:
    UserError: cache_dir holds another cache or other files, the corpus has
      another rate or no track of a second, or shards failed.
  """
  refuse_file(cache_dir)
  if load is None and options.runner != workers.LOCAL:
    raise ValueError(f'runner {options.runner} needs `load`, for its workers.')
  cache_dir = pathlib.Path(cache_dir)
  rate = tokenizers.tokens.audio.sample_rate_hz
  if corpus.sample_rate_hz != rate:
    raise errors.UserError(
        f'the corpus {corpus.directory} has {corpus.sample_rate_hz} Hz, the '
        f'bundle {rate} Hz; ingest the corpus again at {rate} Hz.')
  about = _about(tokenizers, corpus, shard_seconds)
  _refuse_strange(cache_dir)
  if _finished(cache_dir, about, replace):
    _clear(cache_dir)
    return cache_lib.Cache(cache_dir)
  streams = cache_dir / cache_lib.STREAMS_TASK
  pieces = pieces_lib.plan(corpus, streams, shard_seconds)
  if not pieces:
    raise errors.UserError(
        f'the corpus {corpus.directory} has no track of a second or more.')
  streams.mkdir(parents=True, exist_ok=True)
  files.write_json(cache_dir / cache_lib.PLAN, about)
  done = _work(tokenizers, pieces, cache_dir, options, load, progress)
  _write_splits(corpus, done, cache_dir, about, tokenizers)
  _finish(cache_dir, about, tokenizers, corpus, origin)
  return cache_lib.Cache(cache_dir)


def _work(tokenizers, pieces, cache_dir, options, load, progress):
  """[(piece, what was written)], once all are done; UserError before."""
  folder = cache_dir / _DONE
  meter = _Meter(pieces, _done_before(pieces, folder), progress)
  if options.runner == workers.LOCAL:
    options = dataclasses.replace(options, workers=options.workers or 1)
    write = functools.partial(
        pieces_lib.write, lambda: tokenizers, done=meter.add)
    said = lambda done, total: None
  else:
    write, said = functools.partial(pieces_lib.write, load), meter.reach
  done = workers.run(write, pieces, folder, options, said)
  meter.close()
  if done.failed:
    raise errors.UserError(_failures(done.failed, len(pieces), cache_dir))
  return [(pieces[name], pieces_lib.written(pieces[name], value))
          for name, value in done.values.items()]


def _done_before(pieces, folder):
  """Names of pieces that are done; those whose file is gone are forgotten."""
  names = set()
  for path in folder.glob('*.json'):
    piece = pieces.get(path.stem)
    try:
      there = piece and pieces_lib.is_there(
          piece, json.loads(path.read_bytes())['value'])
    except (KeyError, IndexError, TypeError, ValueError):  # it is damaged
      there = False
    if there:
      names.add(path.stem)
    else:
      path.unlink()
  return names


def _failures(failed, count, cache_dir):
  """The line about shards that failed."""
  named = [f'{name} ({why.rstrip(".")})' for name, why in failed.items()]
  more = len(named) - _NAMED_FAILURES
  return (f'{len(failed)} of {count} shards of {cache_dir} failed: '
          f'{"; ".join(named[:_NAMED_FAILURES])}'
          f'{f"; and {more} more" if more > 0 else ""}. The others are kept; '
          f'run the command again for these.')


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
  """How a cache calls a corpus: the beginning of its fingerprint."""
  return corpus.fingerprint[:16]


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
  for name in (cache_lib.FINGERPRINT, cache_lib.CODEBOOKS, cache_lib.LEFT_OUT,
               cache_lib.PROVENANCE):
    (cache_dir / name).unlink(missing_ok=True)
  _clear(cache_dir)


def _write_splits(corpus, done, cache_dir, about, tokenizers):
  """Each split's index, info and stats, and the tracks that are left out.

  Args:
    corpus: a `records.Corpus`.
    done: [(Piece, Written)], split after split.
    cache_dir: of the cache.
    about: gets its counts.
    tokenizers: a `loading.Tokenizers`.
  """
  lines, rate = [], corpus.sample_rate_hz
  for name in corpus.splits:
    split = corpus.split(name)
    parts = [made for piece, made in done if piece.split == name]
    left = [dict(split=name, id=track.id, reason=_SHORT)
            for track in split if track.num_samples < rate]
    unusable = [dict(split=name, **dataclasses.asdict(track))
                for made in parts for track in made.left_out]
    lines += left + unusable
    index = cache_lib.Index.join([made.index for made in parts]) if parts else ()
    if not len(index):
      continue
    _write_split_info(cache_dir / cache_lib.STREAMS_TASK, name, index,
                      len(parts), tokenizers)
    about['splits'][name] = dict(
        tracks=len(index), seconds=int(index.seconds.sum()),
        left_out=len(split) - len(index))
    if unusable:
      about['splits'][name]['unusable'] = len(unusable)
  if not about['splits']:
    raise errors.UserError(
        f'no track of {corpus.directory} could be tokenised; the last one, '
        f'{lines[-1]["id"]}: {lines[-1]["reason"]}')
  files.write_text(cache_dir / cache_lib.LEFT_OUT, ''.join(
      json.dumps(line, ensure_ascii=False) + '\n' for line in lines))


def _write_split_info(streams_dir, name, index, num_shards, tokenizers):
  """The split's index, and info and stats as seqio reads them."""
  import seqio  # pylint: disable=g-import-not-at-top
  index.save(streams_dir / f'index.{name}.npz')
  tokens, seconds = tokenizers.tokens, int(index.seconds.sum())
  codec = tokens.codec
  per_second = codec.frame_rate_hz * codec.num_codebooks
  files.write_json(streams_dir / f'info.{name}.json', dict(
      num_shards=num_shards, features=cache_lib.features(
          tokens, tokenizers.melody is not None),
      seqio_version=seqio.__version__))
  files.write_json(streams_dir / f'stats.{name}.json', dict(
      examples=len(index), seconds=seconds,
      acoustic_tokens=seconds * per_second,
      acoustic_max_tokens=int(index.seconds.max()) * per_second,
      semantic_tokens=seconds * tokens.semantic.frame_rate_hz))


def _finish(cache_dir, about, tokenizers, corpus, origin):
  """Writes what makes a cache a finished one; leaves no temporary file."""
  with files.whole(cache_dir / cache_lib.CODEBOOKS) as temporary:
    with open(temporary, 'wb') as file:
      np.savez(file, **tokenizers.codebooks())
  files.write_json(cache_dir / cache_lib.PROVENANCE, dict(
      origin or {}, corpus=dict(about['corpus'],
                                directory=str(corpus.directory),
                                licence=corpus.manifest.get('licence', '')),
      bundle=about['bundle'], fingerprint=about['fingerprint'],
      splits=about['splits'], **figures.context()))
  (cache_dir / cache_lib.STREAMS_TASK / cache_lib.COMPLETED).touch()
  files.write_json(cache_dir / cache_lib.FINGERPRINT, about)
  _clear(cache_dir)


def _clear(cache_dir):
  """Removes what a cache has only until it is finished.

  The plan goes last: without it and the fingerprint, files are no cache's.
  """
  streams = cache_dir / cache_lib.STREAMS_TASK
  for path in [p for pattern in _LEFTOVERS for p in streams.glob(pattern)]:
    path.unlink()
  for name in (cache_lib.FINGERPRINT, cache_lib.CODEBOOKS, cache_lib.LEFT_OUT,
               cache_lib.PROVENANCE, cache_lib.PLAN):
    files.sweep(cache_dir / name)
  if (cache_dir / _DONE).is_dir():
    shutil.rmtree(cache_dir / _DONE)
  (cache_dir / cache_lib.PLAN).unlink(missing_ok=True)


class _Meter:
  """Says how fast audio is tokenised, and when it will be done."""

  def __init__(self, pieces, done_before, progress):
    self._total = sum(piece.seconds for piece in pieces.values())
    self._skipped = sum(pieces[name].seconds for name in done_before)
    self._progress = progress or (lambda line: None)
    self._done = 0
    self._start = self._reported = time.monotonic()

  def reach(self, done, total):
    """Is told how many pieces are done, which is all that engines tell."""
    self.add(max(0, self._total * done / total - self._skipped - self._done))

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
