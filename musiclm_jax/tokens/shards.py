"""What `musiclm precompute` does to one shard of a corpus, as pure functions.

  split ──plan──> shards ──encode──> streams ──serialise──> payloads ──> Index

A shard is a list of (track, whole seconds). Nothing here opens a file but to
read audio, and what comes out depends on the arguments alone, so a loop on one
machine (precompute.py) and workers on many can do the shards in any order and
get the same bytes.

Tracks of like length are encoded together. For the codec, which is causal, and
for MuLan's windows they are zero-padded to a multiple of `_BUCKET_SECONDS`, so
that few shapes are compiled; what is cut off afterwards cannot have changed the
rest. w2v-BERT sees its whole window, so it gets tracks of exactly one length at
a time (tokenizers/loading.py).
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib

_BUCKET_SECONDS = 5  # ours: at most this much padding for a track
_BATCH_SECONDS = 320  # ours: audio encoded at once, padding included

Shard = list[tuple[records.Track, int]]
# (acoustic [T, Q], semantic [T'], mulan [W, D]) and, with a melody embedder,
# melody [W', Q'].
Streams = tuple[np.ndarray, ...]


def plan(split: records.Split, shard_seconds: int) -> list[Shard]:
  """Shards of about `shard_seconds`; tracks under a second are in none."""
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


def batches(shard: Shard) -> Iterator[tuple[int, int, list[int]]]:
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


def encode(
    tokenizers: Any, split: records.Split, shard: Shard,
    done: Callable[[int], None] = lambda seconds: None) -> list[Streams]:
  """The streams of a shard's tracks, in its order.

  Args:
    tokenizers: a `tokenizers.loading.Tokenizers`.
    split: reads the tracks' audio.
    shard: of `plan`.
    done: is told the seconds of audio of each batch.

  Raises:
    ValueError: the tokenizers gave other shapes or codes than their specs say.
  """
  rate = split.sample_rate_hz
  streams = [()] * len(shard)
  for padded, rows, numbers in batches(shard):
    audio = np.zeros((rows, padded * rate), np.float32)
    for row, number in enumerate(numbers):
      track, seconds = shard[number]
      audio[row, :seconds * rate] = split.read(track, 0, seconds * rate)
    lengths = [shard[number][1] for number in numbers]
    encoded = tokenizers.encode(audio, lengths)
    for number, length, found in zip(numbers, lengths, encoded):
      streams[number] = check(tokenizers.tokens, length, found)
    done(sum(lengths))
  return streams


def check(
    tokens: specs.TokenSpec, seconds: int, streams: Streams) -> Streams:
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


def example(
    track: records.Track, seconds: int, text: np.ndarray, acoustic: np.ndarray,
    semantic: np.ndarray, mulan: np.ndarray,
    melody: np.ndarray | None = None) -> bytes:
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


def embed_captions(tokenizers: Any, shard: Shard) -> dict[str, np.ndarray]:
  """{track id: [C, D] embeddings of its captions} of a shard, in one go."""
  captions = sorted({c for track, _ in shard for c in track.captions})
  width = tokenizers.tokens.joint.embedding_dim
  found = dict(zip(captions, np.asarray(
      tokenizers.joint.embed_text(captions), np.float32))) if captions else {}
  return {track.id: np.reshape([found[c] for c in track.captions], (-1, width))
          for track, _ in shard}


def serialise(
    tokenizers: Any, split: records.Split, shard: Shard,
    done: Callable[[int], None] = lambda seconds: None) -> list[bytes]:
  """The records of a shard: one serialised tf.train.Example a track.

  Args and errors are those of `encode`.
  """
  encoded = encode(tokenizers, split, shard, done)
  texts = embed_captions(tokenizers, shard)
  return [example(track, seconds, texts[track.id], *streams)
          for (track, seconds), streams in zip(shard, encoded)]


def index(
    number: int, shard: Shard, payloads: Sequence[bytes]) -> cache_lib.Index:
  """Where the records of shard `number` stand once they are a TFRecord file."""
  lengths = np.array([len(payload) for payload in payloads], np.int64)
  whole = (cache_lib.RECORD_HEADER_BYTES + lengths +
           cache_lib.RECORD_FOOTER_BYTES)
  return cache_lib.Index(
      shard=np.full(len(shard), number, np.int32),
      offset=np.cumsum(whole) - whole + cache_lib.RECORD_HEADER_BYTES,
      length=lengths,
      seconds=np.array([seconds for _, seconds in shard], np.int32))
