"""Trains w2v-BERT and exports it with its k-means."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from musiclm_jax.tokenizers.w2vbert import initial
from musiclm_jax.tokenizers.w2vbert import kmeans
from musiclm_jax.tokenizers.w2vbert import losses
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer
from musiclm_jax.training import gates
from musiclm_jax.training import optim
from musiclm_jax.training import trainable

_TARGET_PARTS = ('encoder', 'quantizer')
_EPS = 1e-6
_LEAST_CODES = 2.0  # entries in even use; fewer than this is one


@dataclasses.dataclass(frozen=True)
class W2vBertTrainable(trainable.Trainable):
  """w2v-BERT under training; batches hold 'audio' [B, N] at 24 kHz.

  Attributes:
    model: sizes and losses.
    optimizer: the optimiser and its schedule.
    target_rate: the feature encoder and the quantizer, which make the targets,
      learn at this share of the rate: at the full one a short training chases
      ids that change faster than the stacks can learn to name them.
    start_from_audio: the quantizer and the heads start from the first batch
      (initial.py).
    clustering: how the tokens are fitted at export.
    stuck_share: share of chance; a contrastive loss above it tells nothing
      apart.
    collapsed_share: share of the codebook, and of the k-means; fewer entries in
      even use, or fewer than 2, are a collapse.
    stuck_evaluations: the run stops when so many evaluations in a row are the
      one or the other; 0 never stops. They should reach past the warm-up.
  """

  model: w2vbert_model.W2vBertConfig = w2vbert_model.W2vBertConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig()
  target_rate: float = 1.0  # paper
  start_from_audio: bool = False  # paper
  clustering: kmeans.KMeansConfig = kmeans.KMeansConfig()
  stuck_share: float = 0.99  # ours
  collapsed_share: float = 0.01  # ours
  stuck_evaluations: int = 5  # ours

  @functools.cached_property
  def _module(self):
    return w2vbert_model.W2vBert(self.model)

  def init(self, rng, batch):
    """A fresh `optim.State`.

    Of `batch` only the shape matters, unless `start_from_audio`.
    """
    params = self._module.init(rng, batch['audio'])['params']
    if self.start_from_audio:
      params = initial.from_audio(
          self.model, params, batch['audio'], jax.random.fold_in(rng, 1))
    return self.optimizer.start(params)

  def update(self, state, batch, rng):
    """One step of the optimiser."""
    slowed = lambda updates: {
        name: jax.tree.map(lambda x: x * self.target_rate, part)
        if name in _TARGET_PARTS else part for name, part in updates.items()}
    return self.optimizer.descend(
        state, lambda params: self._metrics(
            params, batch['audio'], rng, state.step, deterministic=False),
        slowed)

  def evaluate(self, state, batch, rng):
    """The training metrics without dropout and Gumbel noise, spans masked."""
    return self._metrics(state.params, batch['audio'], rng, state.step,
                         deterministic=True)

  def gumbel_temperature(self, step: jax.Array | int) -> jax.Array:
    cfg = self.model
    return jnp.maximum(
        cfg.gumbel_end,
        cfg.gumbel_start * cfg.gumbel_decay**jnp.asarray(step, jnp.float32))

  def _metrics(self, params, audio, rng, step, deterministic):
    cfg = self.model
    model_rng, dropout_rng, draw_rng = jax.random.split(rng, 3)
    temperature = self.gumbel_temperature(step)
    out = self._module.apply(
        {'params': params}, audio, temperature, model_rng, deterministic,
        rngs={'dropout': dropout_rng})
    counts = losses.distractor_counts(
        draw_rng, out.masked, cfg.num_distractors)
    contrastive, contrastive_accuracy = losses.contrastive(
        out.context, out.quantized, out.ids, out.masked, counts,
        cfg.contrastive_temperature, cfg.exclude_equal)
    diversity, _ = losses.diversity(out.code_logits, out.valid)
    # The id to name is the quantizer's own choice, free of Gumbel noise.
    target = jnp.argmax(out.code_logits, axis=-1)
    prediction, prediction_accuracy = losses.prediction(
        out.prediction_logits, target, out.masked)
    perplexity = losses.code_perplexity(
        target, out.valid, cfg.codebook_size)
    chance = losses.contrastive_chance(
        out.ids, out.masked, counts, cfg.exclude_equal)
    loss = (cfg.contrastive_weight *
            (contrastive + cfg.diversity_weight * diversity) +
            cfg.prediction_weight * prediction)
    more = {}
    if cfg.spectrum_weight:
      more = {name: losses.unexplained(out.named_spectra, out.spectra, steps)
              for name, steps in (('spectrum_unexplained', out.valid),
                                  ('spectrum_unexplained_masked', out.masked))}
      loss += cfg.spectrum_weight * more['spectrum_unexplained']
    return dict(
        more, loss=loss, contrastive=contrastive,
        contrastive_accuracy=contrastive_accuracy, diversity=diversity,
        prediction=prediction, prediction_accuracy=prediction_accuracy,
        code_perplexity=perplexity,
        # What guessing gives: for the prediction, that is naming ids by their
        # frequency alone, which is far easier than ln(codebook_size).
        contrastive_chance=chance,
        contrastive_over_chance=contrastive / jnp.maximum(chance, _EPS),
        prediction_chance=jnp.log(perplexity),
        gumbel_temperature=temperature)

  def gates(self):
    """A collapsed codebook; a contrastive loss that tells nothing apart.

    In this order: a codebook of one entry makes all candidates equal.
    """
    if not self.stuck_evaluations:
      return ()
    gate = functools.partial(
        gates.Gate, split='eval', patience=self.stuck_evaluations)
    return (
        gate('collapsed_codebook', 'code_perplexity',
             below=self._least_codes(self.model.codebook_size),
             cause='The codebook has collapsed: nearly every step has one of a '
             'few ids, and naming them is no task. Raise diversity_weight, '
             'lower the learning rate or target_rate, keep '
             'quantizer_standardize on, and check that the corpus is not '
             'silent.'),
        gate('contrastive_chance', 'contrastive_over_chance',
             above=self.stuck_share,
             cause='The contrastive loss sits at chance (ln 101 with 100 '
             'distractors): the context does not tell a masked step from '
             'others. Lengthen the warm-up or change the learning rate, give '
             'positions where kernels do not reach across a masked span '
             "(position = 'rotary'), take less gumbel_noise; more steps help "
             'where it has just begun to fall (stuck_evaluations).'))

  def _least_codes(self, size):
    """Entries in even use, of `size`, that are no collapse yet."""
    return max(_LEAST_CODES, self.collapsed_share * size)

  def export(self, state, corpus):
    """Fits the k-means on `corpus` and returns `save_component`'s arguments.

    Only what the tokenizer runs is kept: not the quantizer, the heads, nor the
    blocks above `feature_block`.

    Raises:
      UserError: the k-means has collapsed; nothing is written.
    """
    params = tokenizer.inference_params(state.params, self.model)
    fitted, report = kmeans.fit(
        tokenizer.FeatureExtractor(self.model, params), corpus.split('train'),
        self.model.num_clusters, self.clustering)
    kmeans.check(fitted, report, self._least_codes(self.model.num_clusters))
    return dict(
        kind='w2vbert', config=self.model, spec=self.model.semantic_spec(),
        weights=dict(params=params, kmeans=fitted),
        metadata=dict(kmeans=report))
