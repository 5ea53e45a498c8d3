"""How a codec trains: a generator, its codebooks and its discriminators.

One `update` does both sides at once from one reconstruction:

  audio -> encoder -> RVQ -> decoder -> fake
  gradients of each loss by `fake` -> weighted (or balanced) sum -> one backward
  pass through the generator; codebooks by moving averages; discriminators by
  the hinge loss on the same `fake`

The discriminators (adversary.py) take part from `discriminator_start_step` on;
`lax.cond` on the step skips their work before, in the same compiled function.
They may learn at a share of the steps only, and rest where they run away
(runaway.py). These, and what is done to the audio (augment.py), are functions
of (seed, step) and the state.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.codecs import adversary
from musiclm_jax.codecs import augment as augment_lib
from musiclm_jax.codecs import health
from musiclm_jax.codecs import losses
from musiclm_jax.codecs import previews
from musiclm_jax.codecs import runaway as runaway_lib
from musiclm_jax.codecs import stft_losses
from musiclm_jax.codecs import warm_start
from musiclm_jax.nn import quantize
from musiclm_jax.training import optim
from musiclm_jax.training import trainable


@flax.struct.dataclass
class CodecState:
  """Everything that training changes."""

  step: jax.Array  # int32 scalar
  params: Any  # generator
  opt_state: Any
  rvq: quantize.Rvq
  discriminator_params: Any  # {} without discriminators
  discriminator_opt_state: Any
  watch: Any  # runaway.Watch; {} without discriminators


@dataclasses.dataclass(frozen=True)
class LossWeights:
  """Weights of the generator's losses.

  Attributes:
    spectral: multi-scale spectral distance.
    adversarial: hinge.
    feature: feature matching.
    commitment: distance of latents from their codes.
    waveform: mean absolute error of samples, over the mean absolute sample of
      the batch; aligns phases early in a short training.
    complex: distance of spectra with their phases (stft_losses.ComplexConfig).
    phase: distance of how phases turn (stft_losses.PhaseConfig).
    balanced: EnCodec's balancer: all but commitment are then shares of the
      gradient at the output, not factors.
  """

  spectral: float = 1.0  # paper
  adversarial: float = 1.0  # paper
  feature: float = 100.0  # paper
  commitment: float = 0.25  # ours, from VQ-VAE-2
  waveform: float = 0.0  # ours
  complex: float = 0.0  # ours
  phase: float = 0.0  # ours
  balanced: bool = False  # ours, from EnCodec

  def combine(self, gradients, values=(), backward=None):
    """The weighted or balanced sum of all gradients by the reconstruction.

    Args:
      gradients: {loss: gradient [B, N]} that are known.
      values: names of further losses; `backward({loss: factor})` is the
        gradient of their weighted sum, at the cost of one backward pass.
    """
    weight = lambda name: jnp.float32(getattr(self, name))
    if self.balanced:
      # The balancer wants each gradient alone.
      gradients = dict(gradients, **{
          name: backward({n: jnp.float32(n == name) for n in values})
          for name in values})
      return losses.balance(
          list(gradients.values()),
          [getattr(self, name) for name in gradients])
    total = sum(weight(name) * g for name, g in gradients.items())
    if values:
      total += backward({name: weight(name) for name in values})
    return total

  def total(self, metrics: dict[str, jax.Array]) -> jax.Array:
    """The generator's loss from its parts."""
    names = [f.name for f in dataclasses.fields(self)]
    return sum(getattr(self, n) * metrics[n] for n in names if n in metrics)


@dataclasses.dataclass(frozen=True)
class CodecTrainable(trainable.Trainable):
  """A codec under training; see `training.trainable.Trainable`.

  Attributes:
    model: the generator's configuration; see codecs/registry.py.
    rvq: how its codebooks learn.
    discriminators: their configuration; see adversary.py. None: there are none.
    discriminator_start_step: first step that they take part in; -1: never.
    discriminator_update_probability: share of the steps from there on at which
      they learn, drawn from the step's own key.
    runaway: when they win too much, and what is done then.
    usage_floor: a codebook whose usage (`quantize.usage`) stays under this has
      collapsed, and the run stops; 0 never stops.
    usage_patience: evaluations on end that it must stay there.
    spectral: the reconstruction loss: losses.SpectralConfig (SoundStream's) or
      stft_losses.MagnitudeConfig.
    complex: its companion that knows phases, where `weights.complex` is set.
    phase: the distance of phases, where `weights.phase` is set.
    weights: of the losses.
    augment: what is done to the audio of training batches.
    optimizer: the generator's.
    discriminator_optimizer: the discriminators'.
    start_from: `<bundle>/codec`, a trained codec to begin from (start.py);
      '': random parameters, and codebooks by k-means.
    learns: 'all', or 'decoder': encoder and codebooks stay what `start_from`
      has, and with them the codes.
  """

  model: Any
  rvq: quantize.RvqConfig = quantize.RvqConfig()
  discriminators: Any = None
  discriminator_start_step: int = -1  # paper: 0
  discriminator_update_probability: float = 1.0  # paper; EnCodec: 2 / 3
  runaway: runaway_lib.RunawayConfig = runaway_lib.RunawayConfig()
  usage_floor: float = 0.05  # ours: a trained codec has 0.5 to 0.8
  usage_patience: int = 3  # ours
  spectral: Any = losses.SpectralConfig()
  complex: stft_losses.ComplexConfig = stft_losses.ComplexConfig()
  phase: stft_losses.PhaseConfig = stft_losses.PhaseConfig()
  weights: LossWeights = LossWeights()
  augment: augment_lib.AugmentConfig = augment_lib.AugmentConfig()
  optimizer: optim.OptimizerConfig = optim.OptimizerConfig(
      name='adam', learning_rate=3e-4, b1=0.5, b2=0.9)
  discriminator_optimizer: optim.OptimizerConfig = optim.OptimizerConfig(
      name='adam', learning_rate=3e-4, b1=0.5, b2=0.9)
  start_from: str = ''  # ours
  learns: str = 'all'  # paper

  def __post_init__(self):
    if self.learns not in ('all', 'decoder'):
      raise errors.choice('learns', self.learns, ('all', 'decoder'))
    if self.learns == 'decoder' and not self.start_from:
      raise errors.UserError(
          "learns = 'decoder' keeps the encoder and the codebooks of a trained "
          'codec; name it by START_FROM, the codec folder of a bundle.')
    if not 0.0 < self.discriminator_update_probability <= 1.0:
      raise errors.UserError(
          f'discriminator_update_probability is '
          f'{self.discriminator_update_probability}; expected more than 0 and '
          f'at most 1 (discriminator_start_step = -1 turns them off).')
    if self.adversarial and self.discriminators is None:
      raise errors.UserError(
          f'discriminator_start_step is {self.discriminator_start_step} and '
          f'there are no discriminators; give some, or -1 for none.')

  @property
  def adversarial(self) -> bool:
    return self.discriminator_start_step >= 0

  def init(self, rng, batch):
    """Fresh parameters; codebooks by k-means of the first batch's latents.

    Or both from `start_from`.
    """
    generator_rng, rvq_rng, discriminator_rng = jax.random.split(rng, 3)
    audio = self._whole_frames(batch['audio'])
    # One frame is enough: the shapes of parameters do not depend on length.
    params = self._generator.init(
        generator_rng, audio[:1, :self.model.spec.hop_samples])['params']
    if self.start_from:
      params, codebooks = warm_start.begin(
          self.start_from, self.model,
          {**params, **self.rvq.blank(self.model)}, generator_rng)
      rvq = quantize.begin(codebooks, quantize.PARAMS in params)
    else:
      spec = self.model.spec
      rvq, learnt = self.rvq.init(
          rvq_rng, self._latents_at_offsets(params, audio), spec.num_codebooks,
          spec.codebook_size)
      params = {**params, **learnt}
    discriminator_params, discriminator_opt_state, watch = {}, {}, {}
    if self.adversarial:
      discriminator_params = self._discriminators.init(
          discriminator_rng, audio[:1])['params']
      discriminator_opt_state = self.discriminator_optimizer.make().init(
          discriminator_params)
      watch = self.runaway.start()
    return CodecState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=self.optimizer.make().init(params), rvq=rvq,
        discriminator_params=discriminator_params,
        discriminator_opt_state=discriminator_opt_state, watch=watch)

  def update(self, state, batch, rng):
    """One step of generator, codebooks and discriminators."""
    audio = self.augment.apply(
        jax.random.fold_in(rng, 3), self._whole_frames(batch['audio']))
    level_rng, rvq_rng = jax.random.split(rng)
    num_levels = self.rvq.draw_levels(
        level_rng, len(audio), self.model.spec.num_codebooks)
    quantizes = state.step >= self._start_step
    (fake, commitment), backward, quantized = jax.vjp(
        lambda p: self._reconstruct(
            p, state.rvq, audio, num_levels, quantizes),
        state.params, has_aux=True)
    gradient, metrics = self._reconstruction_gradient(audio, fake)
    if self.adversarial:
      gradient, adversarial_metrics, state = adversary.update(
          self, self._discriminators, state, audio, fake, gradient,
          jax.random.fold_in(rng, 2))
      metrics.update(adversarial_metrics)
    else:
      gradient = self.weights.combine(gradient)
    grads, = backward((gradient, jnp.asarray(self.weights.commitment)))
    updates, opt_state = self.optimizer.make().update(
        grads, state.opt_state, state.params)
    rvq, params = state.rvq, optax.apply_updates(state.params, updates)
    if self.learns == 'all':
      rvq = self.rvq.update(rvq_rng, rvq, quantized, params)
    else:  # no gradient is no rest: weights decay
      params = {**state.params, 'decoder': params['decoder']}
    state = state.replace(step=state.step + 1, rvq=rvq, opt_state=opt_state,
                          params=params)
    metrics.update(commitment=commitment,
                   grad_norm=optax.global_norm(grads),
                   **health.codebooks(quantized.codes, rvq))
    metrics['loss'] = self.weights.total(metrics)
    return state, metrics

  def evaluate(self, state, batch, rng):
    """Reconstruction from all levels, nothing random."""
    del rng
    audio = self._whole_frames(batch['audio'])
    num_levels = jnp.full(len(audio), self.model.spec.num_codebooks)
    (fake, commitment), quantized = self._reconstruct(
        state.params, state.rvq, audio, num_levels)
    _, metrics = self._reconstruction_gradient(audio, fake)
    rate = self.model.spec.sample_rate_hz
    mel_spec = audio_lib.MelSpec(
        sample_rate_hz=rate, num_mels=64, window_samples=1024, hop_samples=256,
        fft_size=1024, low_hz=0.0, high_hz=rate / 2)
    metrics.update(
        commitment=commitment, si_sdr=losses.si_sdr(audio, fake),
        mel_distance=losses.mel_distance(audio, fake, mel_spec),
        **health.usage(quantized.codes, self.model.spec.codebook_size))
    coarse = self.model.spec.coarse_codebooks
    (fake, _), _ = self._reconstruct(
        state.params, state.rvq, audio, jnp.full(len(audio), coarse))
    metrics['mel_distance_coarse'] = losses.mel_distance(audio, fake, mel_spec)
    metrics['loss'] = self.weights.total(metrics)
    return metrics

  def gates(self):
    """A collapsed codebook, discriminators that ran away."""
    runaway = self.runaway.action if self.adversarial else 'off'
    return health.gates(self.usage_floor, self.usage_patience, runaway)

  def previews(self, state, batch):
    """The batch as recorded, and from the coarse and from all levels."""
    audio = self._whole_frames(jnp.asarray(batch['audio']))
    spec = self.model.spec
    fakes = {n: self._from_levels(state.params, state.rvq, audio,
                                  jnp.full(len(audio), n))
             for n in (spec.coarse_codebooks, spec.num_codebooks)}
    return previews.make(audio, fakes, spec.sample_rate_hz)

  def export(self, state, corpus=None):
    """What `bundle.save_component` takes: generator and codebooks."""
    del corpus
    metadata = dict(learned=self.learns)
    if self.start_from:
      metadata['began_from'] = warm_start.steps(self.start_from)
    return dict(
        kind=self.model.kind, config=self.model, spec=self.model.spec,
        weights=dict(params=state.params, codebooks=state.rvq.codebooks),
        metadata=metadata)

  @property
  def _start_step(self):
    """From where on latents are quantised: codebooks that are there are used."""
    return 0 if self.start_from else self.rvq.start_step

  @functools.cached_property
  def _generator(self):
    return self.model.build()

  @functools.cached_property
  def _discriminators(self):
    return self.discriminators.build()

  @functools.cached_property
  def _from_levels(self):
    """(params, rvq, audio [B, N], levels [B]) -> [B, N], compiled once."""
    return jax.jit(lambda *args: self._reconstruct(*args)[0][0])

  def _whole_frames(self, audio):
    """Crops to a multiple of the hop: no loss is taken on padding."""
    hop = self.model.spec.hop_samples
    if audio.shape[1] < hop:
      raise errors.UserError(
          f'audio crops have {audio.shape[1]} samples; expected at least one '
          f'frame, {hop}: give a larger CROP_SECONDS.')
    return audio[:, :audio.shape[1] // hop * hop]

  def _latents_at_offsets(self, params, audio):
    """[>= init_vectors, D]: latents of the batch delayed by some samples.

    A batch has few frames against Q x K entries (600 against 12 x 1024 for a
    dozen of seconds), so that a plain k-means would leave nothing to the later
    levels. The same audio at other offsets to the frame grid has other latents.
    """
    hop = self.model.spec.hop_samples
    frames = audio.shape[0] * (audio.shape[1] // hop)
    copies = max(1, -(-self.rvq.init_vectors // frames))
    offsets = jnp.arange(copies) * hop // copies

    def latents(offset):
      return self._generator.apply(
          {'params': params}, jnp.roll(audio, offset, axis=1),
          method='encode')

    return jax.lax.map(latents, offsets).reshape(-1, self.model.latent_dim)

  def _reconstruct(self, params, rvq, audio, num_levels, quantizes=True):
    """((fake [B, N], commitment), Quantized) of audio [B, N].

    Without `quantizes`, a bool or an array of one, latents pass as they are.
    """
    apply = functools.partial(self._generator.apply, {'params': params})
    latents = apply(audio, method='encode')
    if self.learns == 'decoder':
      latents = jax.lax.stop_gradient(latents)
    quantized = self.rvq.quantize(
        latents, rvq, params, num_levels, quantizes)
    fake = apply(jnp.where(quantizes, quantized.vectors, latents),
                 method='decode')
    return (fake, quantized.commitment), quantized

  def _reconstruction_gradient(self, audio, fake):
    """{loss: gradient by fake} and the metrics of the same losses."""
    rate = self.model.spec.sample_rate_hz
    parts = dict(
        spectral=lambda x: self.spectral.distance(audio, x, rate),
        waveform=lambda x: losses.waveform(audio, x),
        complex=lambda x: self.complex.distance(audio, x, rate),
        phase=lambda x: self.phase.distance(audio, x, rate))
    gradients, metrics = {}, {}
    for name, loss in parts.items():
      if getattr(self.weights, name):
        metrics[name], gradients[name] = jax.value_and_grad(loss)(fake)
    return gradients, metrics
