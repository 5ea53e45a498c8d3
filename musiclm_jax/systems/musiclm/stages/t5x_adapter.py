"""A stage under T5X: the only file that imports it.

  gin/runs/t5x.gin   T5X's own pretrain.gin, then these objects in its places:
    T5XStage           the model: our parameters, loss, optimiser and sampler
    stage_trainer      T5X's trainer, which the model is fitted to
    task               our seqio task, registered from the leaf's SOURCE
    learning_rate_fn   our schedule, which T5X logs
    logical_axis_rules our table of shardings
    write_predictions  T5X's lines of predictions, with the crop they are of

The leaf is the same under either launcher. What T5X does itself: the loop, its
checkpoints (which `musiclm export` converts), the order of the data.
"""

import dataclasses
import os
import pathlib
import re

from clu import metrics as clu_metrics
from flax import core
import jax
import jax.numpy as jnp
import optax
from t5x import checkpoints
from t5x import infer
from t5x import metrics as t5x_metrics
from t5x import models
from t5x import optimizers
import tensorflow as tf

from musiclm_jax import configs
from musiclm_jax import errors
from musiclm_jax.nn import partitioning
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import crops
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import tasks
from musiclm_jax.tokens import vocabularies
from musiclm_jax.training import gradient_cache
from musiclm_jax.training import hosts
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import optim
from musiclm_jax.training import spikes

# T5X reads a leaf with gin's own paths; ours are known from here on.
configs.add_search_path()
# It loads this file before it asks for devices, so launch/ works with it too.
hosts.join()


class T5XStage(models.BaseModel):
  """A `stages.trainer.StageTrainable` in T5X's interface.

  T5X takes parameter shardings from the `params_axes` collection, which our
  layers write, and sums the gradients of microbatches, where we average: how
  many there are is the trainer's to say (`stage_trainer`).

  Attributes:
    microbatches: parts that the trainer makes of a batch.
    rate: the learning rate, as the optimiser has it.
  """

  FEATURE_CONVERTER_CLS = feature_converter.StageFeatureConverter

  def __init__(self, trainable, decode_fn=None):
    """Wraps a trainable.

    Args:
      trainable: the StageTrainable: a model and its optimiser.
      decode_fn: `generation.continuation.continuation` with its draw, called
        with (model, params, tokens, rng); without it nothing can be predicted.
    """
    super().__init__(optimizer(trainable.optimizer))
    self._stage = trainable.model
    self._decode_fn = decode_fn
    self.microbatches = 1
    self.rate = learning_rate_fn(trainable)

  @property
  def input_vocabulary(self):
    return vocabularies.stage_vocabulary(self._stage.spec)

  @property
  def output_vocabulary(self):
    return self.input_vocabulary

  def get_initial_variables(self, rng, input_shapes, input_types=None):
    """Fresh `params` and `params_axes`; the shapes are the stage's own."""
    del input_shapes, input_types
    tokens = jnp.zeros((1, self._stage.layout.length), jnp.int32)
    variables = core.unfreeze(self._stage.decoder.init(rng, tokens))
    variables['params'] = self._stage.started(variables['params'], rng)
    return core.freeze(variables)

  def loss_fn(self, params, batch, dropout_rng):
    """(mean loss of the batch's target tokens, metrics that add up)."""
    if not self._stage.config.dropout_rate:
      dropout_rng = None
    loss, means = self._stage.loss(params, batch, dropout_rng)
    count = jnp.sum(batch['decoder_loss_weights'])
    metrics = {name: clu_metrics.Average(total=mean * count, count=count)
               for name, mean in means.items()}
    metrics.update(_customary_metrics(loss, means, batch, count))
    return loss / self.microbatches, metrics

  def score_batch(self, params, batch, return_intermediates=False):
    """[B] log-likelihood of each target, in nats."""
    if return_intermediates:
      raise ValueError('a stage has no intermediates to return.')
    return self._stage.log_likelihood(params, batch)

  def predict_batch_with_aux(self, params, batch, rng=None):
    """([B, T * Q] target tokens drawn after the conditions, {'scores': [B]}).

    The scores are the log-likelihoods of what was drawn. Without `rng` the seed
    is 0.
    """
    tokens = self.predict_batch(params, batch, rng)
    target = self._stage.layout.target
    sequence = jnp.asarray(batch['decoder_target_tokens'])
    drawn = sequence.at[:, target.start:target.stop].set(tokens)
    weights = jnp.zeros(sequence.shape).at[:, target.start:target.stop].set(1.0)
    shifted = jnp.pad(drawn, ((0, 0), (1, 0)))[:, :-1]
    scores = self._stage.log_likelihood(params, dict(
        decoder_input_tokens=shifted, decoder_target_tokens=drawn,
        decoder_loss_weights=weights))
    return tokens, {'scores': scores}

  def predict_batch(self, params, batch, rng=None):
    """[B, T * Q] target tokens, drawn after the conditions in `batch`."""
    if self._decode_fn is None:
      raise ValueError(
          'no decode_fn; bind t5x_adapter.T5XStage.decode_fn to '
          '@continuation.continuation, as gin/runs/t5x.gin does.')
    rng = jax.random.PRNGKey(0) if rng is None else rng
    return self._decode_fn(
        self._stage, params, batch['decoder_target_tokens'], rng)


def _customary_metrics(loss, means, batch, count):
  """What users of T5X look for, by the names and rules of its own models.

  There a loss is a sum over tokens, and per token of the target or of all.

  Args:
    loss: mean of the target tokens, z-loss and smoothing included.
    means: of `StageModel.loss`.
    batch: of the step.
    count: target tokens in it.
  """
  rows, size = batch['decoder_target_tokens'].shape
  size *= rows
  average = lambda mean, tokens: clu_metrics.Average(
      total=mean * count, count=jnp.asarray(tokens))
  total = lambda mean: t5x_metrics.AveragePerStep(total=mean * count)
  z_loss = means.get('z_loss_per_token', jnp.zeros(()))
  rate = lambda per_step: t5x_metrics.TimeRate.from_model_output(
      numerator=per_step)
  devices = jax.device_count()
  return {
      'loss_per_nonpadding_target_token': average(loss, count),
      'loss_per_all_target_tokens': average(loss, size),
      'cross_ent_loss': total(loss - z_loss),
      'cross_ent_loss_per_all_target_tokens': average(loss - z_loss, size),
      'z_loss': total(z_loss),
      'z_loss_per_all_target_tokens': average(z_loss, size),
      'non_padding_fraction/loss_weights': average(jnp.ones(()), size),
      'timing/steps_per_second': t5x_metrics.StepsPerTime.from_model_output(),
      'timing/seconds': t5x_metrics.Time(),
      'timing/seqs': t5x_metrics.Sum(jnp.asarray(rows)),
      'timing/seqs_per_second': rate(jnp.asarray(rows)),
      'timing/seqs_per_second_per_core': rate(jnp.asarray(rows / devices)),
      'timing/target_tokens_per_second': rate(count),
      'timing/target_tokens_per_second_per_core': rate(count / devices)}


def checked(trainable):
  """A leaf's TRAINABLE, once all that gin was told has been looked at.

  Raises:
    UserError: a value out of range, or a macro that nothing reads.
  """
  own = pathlib.Path(infer.__file__).parent / 'configs' / 'runs'
  configs.check_values()
  for line in configs.check_macros_of_other_runs(sorted(own.glob('*.gin'))):
    print(line, flush=True)
  return trainable


def absolute(path):
  """A path that T5X takes: from the root on. No path stays none."""
  if not path or not isinstance(path, str) or re.match(r'\w+://', path):
    return path
  return os.path.abspath(os.path.expanduser(path))


def stage_trainer(make, **arguments):
  """T5X's trainer, and its model told what the trainer does with gradients.

  Args:
    make: `t5x.trainer.Trainer` with what gin binds of it.
    **arguments: those of T5X's own call.

  Raises:
    UserError: it has another learning rate than the model's optimiser. T5X would
      log that one and train with the other.
  """
  trainer = make(**arguments)
  model = arguments['model']
  # pylint: disable=protected-access
  if trainer._learning_rate_fn != model.rate:
    raise errors.UserError(
        'trainer.Trainer.learning_rate_fn is bound; under T5X too the learning '
        'rate is the leaf\'s: bind optim.OptimizerConfig.learning_rate, '
        '.warmup_steps and .schedule instead.')
  model.microbatches = trainer._num_microbatches or 1
  return trainer


def optimizer(config):
  """An `optim.OptimizerConfig` as T5X takes it; the schedule is inside."""
  return optimizers.OptaxWrapper(config.make())


@dataclasses.dataclass(frozen=True)
class LearningRate:
  """The schedule of an optimiser: step -> rate."""

  optimizer: optim.OptimizerConfig

  def __call__(self, step):
    return self.optimizer.schedule_fn()(step)


def learning_rate_fn(trainable):
  """The schedule of the trainable, for T5X's logs."""
  return LearningRate(trainable.optimizer)


def logical_axis_rules(mesh, rules=()):
  """Our table of shardings for T5X's mesh, whose axes are 'data' and 'model'.

  A state that is split over 'fsdp' is split over all of 'data' there.

  Args:
    mesh: devices of each axis, as `training.mesh.make_mesh` takes them.
    rules: (logical axis, mesh axis or axes) pairs that go before ours.
  """
  split = mesh_lib.mesh_sizes(mesh, jax.device_count())[1] > 1
  places = {partitioning.DATA: 'data', partitioning.MODEL: 'model',
            partitioning.FSDP: 'data' if split else None}
  first = lambda axes: axes if isinstance(axes, str) else (axes or [None])[0]
  return [(name, places.get(first(axes)))
          for name, axes in partitioning.with_rules(rules)]


def num_partitions(mesh):
  """Devices that share one copy of the model: `mesh`'s 'model' axis."""
  return mesh_lib.mesh_sizes(mesh, jax.device_count())[-1]


def num_microbatches(trainable, source):
  """How many parts T5X makes of a batch; None for one.

  T5X takes the mean over the parts, we over their tokens: the same where no
  sequence is padded.
  """
  if not trainable.microbatch:
    return None
  gradient_cache.check(source.batch_size, trainable.microbatch)
  return source.batch_size // trainable.microbatch


def task(source, training=False):
  """The seqio task of a leaf's SOURCE.

  Args:
    source: a `tokens.source.TaskBatches`.
    training: whether conditions are dropped as in training.

  Returns:
    In training the task or mixture itself; else its name, registered.
  """
  cache = source.cache  # refuses what does not fit
  if training:
    return tasks.provider(cache, source.stage, source.conditioning)
  tasks.register(source.cache_dir, [source.stage], rates=source.cache_rates)
  return cache_lib.task_name(source.stage)


def feature_lengths(source):
  """TASK_FEATURE_LENGTHS of a leaf's SOURCE."""
  return crops.feature_lengths(source.stage)


def held_out(source):
  """The split that a leaf's SOURCE evaluates on, as under our own loop."""
  return source.held_out


def write_predictions(path, inferences, task_ds, mode, vocabulary=None):
  """T5X's lines of predictions, each with the crop that it is of.

  Arguments are those of `t5x.infer.write_inferences_to_file`.
  """
  def describe(example):
    # Tracks with fewer captions than others of the batch were padded.
    captions = example['captions']
    return dict(example, captions=tf.boolean_mask(captions, captions != ''))

  infer.write_inferences_to_file(
      path, inferences, task_ds.map(describe), mode, vocabulary,
      input_fields_to_include=['id', 'crop_start', 'captions', 'inputs'])


def _restore(self, step=None, path=None, *args, **kwargs):
  """T5X's restore; a checkpoint to begin from may hold no place in the data."""
  place = self._should_write_dataset_ckpt
  if path and not (pathlib.Path(path) / 'dataset').is_dir() and (
      pathlib.Path(path).parent != pathlib.Path(self.directory)):
    self._should_write_dataset_ckpt = False
  try:
    return _t5x_restore(self, step, path, *args, **kwargs)
  finally:
    self._should_write_dataset_ckpt = place


# T5X asks every checkpoint for the place in its order of the data, and has no
# place of its own for another rule.
_t5x_restore = checkpoints.OrbaxCheckpointManagerInterface.restore
checkpoints.OrbaxCheckpointManagerInterface.restore = _restore


def _factored_axes(state, params_axes):
  """Adafactor's sums of rows and columns are small: replicated."""
  del params_axes
  return jax.tree.map(lambda _: None, state)


def _spike_axes(state, params_axes):
  """The optimiser within as ever; what losses were usual are scalars."""
  inner = optimizers.OptaxStatePartitionRules.derive_optax_logical_axes(
      state.inner, params_axes)
  return spikes.SpikeState(inner, None, None, None, None)


# T5X knows no rule for these (it has an Adafactor of its own). It hands no loss
# to an optimiser, so that under it the norm of the gradients decides what a spike
# is (training/spikes.py).
# pylint: disable-next=protected-access
_AXES = optimizers.OptaxStatePartitionRules._RULES
_AXES.setdefault(optax.FactoredState, _factored_axes)
_AXES.setdefault(spikes.SpikeState, _spike_axes)
