"""Batches of token sequences for the decoder stages: `TaskBatches`.

In a stage's gin leaf:

  from musiclm_jax import specs
  from musiclm_jax.tokens import source

  SOURCE = @source.TaskBatches()
  source.TaskBatches.cache_dir = %CACHE_DIR
  source.TaskBatches.stage = %STAGE            # a specs.StageSpec
  source.TaskBatches.task_name = %MIXTURE_OR_TASK_NAME
  source.TaskBatches.task_feature_lengths = %TASK_FEATURE_LENGTHS
  source.TaskBatches.batch_size = %BATCH_SIZE

  STAGE = @specs.StageSpec()
  specs.StageSpec.name = 'coarse'
  MIXTURE_OR_TASK_NAME = 'musiclm_coarse'
  TASK_FEATURE_LENGTHS = {'inputs': 264, 'targets': 2000}

`inputs` is the length of the conditions with their separators, `targets` that
of the target segment; together they are `layout.for_stage(stage).length`:

>>> from musiclm_jax import specs
>>> for name in ('semantic', 'coarse', 'fine'):
...   print(name, crops.feature_lengths(specs.StageSpec(name)))
semantic {'inputs': 13, 'targets': 750}
coarse {'inputs': 264, 'targets': 2000}
fine {'inputs': 601, 'targets': 1200}

A batch, with L = inputs + targets:

  decoder_input_tokens   [B, L] int32    targets shifted right; first id 0
  decoder_target_tokens  [B, L] int32    the sequence of `Layout.build`
  decoder_loss_weights   [B, L] float32  1 on the target segment where the track
                                         goes on, 0 on conditions and padding

Row b of the batch at `step` is example `step * batch_size + b` of an endless
order, a permutation of the crops in each epoch. Which crop it is depends on
(seed, epoch, index) alone and records are read by their place in the cached
files, so resuming at any step takes the same time as starting.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import conditioning as conditioning_lib
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import frequencies
from musiclm_jax.tokens import layout as layout_lib
from musiclm_jax.tokens import mixture
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

# Set apart from any training seed, so that evaluation crops never move with it.
_EVAL_SEED = 20_302


@dataclasses.dataclass(frozen=True)
class TaskBatches(trainable.BatchSource):
  """A stage's training and evaluation batches out of a token cache.

  Attributes:
    cache_dir: what `musiclm_jax.commands.precompute` wrote; several with commas
      between them are one mixture.
    stage: the stage whose sequences to build, with its crop and conditions.
    batch_size: sequences in a batch, of all devices together.
    task_name: the seqio task, 'musiclm_<stage>'; '' stands for the stage's own.
    task_feature_lengths: {'inputs': ..., 'targets': ...}; must be the stage's
      own lengths, for which None stands.
    seed: with the step it decides the training batch.
    train_split: split of the training sequences.
    eval_split: split of the evaluation sequences; the training split stands in
      where the cache has none by this name.
    eval_batches_count: evaluation batches; the same ones each time.
    conditioning: what training does to the conditions; evaluation sees them as
      they are.
    cache_rates: of several caches, how often each is drawn from in training; ()
      counts crops, and so does evaluation.
  """

  cache_dir: str = ''
  stage: specs.StageSpec = specs.StageSpec()
  batch_size: int = 8
  task_name: str = ''
  task_feature_lengths: Mapping[str, int] | None = None
  seed: int = 0
  train_split: str = 'train'
  eval_split: str = 'validation'
  eval_batches_count: int = 4
  conditioning: conditioning_lib.Conditioning = (
      conditioning_lib.Conditioning())
  cache_rates: Sequence[float] = ()

  @functools.cached_property
  def cache(self) -> cache_lib.Cache | mixture.Mixture:
    """The checked cache, or several; UserError where it does not fit the stage."""
    self._check_task()
    cache = mixture.load(self.cache_dir, self.cache_rates)
    cache.check(self.stage)
    self.conditioning.check(self.stage, cache.has_text)
    return cache

  @property
  def origin(self) -> dict:
    """What a stage's export says of its data: corpus and cache."""
    return dict(corpus=self.cache.about['corpus']['name'],
                cache=self.cache.fingerprint,
                conditioning=dict(
                    dataclasses.asdict(self.conditioning),
                    dropout=dict(self.conditioning.dropout)))

  def batches(self, start_step, share=shares.WHOLE):
    """Endless batches, the first one that of `start_step`."""
    order = self.cache.order(
        self.train_split, self.stage.crop_seconds, self.seed)
    yield from self._dataset(
        self.train_split, order, start_step, share=share,
        conditioning=self.conditioning)

  @property
  def held_out(self) -> str:
    """The split of the evaluation; the training split where there is none."""
    known = self.eval_split in self.cache.splits
    return self.eval_split if known else self.train_split

  def eval_batches(self, share=shares.WHOLE):
    """The fixed evaluation batches, `eval_batches_count` of them."""
    order = crops.Order(self.cache.index(self.held_out).seconds,
                        self.stage.crop_seconds, _EVAL_SEED)
    yield from self._dataset(
        self.held_out, order, 0, self.eval_batches_count, share)

  def baselines(self) -> dict[str, float]:
    """What a stage's evaluation losses have to beat, in nats per token.

    Returns:
      {'unigram_entropy': of the evaluation's targets, the mean over its tokens,
      'unigram_entropy/level_<n>': where a frame has several levels, n counted
      from 1}.
    """
    target = layout_lib.for_stage(self.stage).target
    counts = sum(frequencies.level_counts(
        target.to_codes(batch['decoder_target_tokens'][:, target.start:]),
        target.codebook_size) for batch in self.eval_batches())
    nats = frequencies.entropy_of_counts(counts)
    mean = np.average(nats, weights=counts.sum(axis=-1))
    values = {'unigram_entropy': float(mean)}
    if target.num_codebooks > 1:
      values.update({f'unigram_entropy/level_{target.first_level + i + 1}':
                     float(x) for i, x in enumerate(nats)})
    return values

  def batch_shapes(self):
    """The batch as ShapeDtypeStructs, without looking at the cache."""
    shape = (self.batch_size, layout_lib.for_stage(self.stage).length)
    make = lambda dtype: jax.ShapeDtypeStruct(shape, dtype)
    return dict(decoder_input_tokens=make(np.int32),
                decoder_target_tokens=make(np.int32),
                decoder_loss_weights=make(np.float32))

  def _dataset(self, split, order, start_step, steps: int | None = None,
               share=shares.WHOLE,
               conditioning=conditioning_lib.Conditioning()) -> Any:
    from musiclm_jax.tokens import tasks  # pylint: disable=g-import-not-at-top
    rows = share.rows(self.batch_size)
    first = start_step * len(rows)
    dataset = tasks.ordered_dataset(
        self.cache, self.stage, split,
        crops.OwnRows(order, self.batch_size, rows), first,
        None if steps is None else steps * len(rows), conditioning)
    dataset = dataset.batch(len(rows), drop_remainder=True)
    return dataset.prefetch(2).as_numpy_iterator()

  def _check_task(self):
    """Refuses a task or lengths other than the stage's."""
    own_name = cache_lib.task_name(self.stage)
    if self.task_name not in ('', own_name):
      raise errors.UserError(
          f'MIXTURE_OR_TASK_NAME is {self.task_name!r}, but the stage is '
          f'{self.stage.name!r}; expected {own_name!r}.')
    lengths = crops.feature_lengths(self.stage)
    given = self.task_feature_lengths
    if given is not None and dict(given) != lengths:
      raise errors.UserError(
          f'TASK_FEATURE_LENGTHS is {dict(given)}; a {self.stage.name} stage '
          f'with crops of {self.stage.crop_seconds} s needs {lengths}.')
