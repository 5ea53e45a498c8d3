"""Crops of a corpus with the tags of their tracks, and what tags it has.

A corpus states for each track its `aspects`, a list of short strings. Those that
most tracks of the train split have are the vocabulary, in that order; equally
frequent ones in the order of the alphabet.
"""

from collections import Counter
from collections.abc import Iterator
import dataclasses
import functools
import json
import zlib

import jax
import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.training import shares
from musiclm_jax.training import sources
from musiclm_jax.training import trainable

ASPECTS = 'aspects'


def vocabulary(split: records.Split, count: int) -> tuple[str, ...]:
  """The `count` most frequent tags of a split.

  Raises:
    UserError: it has fewer; the message says how many.
  """
  found = Counter(tag for track in split for tag in set(_of(track)))
  if len(found) < count:
    raise errors.UserError(
        f'{split.directory} has {len(found)} tags ({ASPECTS} of its tracks), '
        f'expected {count}; lower --gin.NUM_TAGS, or take a corpus with more.')
  ranked = sorted(found, key=lambda tag: (-found[tag], tag))
  return tuple(ranked[:count])


def labels(split: records.Split, tags: tuple[str, ...]) -> np.ndarray:
  """[tracks, C] float32: 1 where a track has a tag."""
  place = {tag: index for index, tag in enumerate(tags)}
  found = np.zeros((len(split), len(tags)), np.float32)
  for row, track in zip(found, split):
    row[[place[tag] for tag in _of(track) if tag in place]] = 1.0
  return found


def checksum(tags: tuple[str, ...]) -> int:
  """A number that tells vocabularies apart, 0..2^31 - 1."""
  return zlib.crc32(json.dumps(tags).encode()) & 0x7fffffff


def _of(track):
  """The tags of a track."""
  return track.meta.get(ASPECTS) or ()


@dataclasses.dataclass(frozen=True)
class TaggedBatches(sources.AudioBatches):
  """Random crops and the tags of their tracks, a pure function of (seed, step).

  Yields what `AudioBatches` does, with {'tags': [B, C] float32 of 0 and 1,
  'vocabulary': [B] int32, the `checksum` of the vocabulary in each row}.

  Attributes:
    num_tags: C, tags of the vocabulary.
  """

  num_tags: int = 527  # paper

  @functools.cached_property
  def vocabulary(self) -> tuple[str, ...]:
    """The C names of the tags."""
    return vocabulary(self.corpus.split(self.train_split), self.num_tags)

  def batches(
      self, start_step: int, share: shares.Share = shares.WHOLE
  ) -> Iterator[trainable.HostBatch]:
    """Endless batches, the first one that of `start_step`."""
    return self._tagged(
        self.train_split, super().batches(start_step, share))

  def eval_batches(
      self, share: shares.Share = shares.WHOLE
  ) -> Iterator[trainable.HostBatch]:
    """The fixed evaluation batches, `eval_batches_count` of them."""
    return self._tagged(self._held_out, super().eval_batches(share))

  def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch as ShapeDtypeStructs, for a corpus at the audio rate."""
    shape = jax.ShapeDtypeStruct
    return dict(
        super().batch_shapes(),
        tags=shape((self.batch_size, self.num_tags), np.float32),
        vocabulary=shape((self.batch_size,), np.int32))

  def baselines(self) -> dict[str, float]:
    """The loss of who knows how frequent each tag is, and hears nothing."""
    known = labels(self.corpus.split(self.train_split), self.vocabulary)
    rate = np.clip(known.mean(0), 1e-6, 1 - 1e-6)
    has = labels(self.corpus.split(self._held_out), self.vocabulary)
    guess = has * np.log(rate) + (1 - has) * np.log(1 - rate)
    return dict(loss_of_base_rates=float(-guess.mean()), auc_of_chance=0.5)

  def _tagged(self, split, batches):
    """Adds the tags to batches of crops."""
    known = labels(self.corpus.split(split), self.vocabulary)
    number = checksum(self.vocabulary)
    for batch in batches:
      yield dict(batch, tags=known[batch['track']], vocabulary=np.full(
          len(batch['track']), number, np.int32))
