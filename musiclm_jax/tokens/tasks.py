"""The seqio tasks of a token cache: musiclm_semantic, _coarse and _fine.

  tasks.register('/data/cache')
  seqio.get_dataset('musiclm_coarse', {'inputs': 264, 'targets': 2000},
                    feature_converter.StageFeatureConverter(), use_cached=True)

All three read the same cached code streams. A task without its cache refuses to
run: nothing is ever tokenised on the fly. Shuffled, the crops of all tracks come
mixed (tokens/shuffled.py). Sizes count crops, so that a mixture of tasks draws
from each by the music in it.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import os
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import conditioning as conditioning_lib
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import mixture
from musiclm_jax.tokens import preprocessors
from musiclm_jax.tokens import shuffled
from musiclm_jax.tokens import task_metrics
from musiclm_jax.tokens import vocabularies

# The accelerator belongs to JAX.
tf.config.set_visible_devices([], 'GPU')


class CachedTask(seqio.Task):
  """A stage's task over a `cache.Cache`, as seqio reads it."""

  def __init__(self, name: str, cache: cache_lib.Cache,
               stage: specs.StageSpec, **kwargs: Any):
    super().__init__(name, **kwargs)
    self._cache = cache
    self._stage = stage

  @property
  def cache_dir(self) -> str:
    return str(self._cache.streams_dir)

  def get_cached_stats(self, split: str = 'train') -> dict:
    """seqio's statistics of a split; its examples are crops."""
    counts = crops.crop_counts(
        self._cache.index(split).seconds, self._stage.crop_seconds)
    return dict(super().get_cached_stats(split), examples=int(counts.sum()))

  def get_dataset(self, sequence_length=None, split='train', use_cached=False,
                  shuffle=True, shuffle_buffer_size=None, seed=None,
                  shard_info=None, num_epochs=1, trim_output_features=True,
                  try_in_mem_cache=True) -> tf.data.Dataset:
    """As seqio's; shuffled, the crops of all tracks come mixed.

    Raises:
      UserError: `sequence_length` is not the stage's. Cut or padded, a position
        would no longer say which segment and level it is of.
    """
    self._check_lengths(sequence_length)
    if not (shuffle and use_cached):
      return super().get_dataset(
          sequence_length, split, use_cached, shuffle, shuffle_buffer_size,
          seed, shard_info, num_epochs, trim_output_features, try_in_mem_cache)
    if seed is None:
      seed = np.random.default_rng().integers(1 << 31)
    shard = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
    dataset = shuffled.records(self._cache, split, self._stage.crop_seconds,
                               seed, num_epochs, shard)
    dataset = dataset.map(self._load, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = self.preprocess_postcache(dataset, sequence_length)
    return self._validate_preprocessing(dataset).prefetch(tf.data.AUTOTUNE)

  def _load(self, serialised, crop_seed):
    example = parse(serialised, self._cache.described())
    return dict(example, **{preprocessors.CROP_SEED: crop_seed})

  def _check_lengths(self, given):
    own = crops.feature_lengths(self._stage)
    wrong = {name: length for name, length in (given or {}).items()
             if name in own and length != own[name]}
    if wrong:
      raise errors.UserError(
          f'{self.name} was asked for with lengths {dict(given)}; crops of '
          f'{self._stage.crop_seconds} s have {own}.')


def stage_task(
    cache: cache_lib.Cache, stage: specs.StageSpec,
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning()),
    describe: bool = False, name: str = '') -> CachedTask:
  """The task of a StageSpec over a `cache.Cache`; UserError if they differ.

  `conditioning` and `describe` are as in `preprocessors.build_sequences`;
  `name` stands in for 'musiclm_<stage>'.
  """
  cache.check(stage)
  return CachedTask(
      name or cache_lib.task_name(stage), cache, stage,
      source=seqio.FunctionDataSource(
          _refuse, splits=cache.splits, num_input_examples={
              split: len(cache.index(split)) for split in cache.splits}),
      preprocessors=[
          seqio.CacheDatasetPlaceholder(required=True),
          functools.partial(preprocessors.crops_by_length,
                            crop_seconds=stage.crop_seconds),
          functools.partial(preprocessors.build_sequences, stage=stage,
                            codebooks=cache.codebooks,
                            conditioning=conditioning,
                            describe=describe),
      ],
      metric_fns=[task_metrics.nats_per_token, task_metrics.agreement],
      output_features=vocabularies.stage_features(stage))


def provider(
    cache: cache_lib.Cache | mixture.Mixture, stage: specs.StageSpec,
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning()),
    describe: bool = False) -> CachedTask | seqio.Mixture:
  """The task of a cache, or the seqio mixture of the tasks of several.

  The tasks of a mixture have numbers: 'musiclm_coarse_0'. Arguments are those
  of `stage_task`.
  """
  if isinstance(cache, cache_lib.Cache):
    return stage_task(cache, stage, conditioning, describe)
  pairs = []
  for number, part in enumerate(cache.caches):
    name = f'{cache_lib.task_name(stage)}_{number}'
    rate = cache.rates[number] if cache.rates else seqio.mixing_rate_num_examples
    pairs.append((stage_task(part, stage, conditioning, describe, name), rate))
  return seqio.Mixture(cache_lib.task_name(stage), pairs)


def register(
    cache_dir: str | os.PathLike, stages: Sequence[specs.StageSpec] | None = None,
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning()),
    rates: Sequence[float] = ()) -> list[str]:
  """Registers the tasks of a cache with seqio, in place of earlier ones.

  Of several caches, with commas between them, a mixture has the task's name.

  Their examples say which crop they are of; feature converters pass over that.

  Args:
    cache_dir: what `musiclm_jax.commands.precompute` wrote.
    stages: StageSpecs; None for all that are registered, with the crops and
      conditions of their systems, over the cache's grids.
    conditioning: as in `preprocessors.build_sequences`.
    rates: of several caches, as in `mixture.load`.

  Returns:
    The tasks' names.
  """
  cache = mixture.load(cache_dir, rates)
  if stages is None:
    stages = [specs.StageSpec(name, cache.tokens)
              for name in specs.known_stages()]
  names = []
  for stage in stages:
    made = provider(cache, stage, conditioning, describe=True)
    seqio.TaskRegistry.remove(made.name)
    seqio.MixtureRegistry.remove(made.name)
    registry = (seqio.TaskRegistry if isinstance(made, seqio.Task) else
                seqio.MixtureRegistry)
    registry.add_provider(made.name, made)
    names.append(made.name)
  return names


def ordered_dataset(
    cache: cache_lib.Cache, stage: specs.StageSpec, split: str, order: Any,
    start: int, count: int | None = None,
    conditioning: conditioning_lib.Conditioning = (
        conditioning_lib.Conditioning())) -> tf.data.Dataset:
  """A task's examples in a given order, from any place in it, converted.

  The records, the preprocessors and the converter are the task's own; only the
  order is not seqio's, so that example `start` costs the same as example 0.

  Args:
    cache: a `cache.Cache`, or a `mixture.Mixture`.
    stage: a StageSpec.
    split: the split to read.
    order: `example(index) -> (track, [2] seed)`.
    start: the first index.
    count: how many examples; None for no end.
    conditioning: as in `preprocessors.build_sequences`.

  Returns:
    A tf.data.Dataset of model features.
  """
  task = stage_task(cache, stage, conditioning)
  records = cache.records(split)

  def read(index):
    track, seed = order.example(index)
    return records.read(track), seed

  def load(index):
    serialised, seed = tf.numpy_function(read, [index], (tf.string, tf.int32))
    example = parse(serialised, cache.described())
    example[preprocessors.CROP_SEED] = tf.ensure_shape(seed, [2])
    return example

  stop = start + count if count is not None else tf.int64.max
  dataset = tf.data.Dataset.range(start, stop).map(
      load, num_parallel_calls=tf.data.AUTOTUNE)
  lengths = crops.feature_lengths(stage)
  dataset = task.preprocess_postcache(dataset, lengths)
  return feature_converter.StageFeatureConverter()(dataset, lengths)


def parse(serialised: Any, described: Mapping[str, Mapping]) -> dict[
    str, tf.Tensor]:
  """A cached record's features, as seqio's own reader gives them.

  Args:
    serialised: the tf.train.Example.
    described: as of `cache.features`.
  """
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
