"""What `musiclm precompute` does to one shard of a corpus, as pure functions.

  split ──plan──> shards ──encode──> streams ──serialise──> payloads ──> Index

A shard is a list of (track, whole seconds). Nothing here opens a file but to
read audio, and what comes out depends on the arguments alone, so a loop on one
machine and workers on many (pieces.py) can do the shards in any order and get
the same bytes.

Tracks of like length are encoded together. For the codec, which is causal, and
for MuLan's windows they are zero-padded to a multiple of `_BUCKET_SECONDS`, so
that few shapes are compiled; what is cut off afterwards cannot have changed the
rest. w2v-BERT sees its whole window, so it gets tracks of exactly one length at
a time (tokenizers/loading.py). Tracks longer than `LONG_SECONDS` are encoded
alone, stretch by stretch (tokenizers/stretches.py).

A track that cannot be read, or whose codes are not what the specs say, costs
itself: a `LeftOut` stands in its place.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import record_shards
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax import tfrecords
from musiclm_jax.tokens import cache as cache_lib

_BUCKET_SECONDS = 5  # ours: at most this much padding for a track
_BATCH_SECONDS = 320  # ours: audio encoded at once, padding included
LONG_SECONDS = 600  # ours: the longest track that is encoded in one go
_VALUES_AT_ONCE = 1 << 16  # numbers that are Python objects at one time

Shard = list[tuple[records.Track, int]]
# (acoustic [T, Q], semantic [T'], mulan [W, D]) and, with a melody embedder,
# melody [W', Q'].
Streams = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """A track that is in no cache, and why."""

  id: str
  reason: str


def padded(seconds: int) -> int:
  """Seconds that a track has in a batch.

  >>> padded(5), padded(6)
  (5, 10)
  """
  return -(-seconds // _BUCKET_SECONDS) * _BUCKET_SECONDS


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
    buckets.setdefault(padded(seconds), []).append(number)
  for length, numbers in sorted(buckets.items()):
    most = 1 << max(0, (_BATCH_SECONDS // length).bit_length() - 1)
    for first in range(0, len(numbers), most):
      chosen = numbers[first:first + most]
      yield length, 1 << (len(chosen) - 1).bit_length(), chosen


def encode(
    tokenizers: Any, split: records.Split, shard: Shard,
    done: Callable[[float], None] = lambda seconds: None
) -> list[Streams | LeftOut]:
  """The streams of a shard's tracks, in its order.

  Args:
    tokenizers: a `tokenizers.loading.Tokenizers`.
    split: reads the tracks' audio.
    shard: of `plan`.
    done: is told the seconds of audio of each batch, and of each stretch of a
      long track.
  """
  found = [None] * len(shard)
  for length, rows, numbers in batches(shard):
    tracks = [shard[number] for number in numbers]
    if length > LONG_SECONDS:
      made = [_alone(tokenizers, split, *track, done) for track in tracks]
    else:
      made = _together(tokenizers, split, tracks, rows, length)
      done(sum(seconds for _, seconds in tracks))
    for number, streams in zip(numbers, made):
      found[number] = streams
  return found


def _together(tokenizers, split, tracks, rows, length):
  """`encode` of tracks that are padded to one length."""
  rate = split.sample_rate_hz
  audio = np.zeros((rows, length * rate), np.float32)
  found = {}
  for row, (track, seconds) in enumerate(tracks):
    try:
      audio[row, :seconds * rate] = split.read(track, 0, seconds * rate)
      check_samples(split, track)
    except ValueError as error:
      # Its row stays what it was: a batch of other rows has other shapes.
      audio[row] = 0
      found[row] = LeftOut(track.id, str(error))
  if len(found) == len(tracks):
    return [found[row] for row in range(len(tracks))]
  lengths = [seconds for _, seconds in tracks]
  for row, streams in enumerate(tokenizers.encode(audio, lengths)):
    if row not in found:
      found[row] = _checked(tokenizers, *tracks[row], streams)
  return [found[row] for row in range(len(tracks))]


def _alone(tokenizers, split, track, seconds, done):
  """`encode` of a long track."""
  before = 0.0

  def reached(now):
    nonlocal before
    if now > before:  # a stretch may begin some way before the last one's end
      done(now - before)
      before = now

  try:
    check_samples(split, track)
    streams = tokenizers.encode_long(
        lambda start, count: split.read(track, start, count), seconds, reached)
  except ValueError as error:
    return LeftOut(track.id, str(error))
  finally:
    reached(seconds)
  return _checked(tokenizers, track, seconds, streams)


def _checked(tokenizers, track, seconds, streams):
  try:
    return check(tokenizers.tokens, seconds, streams)
  except ValueError as error:
    return LeftOut(track.id, str(error))


def check_samples(split: records.Split, track: records.Track) -> None:
  """ValueError unless samples are those that the corpus has a checksum of."""
  expected = track.meta.get('checksum')
  if not expected:
    return
  if record_shards.checksum(split.pcm(track)) != expected:
    raise ValueError('its samples have another checksum than the corpus says.')


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
  made = tf.train.Example()
  feature = made.features.feature
  for name, texts in (('id', [track.id]), ('captions', track.captions)):
    feature[name].bytes_list.value.extend(t.encode('utf-8') for t in texts)
  # An empty list is one of its kind, and not a feature that is missing.
  feature['captions'].bytes_list.SetInParent()
  ints = dict(seconds=np.array([seconds]), acoustic=acoustic, semantic=semantic)
  if melody is not None:
    ints['melody'] = melody
  for name, values in ints.items():
    _extend(feature[name].int64_list, values)
  for name, values in dict(mulan=mulan, mulan_text=text).items():
    feature[name].bytes_list.value.append(values.astype('<f2').tobytes())
  return made.SerializeToString(deterministic=True)


def _extend(listed, values):
  """Adds an array, part by part: a track of hours has millions of numbers."""
  listed.SetInParent()
  flat = values.reshape(-1)
  for start in range(0, len(flat), _VALUES_AT_ONCE):
    listed.value.extend(flat[start:start + _VALUES_AT_ONCE].tolist())


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
    done: Callable[[float], None] = lambda seconds: None
) -> list[bytes | LeftOut]:
  """The records of a shard: one serialised tf.train.Example a track.

  Args are those of `encode`.
  """
  encoded = encode(tokenizers, split, shard, done)
  texts = embed_captions(tokenizers, shard)
  return [found if isinstance(found, LeftOut) else
          example(track, seconds, texts[track.id], *found)
          for (track, seconds), found in zip(shard, encoded)]


def index(number: int, seconds: Sequence[int], lengths: Sequence[int]
          ) -> cache_lib.Index:
  """Where the records of shard `number` stand in its TFRecord file.

  Args:
    number: of the shard.
    seconds: of each record's track.
    lengths: of each record, in bytes.
  """
  lengths = np.array(lengths, np.int64)
  whole = tfrecords.HEAD_BYTES + lengths + tfrecords.FOOT_BYTES
  return cache_lib.Index(
      shard=np.full(len(lengths), number, np.int32),
      offset=np.cumsum(whole) - whole + tfrecords.HEAD_BYTES,
      length=lengths, seconds=np.array(seconds, np.int32))
