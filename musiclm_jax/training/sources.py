"""Batches of audio crops for the models that train on waveforms."""

from collections.abc import Iterator
import dataclasses
import functools
import itertools

import jax
import numpy as np

from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

# Set apart from any training seed, so that evaluation crops never move with it.
_EVAL_SEED = 20_301


@dataclasses.dataclass(frozen=True)
class AudioBatches(trainable.BatchSource):
  """Random crops of a corpus, a pure function of (seed, step).

  Yields {'audio': [B, N] float32 in -1..1 at the corpus rate, 'track': [B]
  int32, 'start': [B] int32 in samples}.

  Attributes:
    corpus_dir: a corpus as `records.Writer` leaves it; several, with commas
      between them, are one mixture.
    crop_seconds: length of a crop; shorter tracks are zero-padded.
    batch_size: crops in a batch, of all devices together.
    seed: with the step it decides the training batch.
    train_split: split of the training crops.
    eval_split: split of the evaluation crops; the training split stands in
      where the corpus has none by this name.
    eval_batches_count: evaluation batches; the same ones each time.
    align_samples: crops start at multiples of this many samples.
    preview_seconds: length of the crops that previews are made of.
    expected_rate_hz: of the corpus, for `batch_shapes`, which do not read it.
  """

  corpus_dir: str = ''
  crop_seconds: float = 1.0
  batch_size: int = 16
  seed: int = 0
  train_split: str = 'train'
  eval_split: str = 'validation'
  eval_batches_count: int = 4
  align_samples: int = 1
  preview_seconds: float = 4.0
  expected_rate_hz: int = specs.AudioSpec.sample_rate_hz

  @functools.cached_property
  def corpus(self) -> records.Corpus | records.Mixture:
    return records.load(self.corpus_dir)

  def batches(
      self, start_step: int, share: shares.Share = shares.WHOLE
  ) -> Iterator[trainable.HostBatch]:
    """Endless batches, the first one that of `start_step`."""
    batch = self._batch(self.train_split, self.seed, share)
    return map(batch, itertools.count(start_step))

  def eval_batches(
      self, share: shares.Share = shares.WHOLE
  ) -> Iterator[trainable.HostBatch]:
    """The fixed evaluation batches, `eval_batches_count` of them."""
    batch = self._batch(self._held_out, _EVAL_SEED, share)
    return map(batch, range(self.eval_batches_count))

  def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    samples = specs.AudioSpec(self.expected_rate_hz).num_samples(self.crop_seconds)
    rows = jax.ShapeDtypeStruct((self.batch_size,), np.int32)
    return dict(track=rows, start=rows, audio=jax.ShapeDtypeStruct(
        (self.batch_size, samples), np.float32))

  def preview_batch(self, count: int) -> trainable.HostBatch:
    """The same `count` crops of `preview_seconds` each time."""
    crops = dataclasses.replace(
        self, crop_seconds=self.preview_seconds, batch_size=count)
    return crops._crops(self._held_out, _EVAL_SEED).batch(0)  # pylint: disable=protected-access

  @property
  def _held_out(self):
    """The name of the split to evaluate on."""
    if self.eval_split in self.corpus.splits:
      return self.eval_split
    return self.train_split

  def _batch(self, split, seed, share):
    """step -> the rows of `share`; no other is read."""
    return functools.partial(
        self._crops(split, seed).batch, rows=share.rows(self.batch_size))

  def _crops(self, split, seed):
    return records.Crops(
        self.corpus.split(split),
        round(self.crop_seconds * self.corpus.sample_rate_hz),
        self.batch_size, seed, self.align_samples)
