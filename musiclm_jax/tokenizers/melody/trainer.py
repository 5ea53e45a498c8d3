"""Trains the melody embedder and exports it with its RVQ."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from musiclm_jax.tokenizers.melody import losses
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.melody import rvq
from musiclm_jax.training import gates
from musiclm_jax.training import optim
from musiclm_jax.training import trainable


@dataclasses.dataclass(frozen=True)
class MelodyTrainable(trainable.Trainable):
  """The melody embedder under training, on `pairs.MelodyBatches`.

  Attributes:
    model: sizes of the ViT.
    optimizer: the optimiser and its schedule.
    tokens: how the RVQ is fitted at export.
    margin: of the triplet loss, in squared distance (FaceNet's).
    stuck_share: share of the margin; a loss above it tells nothing apart.
    stuck_evaluations: the run stops when so many evaluations in a row are
      stuck; 0 never stops.
  """

  model: melody_model.MelodyConfig = melody_model.MelodyConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  tokens: rvq.MelodyRvqConfig = rvq.MelodyRvqConfig()
  margin: float = 0.2  # FaceNet; MusicLM does not say
  stuck_share: float = 0.98  # ours
  stuck_evaluations: int = 5  # ours

  @functools.cached_property
  def _module(self):
    return melody_model.Melody(self.model)

  def init(self, rng, batch):
    """A fresh `optim.State`."""
    params = self._module.init(rng, batch['first'])['params']
    return self.optimizer.start(params)

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    return self.optimizer.descend(
        state, lambda params: self._metrics(params, batch, rng))

  def evaluate(self, state, batch, rng):
    """Loss and retrieval within the batch."""
    del rng
    return self._metrics(state.params, batch)

  def _metrics(self, params, batch, rng=None):
    """The loss and what tells whether tunes are told apart.

    `share_of_margin` is 1 where all embeddings are equal; `order`, the share of
    negatives farther than the positive, is 0.5 at chance; `spread` is 0 where
    the embeddings have fallen into one point, 1 where they point everywhere.
    """
    # Both crops through the ViT at once: one program, twice the rows.
    both = jnp.concatenate([batch['first'], batch['second']])
    out = self._module.apply(
        {'params': params}, both, rng is None,
        rngs=None if rng is None else {'dropout': rng})
    first, second = jnp.split(out, 2)
    found = losses.triplets(first, second, batch['tune'], self.margin)
    return dict(
        loss=found.loss, share_of_margin=found.loss / self.margin,
        positive_distance=found.positive, negative_distance=found.negative,
        semi_hard=found.semi_hard, order=found.order, top1=found.top1,
        spread=1.0 - jnp.sum(jnp.square(out.mean(0))))

  def gates(self):
    """A loss at the margin: every triplet costs what no embedding costs."""
    if not self.stuck_evaluations:
      return ()
    return (gates.Gate(
        'triplet_margin', 'share_of_margin', split='eval',
        above=self.stuck_share, patience=self.stuck_evaluations,
        cause='The triplet loss is stuck at the margin: all embeddings lie in '
        'one point, or the positive is as far as the negatives. Lower the '
        'learning rate or lengthen the warm-up, take more tunes in a batch, '
        'and check that the two crops of a pair hold the same notes (`tune` '
        'and `melody` of the corpus).'),)

  def export(self, state, corpus):
    """Fits the RVQ on `corpus` and returns `save_component`'s arguments."""
    params = jax.tree.map(jnp.asarray, state.params)
    codebooks, report = rvq.fit(self.model, params, corpus, self.tokens)
    return dict(
        kind='melody', config=self.model, spec=self.model.melody,
        weights=dict(params=params, rvq=dict(codebooks=codebooks)),
        metadata=dict(rvq=report))
