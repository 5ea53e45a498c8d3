"""Batches of audio crops for the models that train on waveforms."""

import dataclasses
import functools
import itertools

import jax
import numpy as np

from musiclm_jax import records
from musiclm_jax import specs

# Set apart from any training seed, so that evaluation crops never move with it.
_EVAL_SEED = 20_301


@dataclasses.dataclass(frozen=True)
class AudioBatches:
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
  def corpus(self):
    return records.load(self.corpus_dir)

  def batches(self, start_step):
    """Endless batches, the first one that of `start_step`."""
    crops = self._crops(self.train_split, self.seed)
    return map(crops.batch, itertools.count(start_step))

  def eval_batches(self):
    """The fixed evaluation batches, `eval_batches_count` of them."""
    crops = self._crops(self._held_out, _EVAL_SEED)
    return map(crops.batch, range(self.eval_batches_count))

  def batch_shapes(self):
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    samples = specs.AudioSpec(self.expected_rate_hz).num_samples(self.crop_seconds)
    rows = jax.ShapeDtypeStruct((self.batch_size,), np.int32)
    return dict(track=rows, start=rows, audio=jax.ShapeDtypeStruct(
        (self.batch_size, samples), np.float32))

  def preview_batch(self, count):
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

  def _crops(self, split, seed):
    return records.Crops(
        self.corpus.split(split),
        round(self.crop_seconds * self.corpus.sample_rate_hz),
        self.batch_size, seed, self.align_samples)
