"""Crops of music whose lead is known: audio, and the class of every slot.

A corpus states for each track its `melody`, a list of [start s, length s, MIDI
pitch]. A slot has the class of the note that sounds in its middle, or none.

>>> slot_classes([[0.0, 0.5, 60], [0.75, 0.2, 71]], 0.0, 8, 0.125).tolist()
[0, 0, 0, 0, 12, 12, 11, 12]
"""

from collections.abc import Sequence
import dataclasses
import functools
import itertools

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers.notes import model as notes_model
from musiclm_jax.training import shares
from musiclm_jax.training import trainable

# Set apart from any training seed, so that evaluation crops never move with it.
_EVAL_SEED = 20_301


@dataclasses.dataclass(frozen=True)
class NotesBatches(trainable.BatchSource):
  """Batches of crops, a pure function of (seed, step).

  Yields {'audio': [B, N] float32 at the corpus rate, 'classes': [B, slots]
  int32}.

  Attributes:
    corpus_dir: a corpus with `melody`, such as folk_gm's; several, with commas
      between them, are one mixture.
    batch_size: crops in a batch, of all devices together.
    crop_seconds: length of a crop, whole windows.
    slots: of a second.
    seed: with the step it decides the training batch.
    train_split: split of the training crops.
    eval_split: of the evaluation's; the training split stands in for it.
    eval_batches_count: evaluation batches; the same ones each time.
    expected_rate_hz: of the corpus, for `batch_shapes`, which do not read it.
  """

  corpus_dir: str = ''
  batch_size: int = 32
  crop_seconds: int = 4
  slots: int = 8
  seed: int = 0
  train_split: str = 'train'
  eval_split: str = 'validation'
  eval_batches_count: int = 4
  expected_rate_hz: int = specs.AudioSpec.sample_rate_hz

  @functools.cached_property
  def corpus(self):
    return records.load(self.corpus_dir)

  def batches(self, start_step, share=shares.WHOLE):
    """Endless batches, the first one that of `start_step`."""
    return self._made(self.train_split, self.seed,
                      itertools.count(start_step), share)

  def eval_batches(self, share=shares.WHOLE):
    """The fixed evaluation batches, `eval_batches_count` of them."""
    split = (self.eval_split if self.eval_split in self.corpus.splits else
             self.train_split)
    return self._made(split, _EVAL_SEED, range(self.eval_batches_count), share)

  def batch_shapes(self):
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    samples = self.crop_seconds * self.expected_rate_hz
    return dict(
        audio=jax.ShapeDtypeStruct((self.batch_size, samples), np.float32),
        classes=jax.ShapeDtypeStruct(
            (self.batch_size, self.crop_seconds * self.slots), np.int32))

  def _made(self, name, seed, steps, share):
    split = self.corpus.split(name)
    tracks = [t for t in split if t.meta.get('melody')]
    if not tracks:
      raise errors.UserError(
          f'no track of {split.directory} states its `melody`, as `musiclm '
          f'data folk_gm` writes it; there is nothing to learn notes from.')
    for step in steps:
      rng = np.random.default_rng([seed, step])
      picks = rng.integers(0, len(tracks), self.batch_size)
      places = rng.random(self.batch_size)
      made = [self._crop(split, tracks[picks[row]], places[row])
              for row in share.rows(self.batch_size)]
      yield dict(audio=np.stack([audio for audio, _ in made]),
                 classes=np.stack([classes for _, classes in made]))

  def _crop(self, split, track, place):
    """(audio, classes) of a crop that begins at a share of what there is."""
    rate = split.sample_rate_hz
    samples = self.crop_seconds * rate
    start = int(place * max(0, track.num_samples - samples))
    return split.read(track, start, samples), slot_classes(
        track.meta['melody'], start / rate, self.crop_seconds * self.slots,
        1.0 / self.slots)


def slot_classes(melody: Sequence[Sequence[float]], start_seconds: float,
                 count: int, slot_seconds: float) -> np.ndarray:
  """[count] int32 pitch classes of the slots from a moment on, 12 for none.

  Args:
    melody: [start s, length s, MIDI pitch] each.
    start_seconds: where the first slot begins.
    count: of slots.
    slot_seconds: length of a slot.
  """
  classes = np.full(count, notes_model.NONE, np.int32)
  for begin, length, pitch in melody:
    # Slots whose middle lies within the note.
    first, last = (int(np.ceil((second - start_seconds) / slot_seconds - 0.5))
                   for second in (begin, begin + length))
    classes[max(first, 0):max(last, 0)] = int(pitch) % 12
  return classes
