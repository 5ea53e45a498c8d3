"""Optimisers and learning-rate schedules, by name.

`OptimizerConfig` is the one way a trainable states its optimiser; it is plain
data, so that gin can build it and a run can store it. The schedule lives inside
the optax transformation; `schedule_fn()` hands out the same function for logs.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from optax import contrib

from musiclm_jax import errors
from musiclm_jax.training import spikes

_MUON_BETA = 0.95  # Jordan's


@flax.struct.dataclass
class State:
  """What training changes, of a model with one optimiser."""

  step: jax.Array  # [] int32
  params: Any  # nested dicts of float32
  opt_state: Any  # of the optax transformation


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimiser, its schedule and its gradient clipping.

  Attributes:
    name: 'adamw', 'adam', 'adafactor' or 'muon'.
    learning_rate: the peak of the schedule, reached at the end of warm-up.
    warmup_steps: steps of linear warm-up from 0; 0 starts at the peak.
    schedule: 'rsqrt' (peak * sqrt(warmup / step)), 'cosine' (to
      `final_fraction` of the peak at `total_steps`) or 'constant'.
    total_steps: where the cosine ends; unused by the others.
    final_fraction: the cosine's last rate, as a share of the peak.
    weight_decay: decoupled; on arrays of two or more axes only, so that biases
      and norm scales keep their size. Adam takes none.
    clip_norm: global norm that gradients are clipped to; 0 clips nothing.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    skip_deviations: a step whose loss lies so many standard deviations above
      its recent mean changes nothing (training/spikes.py); 0 skips none.
  """

  name: str = 'adamw'
  learning_rate: float = 3e-4  # ours
  warmup_steps: int = 1000  # ours
  schedule: str = 'rsqrt'  # ours
  total_steps: int = 0
  final_fraction: float = 0.0
  weight_decay: float = 0.01  # ours
  clip_norm: float = 1.0  # ours
  b1: float = 0.9
  b2: float = 0.95  # ours
  eps: float = 1e-8
  skip_deviations: float = 0.0

  def __post_init__(self):
    if self.name not in OPTIMIZERS:
      raise errors.choice('optimizer', self.name, OPTIMIZERS)
    if self.schedule not in SCHEDULES:
      raise errors.choice('schedule', self.schedule, SCHEDULES)
    if self.schedule == 'cosine' and self.total_steps <= self.warmup_steps:
      raise errors.UserError(
          f'a cosine schedule over total_steps={self.total_steps} with '
          f'warmup_steps={self.warmup_steps}; total_steps must be the larger '
          f'(bind it to %TRAIN_STEPS).')
    if self.name == 'adam' and self.weight_decay:
      # The default is AdamW's; an explicit Adam means none.
      object.__setattr__(self, 'weight_decay', 0.0)

  def make(self) -> optax.GradientTransformation:
    """The optax transformation; its updates are to be added to the params."""
    optimizer = OPTIMIZERS[self.name](self, self.schedule_fn())
    if self.clip_norm:
      optimizer = optax.chain(
          optax.clip_by_global_norm(self.clip_norm), optimizer)
    if self.skip_deviations:
      optimizer = spikes.skip(optimizer, self.skip_deviations)
    return optimizer

  def schedule_fn(self) -> optax.Schedule:
    """step (int or int32 scalar, 0 for the first update) -> float32 rate."""
    return SCHEDULES[self.schedule](self)

  def start(self, params: Any) -> State:
    """The `State` before the first step."""
    return State(step=jnp.zeros((), jnp.int32), params=params,
                 opt_state=self.make().init(params))

  def descend(
      self, state: State, metrics_of: Callable[[Any], dict[str, jax.Array]],
      adjust: Callable[[Any], Any] = lambda updates: updates
  ) -> tuple[State, dict[str, jax.Array]]:
    """One step down `metrics_of(params)['loss']`; else as `step`."""
    def loss(params):
      metrics = metrics_of(params)
      return metrics['loss'], metrics

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return self.step(state, grads, metrics, adjust)

  def step(
      self, state: State, grads: Any, metrics: dict[str, jax.Array],
      adjust: Callable[[Any], Any] = lambda updates: updates
  ) -> tuple[State, dict[str, jax.Array]]:
    """One step from the gradients of a loss.

    Args:
      state: a `State`, or one derived from it; what that adds stays as it is.
      grads: like its params.
      metrics: of the loss.
      adjust: updates -> updates, before they are added to the params.

    Returns:
      (the next `State`, `metrics` with `grad_norm` and `learning_rate`).
    """
    optimizer = optax.with_extra_args_support(self.make())
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params, loss=metrics['loss'])
    metrics = dict(metrics, grad_norm=optax.global_norm(grads),
                   learning_rate=self.schedule_fn()(state.step))
    if self.skip_deviations:
      metrics['steps_skipped'] = opt_state.skipped
    params = optax.apply_updates(state.params, adjust(updates))
    return state.replace(step=state.step + 1, params=params,
                         opt_state=opt_state), metrics


def scale_rates(config: Any, factor: float) -> Any:
  """`config` with every optimiser in it at `factor` times its learning rate.

  Args:
    config: an OptimizerConfig, or a dataclass (such as a trainable) or tuple
      that holds some, at any depth.
    factor: float.
  Returns:
    The same object where nothing changes: without optimisers, or at factor 1.
  """
  if factor == 1.0:
    return config
  if isinstance(config, OptimizerConfig):
    return dataclasses.replace(
        config, learning_rate=config.learning_rate * factor)
  if isinstance(config, tuple) and not hasattr(config, '_fields'):
    scaled = tuple(scale_rates(part, factor) for part in config)
    return scaled if any(a is not b for a, b in zip(scaled, config)) else config
  if not dataclasses.is_dataclass(config) or isinstance(config, type):
    return config
  changes = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    scaled = scale_rates(value, factor)
    if field.init and scaled is not value:
      changes[field.name] = scaled
  return dataclasses.replace(config, **changes) if changes else config


def rsqrt(config: OptimizerConfig) -> optax.Schedule:
  """Linear warm-up, then the peak times sqrt(warmup / step)."""
  peak, warmup = config.learning_rate, max(1, config.warmup_steps)
  fall = lambda step: peak * jnp.sqrt(warmup / (warmup + step))
  return _from_one(optax.join_schedules(
      [optax.linear_schedule(0.0, peak, warmup), fall], [warmup]))


def cosine(config: OptimizerConfig) -> optax.Schedule:
  """Linear warm-up, then half a cosine to `final_fraction` of the peak."""
  peak = config.learning_rate
  return _from_one(optax.warmup_cosine_decay_schedule(
      0.0, peak, config.warmup_steps, config.total_steps,
      peak * config.final_fraction))


def constant(config: OptimizerConfig) -> optax.Schedule:
  """Linear warm-up, then the peak."""
  return _from_one(optax.warmup_constant_schedule(
      0.0, config.learning_rate, max(1, config.warmup_steps)))


def _from_one(schedule: optax.Schedule) -> optax.Schedule:
  """`schedule` with the first update as step 1: optax's would learn nothing."""
  return lambda step: schedule(step + 1)


def _adamw(config, rate):
  return optax.adamw(rate, b1=config.b1, b2=config.b2, eps=config.eps,
                     weight_decay=config.weight_decay, mask=_decayed)


def _adam(config, rate):
  return optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps)


def _adafactor(config, rate):
  """Factored second moments, no momentum: a fraction of Adam's memory.

  T5's choice, but with absolute rates as in Adam, so that the same
  `learning_rate` and decay mean the same thing under each name (ours).
  """
  return optax.chain(
      optax.scale_by_factored_rms(),
      optax.clip_by_block_rms(1.0),
      optax.add_decayed_weights(config.weight_decay, mask=_decayed),
      optax.scale_by_learning_rate(rate))


def _muon(config, rate):
  """Muon on kernels (Jordan, 2024), AdamW with Nesterov's momentum on all else.

  A kernel's update is the nearest matrix with equal singular values, brought to
  the mean square that AdamW's usually have (0.2^2; Liu et al., 2025), so that
  one rate and decay serve both. Embeddings, which name codes, are no maps, and
  stay AdamW's whatever their shape.
  """
  return contrib.muon(
      rate, beta=_MUON_BETA, weight_decay=config.weight_decay,
      adam_b1=config.b1, adam_b2=config.b2,
      adam_weight_decay=config.weight_decay, weight_decay_mask=_decayed,
      consistent_rms=0.2, muon_weight_dimension_numbers=_kernels)


def _kernels(params):
  """Which arrays Muon takes: [..., in, out] that are called 'kernel'."""
  def take(path, array):
    axes = jnp.ndim(array)
    if getattr(path[-1], 'key', '') != 'kernel' or axes < 2:
      return None
    return contrib.MuonDimensionNumbers(axes - 2, axes - 1)

  return jax.tree_util.tree_map_with_path(take, params)


def _decayed(params):
  """True for arrays of two or more axes: kernels and embeddings."""
  return jax.tree.map(lambda p: jnp.ndim(p) >= 2, params)


OPTIMIZERS = {'adamw': _adamw, 'adam': _adam, 'adafactor': _adafactor,
              'muon': _muon}
SCHEDULES = {'rsqrt': rsqrt, 'cosine': cosine, 'constant': constant}
