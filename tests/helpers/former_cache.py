"""A token cache as former versions wrote it, made of one of today's."""

import json
import shutil

import numpy as np
import tensorflow as tf

from musiclm_jax import tfrecords
from musiclm_jax.tokens import cache as cache_lib

V2, V3 = 'musiclm_jax.tokens.v2', 'musiclm_jax.tokens.v3'


def write(cache_dir, out, version):
  """Copies the cache at `cache_dir` to `out`, in the format `version`."""
  shutil.copytree(cache_dir, out)
  cache = cache_lib.Cache(cache_dir)
  for split in cache.splits:
    stored, index = cache.records(split), cache.index(split)
    offsets, lengths = np.array(index.offset), np.array(index.length)
    for number, path in enumerate(stored.paths):
      end = 0
      with tf.io.TFRecordWriter(str(out / path.relative_to(cache_dir))) as writer:
        for track in np.flatnonzero(index.shard == number):
          payload = _of(stored.read(track), version)
          writer.write(payload)
          offsets[track] = end + tfrecords.HEAD_BYTES
          lengths[track] = len(payload)
          end = offsets[track] + len(payload) + tfrecords.FOOT_BYTES
    cache_lib.Index(index.shard, offsets, lengths, index.seconds).save(
        out / cache_lib.STREAMS_TASK / f'index.{split}.npz')
  path = out / cache_lib.FINGERPRINT
  path.write_text(json.dumps(dict(
      json.loads(path.read_text()), format=version)))
  return out


def _of(payload, version):
  """A record with lists of float32, and none of captions in v2."""
  made = tf.train.Example.FromString(payload)
  for name in ('mulan', 'mulan_text'):
    halves = np.frombuffer(
        made.features.feature[name].bytes_list.value[0], '<f2')
    made.features.feature[name].float_list.value.extend(halves.tolist())
  if version == V2:
    del made.features.feature['mulan_text']
  return made.SerializeToString(deterministic=True)
