"""The crops of a split in a random order, for whoever reads through seqio.

seqio reads a cache track by track and then shuffles 1,000 sequences. A track of
five minutes is a hundred crops of the fine stage, so a batch would hold few
tracks. Here the order is drawn before anything is read, as `crops.Order` does:

  epoch, place -> crop = a permutation of the epoch, at the place
               -> its track -> the bytes of the track's record

All of it is TensorFlow's own operations, no Python, so that the place in the
data can be saved in a checkpoint and a host reads its own share alone.
"""

import numpy as np
import tensorflow as tf

from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import crops


def records(
    cache: cache_lib.Cache, split: str, crop_seconds: int, seed: int,
    num_epochs: int | None = 1,
    shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
  """A tf.data.Dataset of (serialised record, [2] int32 seed of the crop).

  Args:
    cache: a `cache.Cache`.
    split: the split to read.
    crop_seconds: seconds of one crop.
    seed: int; with the epoch it decides the order and the crops.
    num_epochs: how often every crop comes; None for no end.
    shard: (which share of the places of an epoch, of how many).
  """
  index = cache.index(split)
  paths = cache.records(split).paths
  sizes = np.array([path.stat().st_size for path in paths], np.int64)
  stops = index.offset + index.length
  counts = crops.crop_counts(index.seconds, crop_seconds)
  total = int(counts.sum())
  ends = tf.constant(np.cumsum(counts), tf.int64)
  names = tf.constant([str(path) for path in paths])
  # What stands before, in and after a record makes up its file.
  places = [tf.constant(values, tf.int64) for values in (
      index.shard, index.offset, index.length, sizes[index.shard] - stops)]
  seed = int(seed) % 2**31

  def epoch_of(epoch):
    epoch_seed = tf.random.stateless_uniform(
        [], [seed, epoch], maxval=2**31 - 1, dtype=tf.int32)
    key = tf.stack([tf.constant(seed, tf.int32), epoch_seed])

    def crop_at(place):
      crop = tf.random.experimental.index_shuffle(
          place, key, tf.constant(total - 1, tf.int64))
      return crop, tf.stack([epoch_seed, tf.cast(crop, tf.int32)])

    return tf.data.Dataset.range(shard[0], total, shard[1]).map(crop_at)

  def read(crop, crop_seed):
    track = tf.searchsorted(ends, crop[None], side='right')[0]
    number, offset, length, rest = (values[track] for values in places)
    record = tf.data.FixedLengthRecordDataset(
        names[number], length, header_bytes=offset, footer_bytes=rest)
    return record.map(lambda serialised: (serialised, crop_seed))

  epochs = tf.data.Dataset.range(
      tf.int64.max if num_epochs is None else num_epochs)
  return epochs.flat_map(epoch_of).interleave(
      read, cycle_length=8, num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True)
