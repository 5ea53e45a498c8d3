"""Teacher-forced loss of each stage, beside what guessing would cost."""

import dataclasses
from typing import Any

import jax
import numpy as np

from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import token_baselines

_ROWS = 4


@dataclasses.dataclass(frozen=True)
class StageReport:
  """Figures of one stage on held-out targets, nats per token.

  Attributes:
    name: 'semantic', 'coarse' or 'fine'.
    loss: [Q] with the true conditions.
    loss_shuffled: [Q] with the conditions of another clip.
    unigram: [Q] entropy of the targets.
    bigram: [Q] cost under the baseline fitted on train; None without train.
    usage: [Q] share of the codebook that the targets use.
    repeats: [Q] share of targets equal to the frame before.
    first_level: number of the first level, from 1 as the papers count.
  """

  name: str
  loss: np.ndarray
  loss_shuffled: np.ndarray
  unigram: np.ndarray
  bigram: np.ndarray | None
  usage: np.ndarray
  repeats: np.ndarray
  first_level: int

  def figures(self) -> dict[str, float]:
    """Flat {name: float} for JSON."""
    values = dict(
        loss=self.loss, loss_shuffled=self.loss_shuffled,
        unigram_entropy=self.unigram, bigram_entropy=self.bigram,
        usage=self.usage, repeats=self.repeats)
    return {f'{self.name}_{key}': float(np.mean(value))
            for key, value in values.items() if value is not None}

  def verdict(self) -> str:
    """One line that says what the loss is worth."""
    loss, unigram = self.loss.mean(), self.unigram.mean()
    gain = self.loss_shuffled.mean() - loss
    if loss >= unigram:
      text = 'no better than the frequencies of the codes'
    elif self.bigram is not None and loss >= self.bigram.mean():
      text = 'better than frequencies, no better than copying and bigrams'
    else:
      text = 'better than copying and bigrams'
    heeds = ('its conditions are worth '
             f'{gain:.2f} nats' if gain > 0.01 else
             'it does not heed its conditions')
    return f'{text}; {heeds}'


def report(
    trained: Any, streams: streams_lib.Streams,
    train: streams_lib.Streams | None, joint: Any) -> StageReport:
  """The `StageReport` of a stage, on the beginning of each clip.

  Args:
    trained: a stages.model.TrainedStage.
    streams: Streams of held-out clips, two or more.
    train: Streams of training clips, or None.
    joint: the bundle's JointEmbedder, or None.
  """
  spec, target = trained.spec, trained.layout.target
  size = target.codebook_size
  codes = streams_lib.stage_codes(spec, streams, 0, joint)
  other = {k: np.roll(c, 1, axis=0) for k, c in codes.items()}
  other[spec.target] = codes[spec.target]
  targets = codes[spec.target]
  bigram = None
  if train is not None:
    fitted, above = _target_stream(spec, train)
    model = token_baselines.Bigram.fit(fitted, size, above)
    above = codes['coarse'][..., -1] if spec.target == 'fine' else None
    bigram = model.nats(targets, above)
  evaluate = _Loss(trained)
  return StageReport(
      name=spec.name, loss=evaluate(codes), loss_shuffled=evaluate(other),
      unigram=token_baselines.entropy(targets, size), bigram=bigram,
      usage=token_baselines.usage(targets, size),
      repeats=token_baselines.repeat_share(targets),
      first_level=target.first_level + 1)


def _target_stream(spec, streams):
  """([n, T, Q] target codes, [n, T] code above the first level or None)."""
  if spec.target == 'semantic':
    return streams.semantic, None
  split = spec.tokens.codec.coarse_codebooks
  if spec.target == 'coarse':
    return streams.acoustic[..., :split], None
  return streams.acoustic[..., split:], streams.acoustic[..., split - 1]


class _Loss:
  """Mean nats per level, over batches of one shape."""

  def __init__(self, trained):
    self._trained = trained
    self._loss = jax.jit(
        lambda params, batch: trained.model.loss(params, batch)[1])

  def __call__(self, codes):
    layout = self._trained.layout
    tokens = layout.build(codes)
    levels = layout.target.num_codebooks
    total, count = np.zeros(levels), 0.0
    for first in range(0, len(tokens), _ROWS):
      part = tokens[first:first + _ROWS]
      batch = streams_lib.stage_batch(
          layout, np.pad(part, ((0, _ROWS - len(part)), (0, 0))))
      metrics = self._loss(self._trained.params, batch)
      tokens_here = batch['decoder_loss_weights'].sum()
      total += tokens_here * _levels(metrics, layout.target)
      count += tokens_here
    return total / max(count, 1.0)


def _levels(metrics, target):
  """[Q] the loss of each level of the target."""
  if target.num_codebooks == 1:
    return np.array([float(metrics['loss'])])
  return np.array([float(metrics[f'loss_level_{target.first_level + i + 1}'])
                   for i in range(target.num_codebooks)])
