"""Trains the LEAF classifier and exports it with the names of its tags."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.listeners.leaf import classifier
from musiclm_jax.listeners.leaf import model as leaf_model
from musiclm_jax.listeners.leaf import scores
from musiclm_jax.listeners.leaf import tags as tags_lib
from musiclm_jax.training import gates
from musiclm_jax.training import optim
from musiclm_jax.training import trainable

_REPORT_SECONDS = 10  # from the middle of each track
_REPORT_SPLITS = ('test', 'validation', 'train')  # the first that there is


@flax.struct.dataclass
class State(optim.State):
  """The state, and whose names the tags have."""

  vocabulary: jax.Array  # [] int32, tags.checksum


@dataclasses.dataclass(frozen=True)
class LeafTrainable(trainable.Trainable):
  """The LEAF classifier under training, on `tags.TaggedBatches`.

  Attributes:
    model: its sizes.
    optimizer: the optimiser and its schedule.
    stuck_evaluations: a warning comes when so many evaluations in a row tell no
      tag from chance; 0 never warns.
  """

  model: leaf_model.LeafConfig = leaf_model.LeafConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  stuck_evaluations: int = 5  # ours

  @functools.cached_property
  def _module(self):
    return leaf_model.Leaf(self.model)

  def init(self, rng, batch):
    """A fresh `State`."""
    params = self._module.init(rng, batch['audio'])['params']
    return State(**vars(self.optimizer.start(params)),
                 vocabulary=batch['vocabulary'][0])

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    return self.optimizer.descend(
        state, lambda params: self._metrics(params, batch, rng))

  def evaluate(self, state, batch, rng):
    """Loss and order within the batch."""
    del rng
    return self._metrics(state.params, batch)

  def _metrics(self, params, batch, rng=None):
    """`loss`, and `auc`, 0.5 where no tag is told from chance."""
    train = rng is not None
    logits = self._module.apply(
        {'params': params}, batch['audio'], train,
        rngs={'dropout': rng} if train else None)
    return dict(loss=scores.cross_entropy(logits, batch['tags']),
                auc=scores.order(logits, batch['tags']))

  def gates(self):
    """A warning where nothing is heard."""
    if not self.stuck_evaluations:
      return ()
    return (gates.Gate(
        'leaf_chance', 'auc', split='eval', below=0.52,
        patience=self.stuck_evaluations, action='warn',
        cause='No tag is told from chance: train longer, raise the learning '
        'rate, or check that the tags of the corpus (`aspects`) can be heard '
        'in its crops.'),)

  def export(self, state, corpus):
    """The names of the tags, and how well they are told on held-out tracks."""
    if corpus is None:
      raise errors.UserError(
          'a LEAF classifier is exported with the corpus that it was trained '
          'on, which has the names of its tags; give --gin.CORPUS_DIR.')
    names = tags_lib.vocabulary(corpus.split('train'), self.model.num_classes)
    if tags_lib.checksum(names) != int(state.vocabulary):
      raise errors.UserError(
          f'the {len(names)} most frequent tags of {corpus.name} are not those '
          f'that the classifier was trained on; give the corpus of its '
          f'training, unchanged.')
    front_end = self.model.front_end
    spec = specs.ListenerSpec(front_end.sample_rate_hz, names)
    trained = classifier.LeafClassifier(self.model, state.params, names)
    return dict(kind='leaf', config=self.model, spec=spec,
                weights=dict(params=state.params),
                metadata=dict(tags=report(trained, corpus)))


def report(trained: classifier.LeafClassifier,
           corpus: records.Corpus | records.Mixture) -> dict[str, Any]:
  """How well a classifier tells the tags of held-out tracks.

  Args:
    trained: the classifier.
    corpus: with tags; of its splits the first of test, validation and train.

  Returns:
    {split, clips, tags that some clip has, mean_average_precision,
    mean_average_precision_of_chance}.
  """
  name = next(s for s in _REPORT_SPLITS if s in corpus.splits)
  split = corpus.split(name)
  size = _REPORT_SECONDS * split.sample_rate_hz
  logits = []
  for track in split:
    start = max(0, track.num_samples - size) // 2
    audio = split.read(track, start, min(size, track.num_samples))
    audio = audio_lib.resample(
        audio[None], split.sample_rate_hz, trained.sample_rate_hz)
    logits.append(trained.logits(np.asarray(audio))[0])
  found, chance, count = scores.mean_average_precision(
      np.stack(logits), tags_lib.labels(split, trained.classes))
  return dict(split=name, clips=len(split), tags=count,
              mean_average_precision=found,
              mean_average_precision_of_chance=chance)
