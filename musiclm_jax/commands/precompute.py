"""Audio to tokens, once: the frozen tokenizers of a bundle over a whole corpus.

  musiclm precompute --bundle DIR --corpus DIR --cache DIR
  musiclm precompute --codec hf:DIR --semantic hf:DIR:layer=7 --joint hf:DIR ...

Writes what `tokens/cache.py` describes. Tracks are cut to whole seconds, so
that the grids of codec, semantic tokens and MuLan windows coincide; the rest of
the last second is dropped, and with it tracks under one second.

The work is divided into shards, each written under a temporary name and moved
into place when complete: a run that was stopped goes on with the next shard.

Within a shard, tracks of like length are encoded together. For the codec, which
is causal, and for MuLan's windows they are zero-padded to a multiple of
`_BUCKET_SECONDS`, so that few shapes are compiled; what is cut off afterwards
cannot have changed the rest. w2v-BERT sees its whole window, so it gets tracks
of exactly one length at a time.
"""

import hashlib
import json
import pathlib
import sys
import time

import numpy as np

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers import loading
from musiclm_jax.tokenizers.adapters import registry
from musiclm_jax.tokens import cache as cache_lib

_BUCKET_SECONDS = 5  # ours: at most this much padding for a track
_BATCH_SECONDS = 320  # ours: audio encoded at once, padding included
_SHARD_SECONDS = 1200  # ours: audio in one shard, and at most lost by a kill
_REPORT_SECONDS = 5.0
# All that is written into the folder of the streams.
_STREAM_FILES = (cache_lib.COMPLETED, '*.tfrecord-?????-of-?????',
                 'index.*.npz', '.index.*.npz', 'info.*.json', 'stats.*.json')


def precompute(bundle_dir, corpus_dir, cache_dir, progress=None, replace=False,
               adapters=None):
  """Tokenises every split of a corpus into a token cache.

  Args:
    bundle_dir: a bundle with codec, w2vbert and mulan.
    corpus_dir: a corpus as `records.Writer` leaves it.
    cache_dir: where the cache goes; a finished one of the same bundle and corpus
      is left as it is, a half-finished one is continued.
    progress: a function of one line of text, called every few seconds.
    replace: whether a cache of other parts in cache_dir is removed.
    adapters: {kind: options} of `adapters.registry.parse`: models in place of
      the bundle's.

  Returns:
    The finished `cache.Cache`.

  Raises:
    UserError: a part is missing, or cache_dir holds another cache.
  """
  corpus = records.Corpus(corpus_dir)
  _refuse_file(cache_dir)
  with files.claimed(cache_dir, 'the token cache'):
    adapted = () if not adapters else (registry.adapt(
        adapters, corpus, _corpus_hash(corpus), cache_dir, progress, replace),)
    return tokenize(loading.Tokenizers.load(bundle_dir, *adapted), corpus,
                    cache_dir, progress, replace)


def tokenize(tokenizers, corpus, cache_dir, progress=None, replace=False,
             shard_seconds=_SHARD_SECONDS):
  """`precompute` with its parts loaded."""
  _refuse_file(cache_dir)
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
  plan = {name: _shards(corpus.split(name), shard_seconds)
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


def _refuse_file(cache_dir):
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
      corpus=dict(name=corpus.name, sha256=_corpus_hash(corpus)),
      shard_seconds=shard_seconds)
  canonical = json.dumps(about, sort_keys=True).encode()
  return dict(about, fingerprint=hashlib.sha256(canonical).hexdigest()[:16],
              splits={})


def _corpus_hash(corpus):
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


def _shards(split, shard_seconds):
  """Lists of (track, whole seconds), each of about `shard_seconds`."""
  shards, total = [], 0
  for track in split:
    seconds = track.num_samples // split.sample_rate_hz
    if not seconds:
      continue
    if not shards or total + seconds > shard_seconds:
      shards.append([])
      total = 0
    shards[-1].append((track, seconds))
    total += seconds
  return shards


def _batches(shard):
  """(padded seconds, rows, [numbers within the shard]) of like-long tracks.

  `rows` is a power of two at or above the number of tracks.
  """
  buckets = {}
  for number, (_, seconds) in enumerate(shard):
    padded = -(-seconds // _BUCKET_SECONDS) * _BUCKET_SECONDS
    buckets.setdefault(padded, []).append(number)
  for padded, numbers in sorted(buckets.items()):
    most = 1 << max(0, (_BATCH_SECONDS // padded).bit_length() - 1)
    for first in range(0, len(numbers), most):
      chosen = numbers[first:first + most]
      yield padded, 1 << (len(chosen) - 1).bit_length(), chosen


def _encode_shard(tokenizers, split, shard, meter):
  """[(acoustic [T, Q], semantic [T'], mulan [W, D])] in the shard's order."""
  rate = split.sample_rate_hz
  streams = [None] * len(shard)
  for padded, rows, numbers in _batches(shard):
    audio = np.zeros((rows, padded * rate), np.float32)
    for row, number in enumerate(numbers):
      track, seconds = shard[number]
      audio[row, :seconds * rate] = split.read(track, 0, seconds * rate)
    lengths = [shard[number][1] for number in numbers]
    encoded = tokenizers.encode(audio, lengths)
    for number, length, found in zip(numbers, lengths, encoded):
      streams[number] = _check(tokenizers.tokens, length, found)
    meter.add(sum(lengths))
  return streams


def _check(tokens, seconds, streams):
  """The streams, once their shapes and ranges are what the spec says."""
  codec, semantic, joint = tokens.codec, tokens.semantic, tokens.joint
  expected = ((seconds * codec.frame_rate_hz, codec.num_codebooks),
              (seconds * semantic.frame_rate_hz,),
              (joint.num_windows(seconds), joint.embedding_dim))
  melody = tokens.melody
  if len(streams) > len(expected):
    # One window a second; a track shorter than a window has one, padded.
    expected += ((max(1, seconds - melody.window_seconds + 1),
                  melody.num_codebooks),)
  found = tuple(s.shape for s in streams)
  if found != expected:
    raise ValueError(
        f'the tokenizers gave shapes {found} for {seconds} s; expected '
        f'{expected}.')
  sizes = (codec.codebook_size, semantic.codebook_size, melody.codebook_size)
  for codes, size in zip(streams[:2] + streams[3:], sizes):
    if codes.min() < 0 or codes.max() >= size:
      raise ValueError(
          f'codes span {codes.min()}..{codes.max()}; expected 0..{size - 1}.')
  if not np.all(np.isfinite(streams[2])):
    raise ValueError('MuLan embeddings hold NaN or infinite values.')
  return streams


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
  offsets, lengths, position = [], [], 0
  encoded = _encode_shard(tokenizers, split, shard, meter)
  texts = _embed_captions(tokenizers, shard)
  files.sweep(path)  # this cache is ours alone
  with files.whole(path) as temporary:
    with tf.io.TFRecordWriter(str(temporary)) as writer:
      for (track, seconds), streams in zip(shard, encoded):
        payload = _example(track, seconds, texts[track.id], *streams)
        writer.write(payload)
        offsets.append(position + cache_lib.RECORD_HEADER_BYTES)
        lengths.append(len(payload))
        position = (offsets[-1] + lengths[-1] + cache_lib.RECORD_FOOTER_BYTES)
    index = cache_lib.Index(
        shard=np.full(len(shard), number, np.int32),
        offset=np.array(offsets, np.int64), length=np.array(lengths, np.int64),
        seconds=np.array([seconds for _, seconds in shard], np.int32))
    index.save(index_path)
  return index


def _example(track, seconds, text, acoustic, semantic, mulan, melody=None):
  """One serialised tf.train.Example, as `cache.features` describes it."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  ints = lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v))
  texts = lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(
      value=[t.encode('utf-8') for t in v]))
  floats = lambda v: tf.train.Feature(
      float_list=tf.train.FloatList(value=v.reshape(-1).tolist()))
  rest = {} if melody is None else {
      'melody': ints(melody.reshape(-1).tolist())}
  return tf.train.Example(features=tf.train.Features(feature={
      'id': texts([track.id]),
      'seconds': ints([seconds]),
      'captions': texts(track.captions),
      'acoustic': ints(acoustic.reshape(-1).tolist()),
      'semantic': ints(semantic.reshape(-1).tolist()),
      'mulan': floats(mulan), 'mulan_text': floats(text), **rest,
  })).SerializeToString(deterministic=True)


def _embed_captions(tokenizers, shard):
  """{track id: [C, D] embeddings of its captions} of a shard, in one go."""
  captions = sorted({c for track, _ in shard for c in track.captions})
  width = tokenizers.tokens.joint.embedding_dim
  found = dict(zip(captions, np.asarray(
      tokenizers.joint.embed_text(captions), np.float32))) if captions else {}
  return {track.id: np.reshape([found[c] for c in track.captions], (-1, width))
          for track, _ in shard}


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


def add_arguments(parser):
  """The options of `musiclm precompute`."""
  parser.add_argument('--bundle', metavar='DIR', help=(
      'holds codec, w2vbert and mulan; not needed where all three are '
      'replaced'))
  registry.add_arguments(parser)
  parser.add_argument('--corpus', required=True, metavar='DIR')
  parser.add_argument('--cache', required=True, metavar='DIR',
                      help='where the tokens go; a stopped run is continued')
  parser.add_argument('--replace', action='store_true',
                      help='replace a cache of another bundle or corpus')
  parser.add_argument('--json', metavar='FILE', help='write the figures there')


def run(args):
  """Tokenises a corpus and says what the cache holds."""
  start = time.monotonic()
  say = lambda line: print(line, file=sys.stderr, flush=True)
  adapters = registry.parse(args)
  if not args.bundle and len(adapters) < len(registry.COMPONENTS):
    missing = sorted(set(registry.COMPONENTS) - set(adapters))
    raise errors.UserError(
        f'no --bundle; give one, or --{" and --".join(missing)} as well.')
  if args.json:
    errors.check_output(args.json, what='--json')
  files.check_folder(args.cache, '--cache')
  precompute(args.bundle, args.corpus, args.cache, say, args.replace, adapters)
  described = cache_lib.describe(args.cache)
  for split in described['splits']:
    left_out = described[f'{split}_left_out']
    print(f'{split}: {described[f"{split}_tracks"]} tracks, '
          f'{described[f"{split}_seconds"]} s'
          + (f'; {left_out} under a second left out' if left_out else ''))
  if args.json:
    from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
    figures.write(args.json, dict(
        {k: v for k, v in described.items() if isinstance(v, int)},
        wall_seconds=time.monotonic() - start))


if __name__ == '__main__':
  from musiclm_jax.commands import cli
  cli.main(['precompute'] + sys.argv[1:])
