"""The seqio tasks of a token cache: musiclm_semantic, _coarse and _fine.

  tasks.register('/data/cache')
  seqio.get_dataset('musiclm_coarse', {'inputs': 264, 'targets': 2000},
                    feature_converter.StageFeatureConverter(), use_cached=True)

All three read the same cached code streams. A task without its cache refuses to
run: nothing is ever tokenised on the fly.
"""

import functools

import seqio
import tensorflow as tf

from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import preprocessors
from musiclm_jax.tokens import source
from musiclm_jax.tokens import task_metrics
from musiclm_jax.tokens import vocabularies

# The accelerator belongs to JAX.
tf.config.set_visible_devices([], 'GPU')


class CachedTask(seqio.Task):
  """A seqio task whose cached files are in a given directory."""

  def __init__(self, name, streams_dir, **kwargs):
    super().__init__(name, **kwargs)
    self._streams_dir = str(streams_dir)

  @property
  def cache_dir(self):
    return self._streams_dir


def stage_task(cache, stage, melody_dropout=0.0):
  """The task of a StageSpec over a `cache.Cache`; UserError if they differ.

  `melody_dropout` is as in `preprocessors.build_sequences`.
  """
  cache.check(stage)
  return CachedTask(
      cache_lib.task_name(stage), cache.streams_dir,
      source=seqio.FunctionDataSource(_refuse, splits=cache.splits),
      preprocessors=[
          seqio.CacheDatasetPlaceholder(required=True),
          functools.partial(preprocessors.crops_by_length,
                            crop_seconds=stage.crop_seconds),
          functools.partial(preprocessors.build_sequences, stage=stage,
                            codebooks=cache.codebooks['mulan'],
                            melody_dropout=melody_dropout),
      ],
      metric_fns=[task_metrics.nats_per_token, task_metrics.agreement],
      output_features=vocabularies.stage_features(stage))


def register(cache_dir, stages=None, melody_dropout=0.0):
  """Registers the tasks of a cache with seqio, in place of earlier ones.

  Args:
    cache_dir: what `musiclm_jax.precompute` wrote.
    stages: StageSpecs; None for the paper's three, over the cache's grids.
    melody_dropout: as in `preprocessors.build_sequences`.

  Returns:
    The tasks' names.
  """
  cache = cache_lib.Cache(cache_dir)
  if stages is None:
    stages = [specs.StageSpec(name, cache.tokens)
              for name in specs.STAGE_CROP_SECONDS]
  names = []
  for stage in stages:
    task = stage_task(cache, stage, melody_dropout)
    seqio.TaskRegistry.remove(task.name)
    seqio.TaskRegistry.add_provider(task.name, task)
    names.append(task.name)
  return names


def ordered_dataset(cache, stage, split, order, start, count=None,
                    melody_dropout=0.0):
  """A task's examples in a given order, from any place in it, converted.

  The records, the preprocessors and the converter are the task's own; only the
  order is not seqio's, so that example `start` costs the same as example 0.

  Args:
    cache: a `cache.Cache`.
    stage: a StageSpec.
    split: the split to read.
    order: `example(index) -> (track, [2] seed)`.
    start: the first index.
    count: how many examples; None for no end.
    melody_dropout: as in `preprocessors.build_sequences`.

  Returns:
    A tf.data.Dataset of model features.
  """
  task = stage_task(cache, stage, melody_dropout)
  records = cache.records(split)

  def read(index):
    track, seed = order.example(index)
    return records.read(track), seed

  def load(index):
    serialised, seed = tf.numpy_function(read, [index], (tf.string, tf.int32))
    example = parse(serialised, cache.tokens, cache.has_melody)
    example[preprocessors.CROP_SEED] = tf.ensure_shape(seed, [2])
    return example

  stop = start + count if count is not None else tf.int64.max
  dataset = tf.data.Dataset.range(start, stop).map(
      load, num_parallel_calls=tf.data.AUTOTUNE)
  lengths = source.feature_lengths(stage)
  dataset = task.preprocess_postcache(dataset, lengths)
  return feature_converter.StageFeatureConverter()(dataset, lengths)


def parse(serialised, tokens, melody=False):
  """A cached record's features, as seqio's own reader gives them."""
  described = cache_lib.features(tokens, melody)
  stored = {}
  for name, feature in described.items():
    dtype = tf.int64 if feature['dtype'] == 'int32' else feature['dtype']
    if feature['shape']:
      stored[name] = tf.io.FixedLenSequenceFeature(
          feature['shape'][1:], dtype, allow_missing=True)
    else:
      stored[name] = tf.io.FixedLenFeature([], dtype)
  example = tf.io.parse_single_example(serialised, stored)
  return {name: tf.cast(value, described[name]['dtype'])
          for name, value in example.items()}


def _refuse(split, shuffle_files, seed=None):
  del shuffle_files, seed
  raise ValueError(
      f'the split {split!r} was asked for without its cache; set use_cached to '
      f'True. Audio is tokenised by `musiclm precompute` only.')
